//! How long a feed lives, and how it keeps up with its stream.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::pump::Pump;
use super::{Feed, OPENING, Status};
use crate::api::jetstream::Api;
use crate::api::jetstream::replay::consumer::{Begin, Consumer, Refused};
use crate::api::jetstream::replay::lingering::Lingering;
use crate::api::jetstream::replay::look::Look;
use crate::api::notice::EndReason;
use crate::lifecycle::Drain;
use crate::nats::Call;
use crate::problem::Code;

/// How long a feed outlives its last reader.
const LINGER: Duration = Duration::from_secs(5);
/// Between two attempts to make a consumer; it grows.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Feeds the window until nobody reads.
pub(in crate::api::jetstream::replay) async fn run(
    feed: Arc<Feed>,
    api: Api,
    lingering: Arc<Lingering>,
    drain: Drain,
) {
    // The consumer is deleted before the process ends.
    let _work = drain.work();
    tokio::select! {
        biased;
        () = abandoned(&feed, &lingering, &drain) => {}
        () = keep_up(&feed, &api) => {}
    }
}

/// Returns when nobody has read for a while; nobody can join any more then.
async fn abandoned(feed: &Feed, lingering: &Arc<Lingering>, drain: &Drain) {
    loop {
        feed.left.notified().await;
        if feed.window.lock().readers() > 0 {
            continue;
        }
        let place = lingering.enter();
        tokio::select! {
            () = sleep(LINGER) => {}
            () = place.needed() => {}
            () = drain.draining() => {}
        }
        let mut window = feed.window.lock();
        if window.readers() == 0 {
            window.set_end(EndReason::Draining);
            return;
        }
    }
}

async fn keep_up(feed: &Feed, api: &Api) {
    let mut was_live = false;
    let mut pause = PAUSE;
    let mut carefully = false;
    loop {
        let call = Call {
            deadline: Instant::now() + OPENING,
            wait: true,
        };
        let after = feed.window.lock().high();
        let opened = Consumer::open(api, &feed.of, Begin::After(after), call).await;
        let problem = match opened {
            Ok((consumer, look)) => {
                (was_live, pause) = (true, PAUSE);
                begin(feed, after, &look);
                Pump::new(feed, api, consumer).run(carefully).await;
                carefully = feed.window.lock().high() == after;
                pass_over(feed, api).await;
                sleep(PAUSE).await;
                continue;
            }
            Err(Refused::Gone) => return feed.end(EndReason::StreamDeleted, Status::Gone),
            Err(Refused::Problem(problem)) => problem,
        };
        if problem.code() == Code::NatsPermissionDenied {
            return feed.end(EndReason::PermissionDenied, Status::Refused(problem));
        }
        let is_lasting = problem.http_status().is_client_error() || problem.http_status() == 501;
        if is_lasting && !was_live {
            return feed.end(EndReason::Draining, Status::Refused(problem));
        }
        if !was_live {
            feed.status.send_replace(Status::Opening(Some(problem)));
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

fn begin(feed: &Feed, after: u64, look: &Look) {
    if let Some(trimmed) = feed.of.trimmed(after, u64::MAX, look) {
        feed.change(|window| window.push(trimmed));
    }
    feed.status.send_replace(Status::Live);
}

/// Passes over the messages that break every consumer, if it was one of them.
async fn pass_over(feed: &Feed, api: &Api) {
    loop {
        let position = feed.window.lock().high();
        let Some(slot) = feed.of.unreadable(api, position).await else {
            return;
        };
        feed.change(|window| window.push(slot));
    }
}
