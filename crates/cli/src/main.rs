//! `forebay`: batched model inference on Kafka, from one TOML file.

mod bench;
mod check;
mod comparison;
mod demo;
mod devices;
mod exit;
mod graph;
mod health;
mod load;
mod look;
mod metrics;
mod print;
mod profile;
mod progress;
mod replay;
mod run;
mod running;
mod sentiment;
mod signals;
mod supervisor;
mod top;

use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;

/// Batched model inference on Kafka: requests in, mini-batches through a model, keyed replies out.
#[derive(Debug, Parser)]
#[command(name = "forebay", version, max_term_width = 100, after_help = exit::HELP)]
struct Cli {
    /// The format of log lines on standard error
    #[arg(
        long,
        global = true,
        value_enum,
        env = "FOREBAY_LOG_FORMAT",
        default_value = "text",
        hide_env = true
    )]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line, for log collectors
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Graph(graph::Args),
    Replay(replay::Args),
    Demo(demo::Args),
    Bench(bench::Args),
    Devices(devices::Args),
    Top(top::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap also returns `--help` and `--version` as an error, which does not use standard
            // error. Printing fails if the terminal is closed.
            error.print().ok();
            return if error.use_stderr() { exit::USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    quiet_graphics_drivers();
    let default_level = match cli.command {
        Command::Demo(_) | Command::Bench(_) | Command::Devices(_) => "warn",
        _ => "warn,forebay=info",
    };
    let filter =
        EnvFilter::try_from_env("FOREBAY_LOG").unwrap_or_else(|_| EnvFilter::new(default_level));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(progress::log_writer)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    match cli.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).with_span_list(false).init(),
    }

    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => Ok(check::check(&args, cli.log_format)),
        Command::Graph(args) => graph::graph(&args),
        Command::Replay(args) => replay::replay(&args),
        Command::Demo(args) => demo::demo(&args),
        Command::Bench(args) => bench::bench(&args),
        Command::Devices(args) => devices::devices(&args),
        Command::Top(args) => top::top(&args),
    };
    result.unwrap_or_else(|error| exit::report(&error, cli.log_format).into())
}

/// Keeps Mesa, which has the Vulkan drivers, from searching for a desktop session. On a server
/// there is none, and Mesa would print a warning.
fn quiet_graphics_drivers() {
    if std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        #[expect(
            unsafe_code,
            reason = "there is no safe way to set a variable that a C library reads"
        )]
        // SAFETY: `main` has started no thread yet, so nothing reads the environment meanwhile.
        unsafe {
            std::env::set_var("NODEVICE_SELECT", "1");
        }
    }
}
