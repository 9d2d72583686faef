//! `forebay-faults`: runs the `forebay` binary on a real Kafka, breaks things around it by a seeded plan, and checks
//! with an independent client what has become of every request.

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

/// Breaks things around a running pipeline and checks what has become of every request.
#[derive(Debug, Parser)]
#[command(name = "forebay-faults", max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    setup: Setup,
    #[command(subcommand)]
    command: Command,
}

/// What all commands need.
#[derive(Debug, clap::Args)]
struct Setup {
    /// The binary to test
    #[arg(long, env = "FOREBAY", default_value_os_t = default_binary(), global = true)]
    forebay: PathBuf,
    /// The first of the ports of Kafka's brokers; six are used, and six from 18 further for the proxies
    #[arg(long, default_value_t = 29092, global = true)]
    port: u16,
    /// The folder of the brokers; a cluster that runs there already is used and left running
    #[arg(long, global = true)]
    kafka_dir: Option<PathBuf>,
    /// Where logs are kept when something is wrong
    #[arg(long, global = true)]
    logs: Option<PathBuf>,
    /// Falsifies what the suite reads, to see a check fail
    #[arg(long, global = true)]
    tamper: Option<Tamper>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says which scenarios there are
    List,
    /// Runs one scenario, or all
    Run {
        /// Replays what was random in an earlier run
        #[arg(long)]
        seed: Option<u64>,
        /// One of `list`, or `all`
        #[arg(long, default_value = "all")]
        scenario: String,
        /// What the pipeline promises
        #[arg(long, default_value = "at_least_once")]
        delivery: Delivery,
        /// How often a scenario that repeats its fault does so
        #[arg(long)]
        times: Option<u32>,
    },
    /// Runs for long under a steady load, with a fault at random every 20 to 60 s
    Soak {
        #[arg(long)]
        seed: Option<u64>,
        #[arg(long, default_value = "at_least_once")]
        delivery: Delivery,
        #[arg(long, default_value_t = 60)]
        minutes: u64,
    },
    /// What CI runs: the scenarios that are short, each way of delivery
    Short {
        #[arg(long)]
        seed: Option<u64>,
        /// One way of delivery only
        #[arg(long)]
        delivery: Option<Delivery>,
    },
}

/// Where cargo puts it.
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
    // Dropped on the way out, workers and clients end with the suite.
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
        suite.promise(delivery).await?;
        good &= scenario::short(suite, seed).await;
    }
    Ok(good)
}

fn new_seed() -> u64 {
    rand::random::<u32>().into()
}
