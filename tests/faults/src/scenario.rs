//! The faults, one file each, and running them.

mod broker;
mod crash;
mod dead;
mod drain;
mod log;
mod network;
mod poison;
mod same;
mod stop;
mod storm;
mod topic;
mod twins;
mod zombie;

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::time::Instant;

use crate::run::Summary;
use crate::soak;
use crate::suite::Suite;
use crate::violation::Violation;

type Running<'a> = Pin<Box<dyn Future<Output = Result<Summary>> + 'a>>;

/// A fault, and what it is.
struct Scenario {
    name: &'static str,
    about: &'static str,
    run: for<'a> fn(&'a Suite, u64) -> Running<'a>,
}

const ALL: &[Scenario] = &[
    Scenario {
        name: "kill",
        about: "kill -9 at random points under load, and a start after each (--times, 10)",
        run: |suite, seed| Box::pin(crash::kill(suite, seed, false)),
    },
    Scenario {
        name: "kill-static",
        about: "the same with static membership: the next worker takes over at once",
        run: |suite, seed| Box::pin(crash::kill(suite, seed, true)),
    },
    Scenario {
        name: "term",
        about: "SIGTERM under load, and a start after each (--times, 5)",
        run: |suite, seed| Box::pin(stop::under_load(suite, seed)),
    },
    Scenario {
        name: "term-twice",
        about: "SIGTERM, and another one while what is in flight is waited for",
        run: |suite, seed| Box::pin(stop::twice(suite, seed)),
    },
    Scenario {
        name: "storm",
        about: "members come and go every 2 s, 1 to 4 and back, cooperatively",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Cooperative)),
    },
    Scenario {
        name: "storm-range",
        about: "the same with eager rebalances",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Range)),
    },
    Scenario {
        name: "storm-static",
        about: "the same with static members",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Static)),
    },
    Scenario {
        name: "zombie",
        about: "a member stands still for two sessions (SIGSTOP) while another takes over, and goes on",
        run: |suite, seed| Box::pin(zombie::zombie(suite, seed, true)),
    },
    Scenario {
        name: "zombie-alone",
        about: "the same with nobody to take over",
        run: |suite, seed| Box::pin(zombie::zombie(suite, seed, false)),
    },
    Scenario {
        name: "slow-drain",
        about: "partitions move while what is in flight takes longer than a drain may",
        run: |suite, seed| Box::pin(drain::too_slow(suite, seed)),
    },
    Scenario {
        name: "broker-stop",
        about: "one broker after another is stopped and started",
        run: |suite, seed| {
            Box::pin(broker::one_by_one(suite, seed, "broker-stop", broker::Fault::Stop))
        },
    },
    Scenario {
        name: "broker-kill",
        about: "one broker after another is killed and started",
        run: |suite, seed| {
            Box::pin(broker::one_by_one(suite, seed, "broker-kill", broker::Fault::Kill))
        },
    },
    Scenario {
        name: "broker-pause",
        about: "one broker after another stands still for a while",
        run: |suite, seed| {
            Box::pin(broker::one_by_one(suite, seed, "broker-pause", broker::Fault::Pause))
        },
    },
    Scenario {
        name: "brokers-down",
        about: "all brokers are killed, and started 10 to 20 s later",
        run: |suite, seed| Box::pin(broker::all(suite, seed)),
    },
    Scenario {
        name: "latency",
        about: "200 ms each way between workers and brokers",
        run: |suite, seed| Box::pin(network::latency(suite, seed)),
    },
    Scenario {
        name: "resets",
        about: "every connection to a broker is reset, again and again",
        run: |suite, seed| Box::pin(network::resets(suite, seed)),
    },
    Scenario {
        name: "stalls",
        about: "nothing passes for a while, or only one way",
        run: |suite, seed| Box::pin(network::stalls(suite, seed)),
    },
    Scenario {
        name: "slow-sink",
        about: "replies take 1.2 s to be confirmed while requests come fast",
        run: |suite, seed| Box::pin(network::slow_sink(suite, seed)),
    },
    Scenario {
        name: "poison",
        about: "malformed requests at the head, in the middle, every tenth, all",
        run: |suite, seed| Box::pin(poison::pills(suite, seed)),
    },
    Scenario {
        name: "too-large",
        about: "replies that no broker takes",
        run: |suite, seed| Box::pin(poison::too_large(suite, seed, true)),
    },
    Scenario {
        name: "too-large-refused",
        about: "the same, sent all the same and refused by the brokers",
        run: |suite, seed| Box::pin(poison::too_large(suite, seed, false)),
    },
    Scenario {
        name: "dead-letters",
        about: "malformed requests go to a topic of their own, as they came",
        run: |suite, seed| Box::pin(dead::letters(suite, seed)),
    },
    Scenario {
        name: "dead-letters-missing",
        about: "that topic is not there at the start",
        run: |suite, seed| Box::pin(dead::missing(suite, seed)),
    },
    Scenario {
        name: "dead-letters-gone",
        about: "that topic is deleted under way: nothing is dropped in silence",
        run: |suite, seed| Box::pin(dead::gone(suite, seed)),
    },
    Scenario {
        name: "key-order",
        about: "order = \"key\", with a fifth of the requests malformed and workers killed",
        run: |suite, seed| Box::pin(crash::key_order(suite, seed)),
    },
    Scenario {
        name: "aborted",
        about: "requests in transactions that are aborted",
        run: |suite, seed| Box::pin(log::aborted(suite, seed)),
    },
    Scenario {
        name: "truncated",
        about: "requests are deleted before they were read",
        run: |suite, seed| Box::pin(log::truncated(suite, seed)),
    },
    Scenario {
        name: "more-partitions",
        about: "the topic of requests gets more partitions",
        run: |suite, seed| Box::pin(topic::more_partitions(suite, seed)),
    },
    Scenario {
        name: "recreated",
        about: "the topic of requests is deleted and made again",
        run: |suite, seed| Box::pin(topic::recreated(suite, seed)),
    },
    Scenario {
        name: "twins",
        about: "two workers with the same group.instance.id",
        run: |suite, seed| Box::pin(twins::twins(suite, seed)),
    },
    Scenario {
        name: "same",
        about: "windows, threads and rebalances that differ make no difference",
        run: |suite, seed| Box::pin(same::same(suite, seed)),
    },
];

