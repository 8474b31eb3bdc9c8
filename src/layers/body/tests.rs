use super::*;
use crate::layers::deadline::Deadline;
use crate::lifecycle::Lifecycle;
use crate::telemetry::metrics::Gauge;
use bytes::Bytes;
use futures_util::stream;
use tokio::time::Instant;

fn rules(intake: Intake, limit: SizeLimit, budget: u64) -> Rules {
    Rules {
        limit,
        max_payload: MaxPayload::new(|| 100),
        intake,
        budget: Budget::new(budget, Gauge::default()),
        drain: Lifecycle::new().drain(),
    }
}

const WHOLE: Intake = Intake::Whole(Duration::from_secs(30));

fn chunks(chunks: usize, size: usize) -> Body {
    let chunk = Bytes::from(vec![0_u8; size]);
    Body::from_stream(stream::iter(
        (0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone())),
    ))
}

fn request(body: Body) -> Request {
    with_deadline(body, Duration::from_secs(60))
}

async fn admit(rules: &Rules, mut request: Request) -> Result<(Request, Taken<'_>), Problem> {
    let taken = rules.take_in(&mut request).await?;
    Ok((request, taken))
}

fn with_deadline(body: Body, timeout: Duration) -> Request {
    let mut request = Request::from(http::Request::new(body));
    request.context.deadline = Some(Deadline::after(timeout));
    request
}

async fn taken(rules: &Rules, body: Body) -> Result<usize, Code> {
    let (request, _taken) = admit(rules, request(body))
        .await
        .map_err(|problem| problem.code())?;
    let bytes = collect(request.http.into_body()).await;
    bytes
        .map(|bytes| request.context.body.len() + bytes.len())
        .map_err(|problem| problem.code())
}

#[tokio::test]
async fn the_limit_holds_for_declared_and_for_streamed_lengths() {
    let rules = rules(WHOLE, SizeLimit::Auto, 1 << 20);
    assert_eq!(taken(&rules, Body::from(vec![0; 100])).await, Ok(100));
    assert_eq!(
        taken(&rules, Body::from(vec![0; 101])).await,
        Err(Code::PayloadTooLarge)
    );
    assert_eq!(taken(&rules, chunks(10, 10)).await, Ok(100));
    assert_eq!(
        taken(&rules, chunks(11, 10)).await,
        Err(Code::PayloadTooLarge)
    );
    assert_eq!(taken(&rules, Body::empty()).await, Ok(0));
}

#[tokio::test]
async fn the_budget_is_drawn_before_and_while_reading() {
    let rules = rules(WHOLE, SizeLimit::Unlimited, 100 << 10);
    let (held, room) = admit(&rules, request(Body::from(vec![0; 50 << 10])))
        .await
        .unwrap();
    drop(held);
    assert_eq!(
        taken(&rules, Body::from(vec![0; 51 << 10])).await,
        Err(Code::Overloaded)
    );
    drop(room);
    assert_eq!(
        taken(&rules, Body::from(vec![0; 51 << 10])).await,
        Ok(51 << 10)
    );
    assert_eq!(taken(&rules, chunks(60, 1 << 10)).await, Ok(60 << 10));
    assert_eq!(
        taken(&rules, chunks(101, 1 << 10)).await,
        Err(Code::Overloaded)
    );
}

#[tokio::test]
async fn a_streamed_body_draws_a_window_however_long_it_is() {
    let streamed = Intake::Streamed(Duration::from_secs(30));
    let rules = rules(streamed, SizeLimit::Unlimited, WINDOW);
    assert_eq!(taken(&rules, chunks(3000, 1 << 10)).await, Ok(3000 << 10));
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_ends_in_time_and_a_stream_only_when_it_is_silent() {
    let dribble = || {
        Body::from_stream(stream::unfold(0, |sent| async move {
            tokio::time::sleep(Duration::from_secs(10)).await;
            (sent < 8).then(|| (Ok::<_, std::io::Error>(Bytes::from_static(b"x")), sent + 1))
        }))
    };
    let whole = rules(WHOLE, SizeLimit::Auto, 1 << 20);
    let start = Instant::now();
    assert_eq!(taken(&whole, dribble()).await, Err(Code::BodyTimeout));
    assert_eq!(start.elapsed(), Duration::from_secs(30));
    let patient = Intake::Streamed(Duration::from_secs(11));
    let patient = rules(patient, SizeLimit::Unlimited, WINDOW);
    assert_eq!(taken(&patient, dribble()).await, Ok(8));
    let hasty = Intake::Streamed(Duration::from_secs(9));
    let hasty = rules(hasty, SizeLimit::Unlimited, WINDOW);
    assert_eq!(taken(&hasty, dribble()).await, Err(Code::BodyTimeout));
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_has_the_requests_deadline_and_is_late_from_half_of_it_on() {
    let after = |wait: u64| {
        Body::from_stream(stream::once(async move {
            tokio::time::sleep(Duration::from_secs(wait)).await;
            Ok::<_, std::io::Error>(Bytes::from_static(b"x"))
        }))
    };
    let whole = rules(WHOLE, SizeLimit::Auto, 1 << 20);
    for (wait, came, late) in [(1, true, false), (3, true, true), (5, false, false)] {
        let start = Instant::now();
        let request = with_deadline(after(wait), Duration::from_secs(4));
        let taken = admit(&whole, request).await;
        assert_eq!(taken.is_ok(), came, "{wait}");
        let is_late = taken.is_ok_and(|(_, taken)| taken.late);
        assert_eq!(is_late, late, "{wait}");
        assert_eq!(start.elapsed(), Duration::from_secs(wait.min(4)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_of_unknown_length_draws_little_until_more_has_come() {
    let rules = rules(WHOLE, SizeLimit::Unlimited, 1 << 30);
    let slow = |size: usize| {
        let first = stream::iter([Ok::<_, std::io::Error>(Bytes::from(vec![0_u8; size]))]);
        Body::from_stream(futures_util::StreamExt::chain(first, stream::pending()))
    };
    for (size, drawn) in [
        (1, FIRST),
        (4 << 10, FIRST),
        (5 << 10, 2 * FIRST),
        (300 << 10, 300 << 10),
    ] {
        let request = request(slow(size));
        let taking = admit(&rules, request);
        tokio::pin!(taking);
        assert!(futures_util::poll!(taking.as_mut()).is_pending());
        let before = rules.budget.draw((1 << 30) - drawn);
        assert!(before.is_some(), "{size}");
        assert!(rules.budget.draw(1).is_none(), "{size}");
    }
}
