//! What the outside world asks for, in the order it came.

use tokio::signal::unix::{self, SignalKind};
use tokio::sync::mpsc;

/// What the outside world asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM or SIGINT.
    Terminate,
    /// SIGHUP.
    Reload,
}

/// Signals in the order they came. Passed in rather than caught inside, so that a test can send them.
#[derive(Debug)]
pub struct Signals {
    source: Source,
}

#[derive(Debug)]
enum Source {
    Manual(mpsc::Receiver<Signal>),
    Process {
        terminate: unix::Signal,
        interrupt: unix::Signal,
        hangup: unix::Signal,
    },
}

impl Signals {
    /// Signals that a test, or an embedding program, sends.
    #[must_use]
    pub fn manual() -> (mpsc::Sender<Signal>, Self) {
        let (sender, receiver) = mpsc::channel(8);
        let source = Source::Manual(receiver);
        (sender, Self { source })
    }

    /// The process's own signals.
    ///
    /// # Errors
    /// When the runtime cannot install a handler.
    pub fn of_process() -> std::io::Result<Self> {
        let source = Source::Process {
            terminate: unix::signal(SignalKind::terminate())?,
            interrupt: unix::signal(SignalKind::interrupt())?,
            hangup: unix::signal(SignalKind::hangup())?,
        };
        Ok(Self { source })
    }

    /// The next signal. Never resolves once the sender is gone.
    pub async fn next(&mut self) -> Signal {
        match &mut self.source {
            Source::Manual(receiver) => match receiver.recv().await {
                Some(signal) => signal,
                None => std::future::pending().await,
            },
            Source::Process {
                terminate,
                interrupt,
                hangup,
            } => tokio::select! {
                _ = terminate.recv() => Signal::Terminate,
                _ = interrupt.recv() => Signal::Terminate,
                _ = hangup.recv() => Signal::Reload,
            },
        }
    }

    /// Resolves at the next [`Signal::Terminate`]; a reload asked for while ending has no meaning.
    pub async fn terminate(&mut self) {
        while self.next().await != Signal::Terminate {}
    }
}
