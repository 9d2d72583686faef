//! The faults, one file each, and running them.

mod crash;
mod stop;
mod storm;

use std::future::Future;
use std::pin::Pin;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::field::Summary;
use crate::lab::Lab;
use crate::violation::Violation;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Summary>> + 'a>>;

/// A fault, and what it is.
struct Scenario {
    name: &'static str,
    about: &'static str,
    run: for<'a> fn(&'a Lab, u64) -> Running<'a>,
}

const ALL: &[Scenario] = &[
    Scenario {
        name: "kill",
        about: "kill -9 at random points under load, and a start after each (--times, 10)",
        run: |lab, seed| Box::pin(crash::kill(lab, seed, false)),
    },
    Scenario {
        name: "kill-static",
        about: "the same with static membership: the next worker takes over at once",
        run: |lab, seed| Box::pin(crash::kill(lab, seed, true)),
    },
    Scenario {
        name: "term",
        about: "SIGTERM under load, and a start after each (--times, 5)",
        run: |lab, seed| Box::pin(stop::under_load(lab, seed)),
    },
    Scenario {
        name: "term-twice",
        about: "SIGTERM, and another one while what is in flight is waited for",
        run: |lab, seed| Box::pin(stop::twice(lab, seed)),
    },
    Scenario {
        name: "storm",
        about: "members come and go every 2 s, 1 to 4 and back, cooperatively",
        run: |lab, seed| Box::pin(storm::storm(lab, seed, storm::Protocol::Cooperative)),
    },
    Scenario {
        name: "storm-range",
        about: "the same with eager rebalances",
        run: |lab, seed| Box::pin(storm::storm(lab, seed, storm::Protocol::Range)),
    },
    Scenario {
        name: "storm-static",
        about: "the same with static members",
        run: |lab, seed| Box::pin(storm::storm(lab, seed, storm::Protocol::Static)),
    },
];

pub(crate) fn list() {
    for scenario in ALL {
        println!("{:18} {}", scenario.name, scenario.about);
    }
}

/// Runs one scenario, or all; whether none found anything wrong.
pub(crate) async fn run(lab: &mut Lab, name: &str, seed: u64) -> Result<bool> {
    let chosen: Vec<_> =
        ALL.iter().filter(|scenario| name == "all" || scenario.name == name).collect();
    ensure!(!chosen.is_empty(), "there is no scenario {name:?}; `list` names them");
    println!("seed {seed}, delivery {}", lab.delivery.name());
    let mut good = true;
    for scenario in chosen {
        good &= run_one(lab, scenario, seed).await;
    }
    Ok(good)
}

async fn run_one(lab: &Lab, scenario: &Scenario, seed: u64) -> bool {
    let start = Instant::now();
    let outcome = (scenario.run)(lab, seed).await;
    let took = start.elapsed().as_secs_f64();
    match outcome {
        Ok(summary) => {
            println!("ok   {:18} {took:5.1} s: {summary}", scenario.name);
            true
        }
        Err(error) => {
            let what = if error.is::<Violation>() { "VIOLATION" } else { "could not be run" };
            println!("FAIL {:18} {took:5.1} s: {what}: {error:#}", scenario.name);
            println!("     logs and pipelines: {}", lab.logs.display());
            println!(
                "     again: forebay-faults run --seed {seed} --scenario {} --delivery {}",
                scenario.name,
                lab.delivery.name()
            );
            false
        }
    }
}
