//! A long run under a steady load, with a random fault every 20 to 60 s.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use tokio::time::Instant;

use crate::cluster::BROKERS;
use crate::ledger::Duplicates;
use crate::proxy::{Conditions, Proxies};
use crate::request_format::Kind;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 150;

/// A worker that runs from start to end, because only a long run shows whether its memory grows.
const STEADY: &str = "steady";

/// A worker that faults kill, stop and freeze.
const VICTIM: &str = "victim";

/// A worker that joins the group and leaves it.
const GUEST: &str = "guest";

/// Time between two faults, in seconds.
const PAUSE: std::ops::Range<u64> = 20..60;

#[derive(Clone, Copy, Debug)]
enum Fault {
    Kill,
    Term,
    Freeze,
    Guest,
    BrokerStop,
    BrokerKill,
    BrokerPause,
    Latency,
    Resets,
    Stall,
    Poison,
    AbortedRequests,
}

const FAULTS: [Fault; 12] = [
    Fault::Kill,
    Fault::Term,
    Fault::Freeze,
    Fault::Guest,
    Fault::BrokerStop,
    Fault::BrokerKill,
    Fault::BrokerPause,
    Fault::Latency,
    Fault::Resets,
    Fault::Stall,
    Fault::Poison,
    Fault::AbortedRequests,
];

/// Runs for `length`, and prints each fault.
pub(crate) async fn soak(suite: &Suite, seed: u64, length: Duration) -> Result<Summary> {
    let proxies = Proxies::start(&suite.cluster).await?;
    let mut plan = Plan::new(suite, "soak");
    plan.pipeline.brokers = suite.cluster.proxied_addresses();
    plan.pipeline.long_session();
    plan.duplicates = Duplicates::Counted;
    plan.patience = Duration::from_mins(2);
    let mut run = Run::open(suite, plan, seed).await?;
    let sender = suite.name("sender");
    run.load.rate(RATE);
    run.start(STEADY).await?;
    run.start(VICTIM).await?;
    run.await_answers(200).await?;

    let start = Instant::now();
    let mut faults = 0;
    let mut slowest = (Duration::ZERO, String::new());
    while start.elapsed() < length {
        let fault = FAULTS[run.random.random_range(0..FAULTS.len())];
        let begun = start.elapsed();
        inject(&mut run, &proxies, &sender, fault).await?;
        let recovery = recover(&mut run).await?;
        println!(
            "  {:7.1} s  {:16} {}, answering again after {:.1} s",
            begun.as_secs_f64(),
            format!("{fault:?}"),
            run.progress(),
            recovery.as_secs_f64()
        );
        faults += 1;
        if recovery > slowest.0 {
            slowest = (recovery, format!("{fault:?}"));
        }
        let pause = run.random.random_range(PAUSE);
        let left = length.saturating_sub(start.elapsed());
        run.sleep(Duration::from_secs(pause).min(left)).await?;
    }
    run.note(format!(
        "{faults} faults, slowest recovery {:.1} s ({})",
        slowest.0.as_secs_f64(),
        slowest.1
    ));
    run.settle().await
}

async fn inject(run: &mut Run<'_>, proxies: &Proxies, sender: &str, fault: Fault) -> Result<()> {
    let cluster = &run.suite.cluster;
    let broker = run.random.random_range(1..=BROKERS);
    match fault {
        Fault::Kill => {
            run.kill(VICTIM).await?;
            run.start(VICTIM).await?;
        }
        Fault::Term => {
            run.stop(VICTIM).await?;
            run.start(VICTIM).await?;
        }
        Fault::Freeze => {
            run.worker(VICTIM)?.signal("STOP").await?;
            run.sleep_between(1000..15_000).await?;
            run.worker(VICTIM)?.signal("CONT").await?;
        }
        Fault::Guest => {
            run.start(GUEST).await?;
            run.sleep_between(1000..10_000).await?;
            run.stop(GUEST).await?;
        }
        Fault::BrokerStop | Fault::BrokerKill | Fault::BrokerPause => {
            let action = match fault {
                Fault::BrokerStop => "stop",
                Fault::BrokerKill => "kill",
                _ => "pause",
            };
            cluster.broker(action, broker).await?;
            run.sleep_between(1000..15_000).await?;
            cluster.heal().await?;
            // With 3 replicas and `min.insync.replicas` of 2, the next fault must wait until this
            // broker is in sync again.
            run.sleep(Duration::from_secs(10)).await?;
        }
        Fault::Latency => {
            let latency = Duration::from_millis(run.random.random_range(20..300));
            proxies.set(Conditions { latency, ..Conditions::default() });
            run.sleep(Duration::from_secs(10)).await?;
            proxies.set(Conditions::default());
        }
        Fault::Resets => {
            for _ in 0..run.random.random_range(1..5) {
                proxies.reset();
                run.sleep_between(100..2000).await?;
            }
        }
        Fault::Stall => {
            let ways = run.random.random_range(1..4_u8);
            let requests_stuck = ways & 1 != 0;
            let responses_stuck = ways & 2 != 0;
            proxies.set(Conditions { requests_stuck, responses_stuck, ..Conditions::default() });
            run.sleep_between(1000..10_000).await?;
            proxies.set(Conditions::default());
        }
        Fault::Poison => {
            let kinds = (0..100_u16).map(|n| (Some(n % 40), Kind::MALFORMED[usize::from(n) % 4]));
            run.load.send(kinds).await?;
        }
        Fault::AbortedRequests => {
            run.load.transact(sender, 20, false).await?;
            run.load.transact(sender, 20, true).await?;
        }
    }
    Ok(())
}

/// Waits until no partition with open requests has been without an answer for more than a second.
/// Returns how long that took.
async fn recover(run: &mut Run<'_>) -> Result<Duration> {
    const PROMPT: Duration = Duration::from_secs(1);
    let start = Instant::now();
    while run.ledger.lock().longest_wait().is_some_and(|(_, wait)| wait > PROMPT) {
        run.sleep(Duration::from_millis(100)).await?;
    }
    Ok(start.elapsed())
}
