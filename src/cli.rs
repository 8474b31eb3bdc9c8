//! The command line.
//!
//! Exit codes: 0 all well; 1 something failed while running, or a probe says no; 2 the command line or
//! the configuration is wrong, and nothing was started.

use std::{
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::config::{self, Config, ConfigErrors, Sources};

mod health;
mod serve;
mod yaml;

/// Plain HTTP in front of NATS: publish, request, subscribe and JetStream without a client library.
#[derive(Debug, Parser)]
#[command(name = "natsway", version)]
struct Cli {
    #[command(flatten)]
    options: Options,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Args)]
struct Options {
    /// Configuration file, YAML, TOML or JSON by its extension [environment: NATSWAY_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Address for clients, host:port or unix:/path, in place of `listen.data`; may be repeated
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// NATS server, in place of `nats.servers`; may be repeated [environment: NATS_URL]
    #[arg(long, global = true, value_name = "URL")]
    nats: Vec<String>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve, until SIGTERM or SIGINT; what `natsway` alone does, too
    Serve,
    /// Check the configuration and say everything that is wrong with it
    Check,
    /// Print the effective configuration, with secrets redacted
    Config(ConfigArgs),
    /// Print the OpenAPI document of the endpoints and routes that are configured
    Openapi,
    /// Ask a running natsway whether it is alive, for probes of containers
    Health(health::HealthArgs),
}

#[derive(Debug, Args)]
struct ConfigArgs {
    /// Print it as JSON instead of YAML
    #[arg(long)]
    json: bool,
    /// Print the JSON Schema of a configuration file instead
    #[arg(long, conflicts_with_all = ["json", "docs"])]
    schema: bool,
    /// Print the reference of every key, in Markdown, instead
    #[arg(long, hide = true, conflicts_with = "json")]
    docs: bool,
}

/// How natsway ends.
enum End {
    Fine,
    /// Something failed while running.
    Failed(String),
    /// Nothing was started.
    Misused(String),
}

impl From<ConfigErrors> for End {
    fn from(errors: ConfigErrors) -> Self {
        Self::Misused(errors.to_string())
    }
}

/// Does what the command line says.
pub fn run(
    arguments: impl IntoIterator<Item = OsString>,
    environment: Vec<(String, String)>,
) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way, too, and clap knows which stream they belong on.
            let _ = error.print();
            return if error.use_stderr() {
                ExitCode::from(2)
            } else {
                ExitCode::SUCCESS
            };
        }
    };
    let Options {
        config,
        listen,
        nats,
    } = cli.options;
    let sources = Sources {
        file: config,
        environment,
        listen,
        nats,
    };
    let (code, message) = match dispatch(&cli.command.unwrap_or(Command::Serve), sources) {
        End::Fine => return ExitCode::SUCCESS,
        End::Failed(message) => (1, message),
        End::Misused(message) => (2, message),
    };
    for line in message.lines() {
        let _ = writeln!(io::stderr(), "natsway: {line}");
    }
    ExitCode::from(code)
}

fn dispatch(command: &Command, sources: Sources) -> End {
    let result = match command {
        Command::Serve => return serve::serve(sources),
        Command::Check => sources
            .load()
            .map(|_| end_of_print("the configuration is good\n")),
        Command::Config(what) => config_text(what, &sources).map(|text| end_of_print(&text)),
        Command::Openapi => sources.load().map(serve::print_openapi),
        Command::Health(what) => return health::ask(what, &sources),
    };
    result.unwrap_or_else(End::from)
}

fn config_text(what: &ConfigArgs, sources: &Sources) -> Result<String, ConfigErrors> {
    if what.schema {
        return Ok(format!("{:#}\n", config::json_schema()));
    }
    if what.docs {
        return Ok(config::reference());
    }
    let tree = tree(&sources.load()?);
    Ok(if what.json {
        format!("{tree:#}\n")
    } else {
        yaml::write(&tree)
    })
}

fn tree(config: &Config) -> serde_json::Value {
    serde_json::to_value(config).expect("a configuration has only text keys")
}

/// Prints; a reader that has gone away (`| head`) is no failure.
fn end_of_print(text: &str) -> End {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => End::Fine,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => End::Fine,
        Err(error) => End::Failed(format!("cannot write: {error}")),
    }
}
