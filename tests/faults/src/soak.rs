//! A long run with a fault at random every now and then.

use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use tokio::time::Instant;

use crate::cluster::BROKERS;
use crate::ledger::Duplicates;
use crate::proxy::{Proxies, Weather};
use crate::request_format::Kind;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const RATE: u32 = 150;

/// Stays from the start to the end, so that what grows in it is seen.
const ELDER: &str = "elder";

/// Is killed, stopped and frozen.
const YOUNG: &str = "young";

/// Comes and goes.
const GUEST: &str = "guest";

/// From one fault to the next, in seconds.
const PAUSE: std::ops::Range<u64> = 20..60;

#[derive(Clone, Copy, Debug)]
enum Blow {
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

const BLOWS: [Blow; 12] = [
    Blow::Kill,
    Blow::Term,
    Blow::Freeze,
    Blow::Guest,
    Blow::BrokerStop,
    Blow::BrokerKill,
    Blow::BrokerPause,
    Blow::Latency,
    Blow::Resets,
    Blow::Stall,
    Blow::Poison,
    Blow::AbortedRequests,
];

/// Runs for so long, and says what happens as it does.
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
    run.start(ELDER).await?;
    run.start(YOUNG).await?;
    run.await_answers(200).await?;

    let start = Instant::now();
    let (mut blows, mut slowest) = (0, (Duration::ZERO, String::new()));
    while start.elapsed() < length {
        let blow = BLOWS[run.random.random_range(0..BLOWS.len())];
        let begun = start.elapsed();
        strike(&mut run, &proxies, &sender, blow).await?;
        let recovery = recover(&mut run).await?;
        println!(
            "  {:7.1} s  {:16} {}, answering again after {:.1} s",
            begun.as_secs_f64(),
            format!("{blow:?}"),
            run.progress(),
            recovery.as_secs_f64()
        );
        blows += 1;
        if recovery > slowest.0 {
            slowest = (recovery, format!("{blow:?}"));
        }
        let pause = run.random.random_range(PAUSE);
        let left = length.saturating_sub(start.elapsed());
        run.sleep(Duration::from_secs(pause).min(left)).await?;
    }
    run.note(format!(
        "{blows} faults, slowest recovery {:.1} s ({})",
        slowest.0.as_secs_f64(),
        slowest.1
    ));
    run.settle().await
}

async fn strike(run: &mut Run<'_>, proxies: &Proxies, sender: &str, blow: Blow) -> Result<()> {
    let cluster = &run.suite.cluster;
    let broker = run.random.random_range(1..=BROKERS);
    match blow {
        Blow::Kill => {
            run.kill(YOUNG).await?;
            run.start(YOUNG).await?;
        }
        Blow::Term => {
            run.stop(YOUNG).await?;
            run.start(YOUNG).await?;
        }
        Blow::Freeze => {
            run.worker(YOUNG)?.signal("STOP").await?;
            run.sleep_between(1000..15_000).await?;
            run.worker(YOUNG)?.signal("CONT").await?;
        }
        Blow::Guest => {
            run.start(GUEST).await?;
            run.sleep_between(1000..10_000).await?;
            run.stop(GUEST).await?;
        }
        Blow::BrokerStop | Blow::BrokerKill | Blow::BrokerPause => {
            let what = match blow {
                Blow::BrokerStop => "stop",
                Blow::BrokerKill => "kill",
                _ => "pause",
            };
            cluster.broker(what, broker).await?;
            run.sleep_between(1000..15_000).await?;
            cluster.heal().await?;
            // Until it is in sync again, the others must stay.
            run.sleep(Duration::from_secs(10)).await?;
        }
        Blow::Latency => {
            let latency = Duration::from_millis(run.random.random_range(20..300));
            proxies.set(Weather { latency, ..Weather::default() });
            run.sleep(Duration::from_secs(10)).await?;
            proxies.set(Weather::default());
        }
        Blow::Resets => {
            for _ in 0..run.random.random_range(1..5) {
                proxies.reset();
                run.sleep_between(100..2000).await?;
            }
        }
        Blow::Stall => {
            let ways = run.random.random_range(1..4_u8);
            let (requests_stuck, responses_stuck) = (ways & 1 != 0, ways & 2 != 0);
            proxies.set(Weather { requests_stuck, responses_stuck, ..Weather::default() });
            run.sleep_between(1000..10_000).await?;
            proxies.set(Weather::default());
        }
        Blow::Poison => {
            let kinds = (0..100_u16).map(|n| (Some(n % 40), Kind::MALFORMED[usize::from(n) % 4]));
            run.load.send(kinds).await?;
        }
        Blow::AbortedRequests => {
            run.load.transact(sender, 20, false).await?;
            run.load.transact(sender, 20, true).await?;
        }
    }
    Ok(())
}

/// Waits until every partition is answered again, and says how long that took.
async fn recover(run: &mut Run<'_>) -> Result<Duration> {
    const PROMPT: Duration = Duration::from_secs(1);
    let start = Instant::now();
    while run.ledger.lock().longest_wait().is_some_and(|(_, wait)| wait > PROMPT) {
        run.sleep(Duration::from_millis(100)).await?;
    }
    Ok(start.elapsed())
}
