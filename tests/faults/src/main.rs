//! Tests the `forebay` binary on a real Kafka while faults happen, and checks the outcome of every
//! request. A random generator draws the faults, so that its seed repeats a run. Requests and
//! answers go through Apache's Java client, which shares no code with Forebay.

mod checks;
mod client;
mod cluster;
mod ledger;
mod load;
mod pipeline;
mod proc;
mod proxy;
mod request_format;
mod run;
mod scenario;
mod soak;
mod suite;
mod tamper;
mod violation;
mod worker;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

use self::pipeline::Delivery;
use self::suite::Suite;
use self::violation::Tamper;

/// Injects faults around a running pipeline and checks the outcome of every request
#[derive(Debug, Parser)]
#[command(name = "forebay-faults", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    setup: Setup,
    #[command(subcommand)]
    command: Command,
}

/// Options of every command.
#[derive(Debug, clap::Args)]
struct Setup {
    /// The binary to test
    #[arg(long, env = "FOREBAY", default_value_os_t = default_binary(), global = true)]
    forebay: PathBuf,
    /// First port of the Kafka brokers, which use six ports from this one on. The proxies use six
    /// ports from PORT + 18 on
    #[arg(long, default_value_t = 29092, global = true)]
    port: u16,
    /// Folder of the brokers' data. If a cluster already runs there, it is used, and goes on
    /// running afterwards
    #[arg(long, global = true)]
    kafka_dir: Option<PathBuf>,
    /// Folder for logs and pipeline files of failed scenarios
    #[arg(long, global = true)]
    logs: Option<PathBuf>,
    /// Falsifies the data that the suite reads, to show that the check for it fails
    #[arg(long, global = true)]
    tamper: Option<Tamper>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Lists the scenarios
    List,
    /// Runs one scenario, or all of them
    Run {
        /// Seed of an earlier run, to draw the same faults, keys and malformed requests
        #[arg(long)]
        seed: Option<u64>,
        /// Name of a scenario as `list` prints it, or `all`
        #[arg(long, default_value = "all")]
        scenario: String,
        /// Delivery guarantee of the pipeline
        #[arg(long, default_value = "at_least_once")]
        delivery: Delivery,
        /// How often a scenario repeats its fault. Scenarios that do not repeat it ignore this
        #[arg(long)]
        times: Option<u32>,
    },
    /// Runs under a steady load for a long time, with a random fault every 20 to 60 s
    Soak {
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value = "at_least_once")]
        delivery: Delivery,
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// Runs the short scenarios with each delivery guarantee, as CI does
    Short {
        #[arg(long)]
        seed: Option<u64>,
        /// Runs with this delivery guarantee only
        #[arg(long)]
        delivery: Option<Delivery>,
    },
}

/// Returns the path at which cargo puts the debug build of `forebay`.
fn default_binary() -> PathBuf {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| "target".into(), PathBuf::from);
    target.join("debug/forebay")
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let work = async {
        match cli.command {
            Command::List => {
                scenario::list();
                Ok(true)
            }
            Command::Run { seed, scenario, delivery, times } => {
                let suite = Suite::open(&cli.setup, delivery, times).await?;
                scenario::run(&suite, &scenario, seed.unwrap_or_else(new_seed)).await
            }
            Command::Soak { seed, delivery, minutes } => {
                let suite = Suite::open(&cli.setup, delivery, None).await?;
                let length = Duration::from_secs(60 * minutes);
                Ok(scenario::soak(&suite, seed.unwrap_or_else(new_seed), length).await)
            }
            Command::Short { seed, delivery } => {
                let deliveries = delivery
                    .map_or(vec![Delivery::AtLeastOnce, Delivery::ExactlyOnce], |one| vec![one]);
                let mut suite = Suite::open(&cli.setup, deliveries[0], None).await?;
                short(&mut suite, seed.unwrap_or_else(new_seed), deliveries).await
            }
        }
    };
    // Ctrl-C drops `work`, and with it the suite, which ends its workers, client and brokers.
    let outcome = tokio::select! {
        outcome = work => outcome,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

async fn short(suite: &mut Suite, seed: u64, deliveries: Vec<Delivery>) -> anyhow::Result<bool> {
    let mut good = true;
    for delivery in deliveries {
        suite.set_delivery(delivery).await?;
        good &= scenario::short(suite, seed).await;
    }
    Ok(good)
}

fn new_seed() -> u64 {
    rand::random::<u32>().into()
}
