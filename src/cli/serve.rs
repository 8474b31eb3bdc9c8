//! `natsway serve`: configuration, logs, threads, then the application until it has ended.

use std::time::Duration;

use tokio::runtime::Runtime;

use super::End;
use crate::{
    app::{self, App},
    config::{Config, Sources},
    lifecycle::{Ending, Signals},
    telemetry::logs,
    workers,
};

/// How long threads may take to end when all is done.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves until a signal says otherwise.
pub(super) fn serve(sources: Sources) -> End {
    let config = match sources.load() {
        Ok(config) => config,
        Err(errors) => return errors.into(),
    };
    logs::init(&config.telemetry.log);
    let outcome = runtime().and_then(|runtime| {
        let outcome = runtime.block_on(live(config, sources));
        // A lookup of a name that nobody needs any more cannot be cut off, only left behind.
        runtime.shutdown_timeout(END_TIMEOUT);
        outcome
    });
    match outcome {
        Ok(Ending::Drained | Ending::GraceExpired) => End::Fine,
        Ok(Ending::Forced) => End::Failed(Ending::Forced.as_str().to_owned()),
        Err(why) => End::Failed(why),
    }
}

async fn live(config: Config, sources: Sources) -> Result<Ending, String> {
    // Before anything binds: a signal that comes while natsway starts must not be lost.
    let signals =
        Signals::of_process().map_err(|error| format!("cannot wait for signals: {error}"))?;
    let app = App::build(config)
        .await
        .map_err(|error| error.to_string())?;
    Ok(Box::pin(app.run(signals, Some(sources))).await)
}

/// Prints the document natsway would serve. Nothing binds or connects.
pub(super) fn print_openapi(config: Config) -> End {
    let document = runtime().and_then(|runtime| {
        let _inside = runtime.enter();
        app::openapi(config).map_err(|error| error.to_string())
    });
    match document {
        Ok(document) => super::end_of_print(&format!("{document:#}\n")),
        Err(why) => End::Failed(why),
    }
}

/// The first worker. The others start with the application.
fn runtime() -> Result<Runtime, String> {
    workers::runtime().map_err(|error| format!("cannot start threads: {error}"))
}
