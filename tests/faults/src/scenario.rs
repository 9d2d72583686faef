//! The list of scenarios, one kind of fault per file, and the commands that run them.

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

type ScenarioFuture<'a> = Pin<Box<dyn Future<Output = Result<Summary>> + 'a>>;

/// A kind of fault, under the name that `forebay-faults run --scenario` takes.
struct Scenario {
    name: &'static str,
    about: &'static str,
    run: for<'a> fn(&'a Suite, u64) -> ScenarioFuture<'a>,
}

const ALL: &[Scenario] = &[
    Scenario {
        name: "kill",
        about: "a worker is killed at random points under load and started again (10 times, or as many as --times says)",
        run: |suite, seed| Box::pin(crash::kill(suite, seed, false)),
    },
    Scenario {
        name: "kill-static",
        about: "like `kill`, but with static membership: the next worker gets the partitions at once",
        run: |suite, seed| Box::pin(crash::kill(suite, seed, true)),
    },
    Scenario {
        name: "term",
        about: "a worker is stopped by SIGTERM under load and started again (5 times, or as many as --times says)",
        run: |suite, seed| Box::pin(stop::under_load(suite, seed)),
    },
    Scenario {
        name: "term-twice",
        about: "a worker gets a second SIGTERM while it drains",
        run: |suite, seed| Box::pin(stop::twice(suite, seed)),
    },
    Scenario {
        name: "storm",
        about: "a member joins or leaves every 2 s: from 1 member to 4 and back; rebalances are cooperative",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Cooperative)),
    },
    Scenario {
        name: "storm-range",
        about: "like `storm`, but with eager rebalances",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Range)),
    },
    Scenario {
        name: "storm-static",
        about: "like `storm`, but with static members",
        run: |suite, seed| Box::pin(storm::storm(suite, seed, storm::Protocol::Static)),
    },
    Scenario {
        name: "zombie",
        about: "a worker is frozen (SIGSTOP) for two session timeouts, while another takes over, and then resumes",
        run: |suite, seed| Box::pin(zombie::zombie(suite, seed, true)),
    },
    Scenario {
        name: "zombie-alone",
        about: "like `zombie`, but there is no other worker to take over",
        run: |suite, seed| Box::pin(zombie::zombie(suite, seed, false)),
    },
    Scenario {
        name: "slow-drain",
        about: "partitions move to another worker, but the requests in flight take longer than drain_timeout",
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
        about: "one broker after another is frozen for a while",
        run: |suite, seed| {
            Box::pin(broker::one_by_one(suite, seed, "broker-pause", broker::Fault::Pause))
        },
    },
    Scenario {
        name: "broker-kill-idle",
        about: "one broker after another is killed while there are no requests; they go on before it is back",
        run: |suite, seed| Box::pin(broker::while_idle(suite, seed)),
    },
    Scenario {
        name: "brokers-down",
        about: "all brokers are killed, and started 10 to 20 s later",
        run: |suite, seed| Box::pin(broker::all(suite, seed)),
    },
    Scenario {
        name: "latency",
        about: "all connections between workers and brokers get 200 ms of latency in each direction",
        run: |suite, seed| Box::pin(network::latency(suite, seed)),
    },
    Scenario {
        name: "resets",
        about: "every connection to a broker is reset, several times",
        run: |suite, seed| Box::pin(network::resets(suite, seed)),
    },
    Scenario {
        name: "stalls",
        about: "the network passes no bytes for a while: in both directions, then in only one",
        run: |suite, seed| Box::pin(network::stalls(suite, seed)),
    },
    Scenario {
        name: "slow-sink",
        about: "the brokers take 1.2 s to confirm a reply, while requests keep coming fast",
        run: |suite, seed| Box::pin(network::slow_sink(suite, seed)),
    },
    Scenario {
        name: "poison",
        about: "malformed requests: at the head of each partition, then a single one, every tenth, and all",
        run: |suite, seed| Box::pin(poison::pills(suite, seed)),
    },
    Scenario {
        name: "too-large",
        about: "replies that exceed the brokers' size limit, which the sink itself refuses",
        run: |suite, seed| Box::pin(poison::too_large(suite, seed, true)),
    },
    Scenario {
        name: "too-large-refused",
        about: "like `too-large`, but the sink sends these replies and the brokers refuse them",
        run: |suite, seed| Box::pin(poison::too_large(suite, seed, false)),
    },
    Scenario {
        name: "dead-letters",
        about: "malformed requests go to the dead letter topic, byte for byte",
        run: |suite, seed| Box::pin(dead::letters(suite, seed)),
    },
    Scenario {
        name: "dead-letters-missing",
        about: "the dead letter topic does not exist at the start",
        run: |suite, seed| Box::pin(dead::missing(suite, seed)),
    },
    Scenario {
        name: "dead-letters-gone",
        about: "the dead letter topic is deleted during the run: no request is dropped silently",
        run: |suite, seed| Box::pin(dead::gone(suite, seed)),
    },
    Scenario {
        name: "key-order",
        about: "workers with order = \"key\" are killed, while a fifth of the requests is malformed",
        run: |suite, seed| Box::pin(crash::key_order(suite, seed)),
    },
    Scenario {
        name: "aborted",
        about: "some requests are written in transactions that are aborted, and get no answer",
        run: |suite, seed| Box::pin(log::aborted(suite, seed)),
    },
    Scenario {
        name: "truncated",
        about: "requests are deleted from the topic before a worker reads them",
        run: |suite, seed| Box::pin(log::truncated(suite, seed)),
    },
    Scenario {
        name: "more-partitions",
        about: "the topic of requests gets more partitions",
        run: |suite, seed| Box::pin(topic::more_partitions(suite, seed)),
    },
    Scenario {
        name: "recreated",
        about: "the topic of requests is deleted and created again",
        run: |suite, seed| Box::pin(topic::recreated(suite, seed)),
    },
    Scenario {
        name: "twins",
        about: "two workers run with the same group.instance.id",
        run: |suite, seed| Box::pin(twins::twins(suite, seed)),
    },
    Scenario {
        name: "same",
        about: "the same requests get the same answers with other batch sizes, threads or rebalances",
        run: |suite, seed| Box::pin(same::same(suite, seed)),
    },
];

