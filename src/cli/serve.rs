//! `natsway serve`: configuration, logs, threads, then the application until it has ended.

use tokio::runtime::{Builder, Runtime};

use super::End;
use crate::{
    app::{self, App},
    config::{Config, Sources, Workers},
    lifecycle::{Ending, Signals},
    telemetry::logs,
};

/// Serves until a signal says otherwise.
pub(super) fn serve(sources: Sources) -> End {
    let config = match sources.load() {
        Ok(config) => config,
        Err(errors) => return errors.into(),
    };
    logs::init(&config.telemetry.log);
    let outcome =
        runtime(config.runtime.workers).and_then(|runtime| runtime.block_on(live(config, sources)));
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
    let document = runtime(config.runtime.workers).and_then(|runtime| {
        let _inside = runtime.enter();
        app::openapi(config).map_err(|error| error.to_string())
    });
    match document {
        Ok(document) => super::end_of_print(&format!("{document:#}\n")),
        Err(why) => End::Failed(why),
    }
}

/// The threads everything runs on. The CPU limit of a container is what the operating system says is available.
fn runtime(workers: Workers) -> Result<Runtime, String> {
    let mut builder = Builder::new_multi_thread();
    if let Workers::Count(count) = workers {
        builder.worker_threads(count.get());
    }
    builder
        .enable_all()
        .thread_name("natsway")
        .build()
        .map_err(|error| format!("cannot start threads: {error}"))
}
