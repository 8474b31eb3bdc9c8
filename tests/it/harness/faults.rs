//! A TCP proxy that stands between natsway and NATS and breaks things on command.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    /// Passes them on.
    Fair,
    /// Holds both directions; the sockets stay open, new ones are taken and held as well.
    Stalled,
    /// Holds what NATS answers: everything arrives there, nothing comes back.
    RepliesStalled,
    /// Holds what natsway sends: NATS still speaks, but reads nothing any more.
    RequestsStalled,
    /// Resets every connection and every new one.
    Cut,
}

/// The weather, and how often connections were cut: a cut that is healed at once is still one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    weather: Weather,
    cuts: u64,
}

/// What went through, since the start.
#[derive(Default)]
pub(crate) struct Counters {
    accepted: AtomicU64,
    to_nats: AtomicU64,
    from_nats: AtomicU64,
}

impl Counters {
    /// Connections taken.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Bytes handed to NATS.
    pub(crate) fn bytes_sent(&self) -> u64 {
        self.to_nats.load(Ordering::SeqCst)
    }

    /// Bytes handed to natsway.
    pub(crate) fn bytes_received(&self) -> u64 {
        self.from_nats.load(Ordering::SeqCst)
    }
}

/// The proxy; ends when dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
    pub(crate) counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target` (`host:port`), in fair weather.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let (state, watched) = watch::channel(State {
            weather: Weather::Fair,
            cuts: 0,
        });
        let counters = Arc::new(Counters::default());
        let task = tokio::spawn(accept(
            listener,
            target.to_owned(),
            watched,
            Arc::clone(&counters),
        ));
        Self {
            address,
            state,
            counters,
            task,
        }
    }

    pub(crate) fn host_port(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// Resets all connections, and every new one until [`Self::heal`].
    pub(crate) fn cut(&self) {
        self.state.send_modify(|state| {
            state.weather = Weather::Cut;
            state.cuts += 1;
        });
    }

    /// Bytes stop in both directions, without a word.
    pub(crate) fn stall(&self) {
        self.becomes(Weather::Stalled);
    }

    /// Bytes from NATS stop; what natsway sends still arrives.
    pub(crate) fn stall_replies(&self) {
        self.becomes(Weather::RepliesStalled);
    }

    /// Bytes to NATS stop; what it sends still arrives.
    pub(crate) fn stall_requests(&self) {
        self.becomes(Weather::RequestsStalled);
    }

    /// Fair weather again: what was held flows, new connections are taken.
    pub(crate) fn heal(&self) {
        self.becomes(Weather::Fair);
    }

    fn becomes(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    target: String,
    state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    // Dropped with this task, and the connections with it.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        counters.accepted.fetch_add(1, Ordering::SeqCst);
        while connections.try_join_next().is_some() {}
        connections.spawn(carry(
            client,
            target.clone(),
            state.clone(),
            Arc::clone(&counters),
        ));
    }
}

async fn carry(
    client: TcpStream,
    target: String,
    mut state: watch::Receiver<State>,
    counters: Arc<Counters>,
) {
    // A dropped socket with linger 0 is a reset, as from a peer that died.
    let _ = socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO));
    let State { weather, cuts } = *state.borrow();
    if weather == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = socket2::SockRef::from(&server).set_linger(Some(Duration::ZERO));
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let up = Pump {
        state: state.clone(),
        cuts,
        stalled: |w| matches!(w, Weather::Stalled | Weather::RequestsStalled),
        count: &counters.to_nats,
    };
    let down = Pump {
        state: state.clone(),
        cuts,
        stalled: |w| matches!(w, Weather::Stalled | Weather::RepliesStalled),
        count: &counters.from_nats,
    };
    tokio::select! {
        () = up.run(from_client, to_server) => {}
        () = down.run(from_server, to_client) => {}
        _ = state.wait_for(|state| state.cuts > cuts) => {}
    }
}

struct Pump<'a> {
    state: watch::Receiver<State>,
    cuts: u64,
    stalled: fn(Weather) -> bool,
    count: &'a AtomicU64,
}

impl Pump<'_> {
    async fn run(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let Ok(read @ 1..) = from.read(&mut buffer).await else {
                return;
            };
            if !self.may_pass().await {
                return;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
            self.count.fetch_add(read as u64, Ordering::SeqCst);
        }
    }

    /// What was held when the connection was cut is lost with it.
    async fn may_pass(&mut self) -> bool {
        let (cuts, stalled) = (self.cuts, self.stalled);
        let state = self
            .state
            .wait_for(|state| state.cuts > cuts || !stalled(state.weather));
        state.await.is_ok_and(|state| state.cuts == cuts)
    }
}