pub(crate) fn list() {
    for scenario in ALL {
        println!("{:18} {}", scenario.name, scenario.about);
    }
}

/// The scenarios that CI runs, each with its `--times`. `kill-static` is repeated most, because its
/// kills follow each other fastest: the next worker gets the partitions at once.
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

/// Runs one scenario, or all of them. Returns whether all of them passed.
pub(crate) async fn run(suite: &Suite, name: &str, seed: u64) -> Result<bool> {
    let chosen: Vec<_> =
        ALL.iter().filter(|scenario| name == "all" || scenario.name == name).collect();
    ensure!(
        !chosen.is_empty(),
        "there is no scenario {name:?}; `forebay-faults list` prints all scenarios"
    );
    println!("seed {seed}, delivery {}", suite.delivery.name());
    let mut good = true;
    for scenario in chosen {
        good &= report(suite, scenario.name, seed, (scenario.run)(suite, seed)).await;
    }
    Ok(good)
}

/// Runs the scenarios of [`SHORT`]. Returns whether all of them passed.
pub(crate) async fn short(suite: &mut Suite, seed: u64) -> bool {
    println!("seed {seed}, delivery {}", suite.delivery.name());
    let mut good = true;
    for (name, times) in SHORT {
        suite.times = Some(times);
        for scenario in ALL.iter().filter(|scenario| scenario.name == name) {
            good &= report(suite, name, seed, (scenario.run)(suite, seed)).await;
        }
    }
    good
}

/// Runs the soak for `length`. Returns whether it passed.
pub(crate) async fn soak(suite: &Suite, seed: u64, length: Duration) -> bool {
    println!("seed {seed}, delivery {}", suite.delivery.name());
    report(suite, "soak", seed, soak::soak(suite, seed, length)).await
}

/// Waits for a scenario's outcome, prints it, and returns whether the scenario passed.
async fn report(
    suite: &Suite,
    name: &str,
    seed: u64,
    run: impl Future<Output = Result<Summary>>,
) -> bool {
    let start = Instant::now();
    let files = suite.files();
    let outcome = run.await;
    let took = start.elapsed().as_secs_f64();
    if outcome.is_err()
        && let Err(error) = suite.cluster.heal().await
    {
        println!("     the brokers could not be restored: {error:#}");
    }
    match outcome {
        Ok(summary) => {
            suite.remove_except(&files);
            println!("ok   {name:18} {took:5.1} s: {summary}");
            true
        }
        Err(error) => {
            let what = if error.is::<Violation>() { "VIOLATION" } else { "could not be run" };
            println!("FAIL {name:18} {took:5.1} s: {what}: {error:#}");
            println!("     logs and pipeline files: {}", suite.logs.display());
            let how = if name == "soak" { "soak" } else { "run --scenario" };
            let how = how.replace("--scenario", &format!("--scenario {name}"));
            println!(
                "     run again: forebay-faults {how} --seed {seed} --delivery {}",
                suite.delivery.name()
            );
            false
        }
    }
}