pub(crate) fn list() {
    for scenario in ALL {
        println!("{:18} {}", scenario.name, scenario.about);
    }
}

/// Those that CI runs, and how often they repeat their fault.
const SHORT: [(&str, u32); 11] = [
    ("kill", 3),
    ("kill-static", 8),
    ("term", 3),
    ("term-twice", 1),
    ("storm", 1),
    ("zombie", 1),
    ("broker-kill", 1),
    ("resets", 3),
    ("poison", 1),
    ("too-large", 1),
    ("aborted", 3),
];

/// Runs one scenario, or all; whether none found anything wrong.
pub(crate) async fn run(suite: &Suite, name: &str, seed: u64) -> Result<bool> {
    let chosen: Vec<_> =
        ALL.iter().filter(|scenario| name == "all" || scenario.name == name).collect();
    ensure!(!chosen.is_empty(), "there is no scenario {name:?}; `list` names them");
    println!("seed {seed}, delivery {}", suite.delivery.name());
    let mut good = true;
    for scenario in chosen {
        good &= told(suite, scenario.name, seed, (scenario.run)(suite, seed)).await;
    }
    Ok(good)
}

/// Runs what CI has time for.
pub(crate) async fn short(suite: &mut Suite, seed: u64) -> bool {
    println!("seed {seed}, delivery {}", suite.delivery.name());
    let mut good = true;
    for (name, times) in SHORT {
        suite.times = Some(times);
        for scenario in ALL.iter().filter(|scenario| scenario.name == name) {
            good &= told(suite, name, seed, (scenario.run)(suite, seed)).await;
        }
    }
    good
}

/// Runs for so long.
pub(crate) async fn soak(suite: &Suite, seed: u64, length: Duration) -> bool {
    println!("seed {seed}, delivery {}", suite.delivery.name());
    told(suite, "soak", seed, soak::soak(suite, seed, length)).await
}

/// Waits for a scenario's outcome, and prints it.
async fn told(
    suite: &Suite,
    name: &str,
    seed: u64,
    run: impl Future<Output = Result<Summary>>,
) -> bool {
    let (start, files) = (Instant::now(), suite.files());
    let outcome = run.await;
    let took = start.elapsed().as_secs_f64();
    if outcome.is_err()
        && let Err(error) = suite.cluster.heal().await
    {
        println!("     brokers: {error:#}");
    }
    match outcome {
        Ok(summary) => {
            suite.keep(&files);
            println!("ok   {name:18} {took:5.1} s: {summary}");
            true
        }
        Err(error) => {
            let what = if error.is::<Violation>() { "VIOLATION" } else { "could not be run" };
            println!("FAIL {name:18} {took:5.1} s: {what}: {error:#}");
            println!("     logs and pipelines: {}", suite.logs.display());
            let how = if name == "soak" { "soak" } else { "run --scenario" };
            let how = how.replace("--scenario", &format!("--scenario {name}"));
            println!(
                "     again: forebay-faults {how} --seed {seed} --delivery {}",
                suite.delivery.name()
            );
            false
        }
    }
}
