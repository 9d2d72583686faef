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

use crate::field::Summary;
use crate::lab::Lab;
use crate::soak;
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
    Scenario {
        name: "zombie",
        about: "a member stands still for two sessions (SIGSTOP) while another takes over, and goes on",
        run: |lab, seed| Box::pin(zombie::zombie(lab, seed, true)),
    },
    Scenario {
        name: "zombie-alone",
        about: "the same with nobody to take over",
        run: |lab, seed| Box::pin(zombie::zombie(lab, seed, false)),
    },
    Scenario {
        name: "slow-drain",
        about: "partitions move while what is in flight takes longer than a drain may",
        run: |lab, seed| Box::pin(drain::too_slow(lab, seed)),
    },
    Scenario {
        name: "broker-stop",
        about: "one broker after another is stopped and started",
        run: |lab, seed| {
            Box::pin(broker::one_by_one(lab, seed, "broker-stop", broker::Fault::Stop))
        },
    },
    Scenario {
        name: "broker-kill",
        about: "one broker after another is killed and started",
        run: |lab, seed| {
            Box::pin(broker::one_by_one(lab, seed, "broker-kill", broker::Fault::Kill))
        },
    },
    Scenario {
        name: "broker-pause",
        about: "one broker after another stands still for a while",
        run: |lab, seed| {
            Box::pin(broker::one_by_one(lab, seed, "broker-pause", broker::Fault::Pause))
        },
    },
    Scenario {
        name: "brokers-down",
        about: "all brokers are killed, and started 10 to 20 s later",
        run: |lab, seed| Box::pin(broker::all(lab, seed)),
    },
    Scenario {
        name: "latency",
        about: "200 ms each way between workers and brokers",
        run: |lab, seed| Box::pin(network::latency(lab, seed)),
    },
    Scenario {
        name: "resets",
        about: "every connection to a broker is reset, again and again",
        run: |lab, seed| Box::pin(network::resets(lab, seed)),
    },
    Scenario {
        name: "stalls",
        about: "nothing passes for a while, or only one way",
        run: |lab, seed| Box::pin(network::stalls(lab, seed)),
    },
    Scenario {
        name: "slow-sink",
        about: "replies take 1.2 s to be confirmed while requests come fast",
        run: |lab, seed| Box::pin(network::slow_sink(lab, seed)),
    },
    Scenario {
        name: "poison",
        about: "malformed requests at the head, in the middle, every tenth, all",
        run: |lab, seed| Box::pin(poison::pills(lab, seed)),
    },
    Scenario {
        name: "too-large",
        about: "replies that no broker takes",
        run: |lab, seed| Box::pin(poison::too_large(lab, seed, true)),
    },
    Scenario {
        name: "too-large-refused",
        about: "the same, sent all the same and refused by the brokers",
        run: |lab, seed| Box::pin(poison::too_large(lab, seed, false)),
    },
    Scenario {
        name: "dead-letters",
        about: "malformed requests go to a topic of their own, as they came",
        run: |lab, seed| Box::pin(dead::letters(lab, seed)),
    },
    Scenario {
        name: "dead-letters-missing",
        about: "that topic is not there at the start",
        run: |lab, seed| Box::pin(dead::missing(lab, seed)),
    },
    Scenario {
        name: "dead-letters-gone",
        about: "that topic is deleted under way: nothing is dropped in silence",
        run: |lab, seed| Box::pin(dead::gone(lab, seed)),
    },
    Scenario {
        name: "key-order",
        about: "order = \"key\", with a fifth of the requests malformed and workers killed",
        run: |lab, seed| Box::pin(crash::key_order(lab, seed)),
    },
    Scenario {
        name: "aborted",
        about: "requests in transactions that are aborted",
        run: |lab, seed| Box::pin(log::aborted(lab, seed)),
    },
    Scenario {
        name: "truncated",
        about: "requests are deleted before they were read",
        run: |lab, seed| Box::pin(log::truncated(lab, seed)),
    },
    Scenario {
        name: "more-partitions",
        about: "the topic of requests gets more partitions",
        run: |lab, seed| Box::pin(topic::more_partitions(lab, seed)),
    },
    Scenario {
        name: "recreated",
        about: "the topic of requests is deleted and made again",
        run: |lab, seed| Box::pin(topic::recreated(lab, seed)),
    },
    Scenario {
        name: "twins",
        about: "two workers with the same group.instance.id",
        run: |lab, seed| Box::pin(twins::twins(lab, seed)),
    },
    Scenario {
        name: "same",
        about: "windows, threads and rebalances that differ make no difference",
        run: |lab, seed| Box::pin(same::same(lab, seed)),
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
pub(crate) async fn run(lab: &Lab, name: &str, seed: u64) -> Result<bool> {
    let chosen: Vec<_> =
        ALL.iter().filter(|scenario| name == "all" || scenario.name == name).collect();
    ensure!(!chosen.is_empty(), "there is no scenario {name:?}; `list` names them");
    println!("seed {seed}, delivery {}", lab.delivery.name());
    let mut good = true;
    for scenario in chosen {
        good &= told(lab, scenario.name, seed, (scenario.run)(lab, seed)).await;
    }
    Ok(good)
}

/// Runs what CI has time for.
pub(crate) async fn short(lab: &mut Lab, seed: u64) -> bool {
    println!("seed {seed}, delivery {}", lab.delivery.name());
    let mut good = true;
    for (name, times) in SHORT {
        lab.times = Some(times);
        for scenario in ALL.iter().filter(|scenario| scenario.name == name) {
            good &= told(lab, name, seed, (scenario.run)(lab, seed)).await;
        }
    }
    good
}

/// Runs for so long.
pub(crate) async fn soak(lab: &Lab, seed: u64, length: Duration) -> bool {
    println!("seed {seed}, delivery {}", lab.delivery.name());
    told(lab, "soak", seed, soak::soak(lab, seed, length)).await
}

/// Waits for a scenario's outcome, and prints it.
async fn told(
    lab: &Lab,
    name: &str,
    seed: u64,
    run: impl Future<Output = Result<Summary>>,
) -> bool {
    let (start, files) = (Instant::now(), lab.files());
    let outcome = run.await;
    let took = start.elapsed().as_secs_f64();
    if outcome.is_err()
        && let Err(error) = lab.cluster.heal().await
    {
        println!("     brokers: {error:#}");
    }
    match outcome {
        Ok(summary) => {
            lab.keep(&files);
            println!("ok   {name:18} {took:5.1} s: {summary}");
            true
        }
        Err(error) => {
            let what = if error.is::<Violation>() { "VIOLATION" } else { "could not be run" };
            println!("FAIL {name:18} {took:5.1} s: {what}: {error:#}");
            println!("     logs and pipelines: {}", lab.logs.display());
            let how = if name == "soak" { "soak" } else { "run --scenario" };
            let how = how.replace("--scenario", &format!("--scenario {name}"));
            println!(
                "     again: forebay-faults {how} --seed {seed} --delivery {}",
                lab.delivery.name()
            );
            false
        }
    }
}
