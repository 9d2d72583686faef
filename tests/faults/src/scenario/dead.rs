//! Requests that fail go to a dead letter topic, which may be missing or be deleted.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;

use crate::ledger::Duplicates;
use crate::pipeline::Delivery;
use crate::request_format::Kind;
use crate::run::{PARTITIONS, Plan, Run, STOP, Summary};
use crate::suite::Suite;
use crate::violation::Invariant;

const RATE: u32 = 200;

fn plan(suite: &Suite, name: &str) -> Plan {
    let mut plan = Plan::new(suite, name);
    plan.pipeline.dead_letters = Some(format!("{}-dead", plan.pipeline.group));
    plan
}

/// Checks that the dead letter topic gets exactly the malformed requests, byte for byte.
pub(super) async fn letters(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut plan = plan(suite, "dead-letters");
    plan.malformed = 20;
    plan.duplicates = Duplicates::Bounded;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    for _ in 0..suite.times.unwrap_or(3) {
        run.start("a").await?;
        run.await_answers(200).await?;
        run.kill("a").await?;
    }
    run.start("a").await?;
    let ledger = run.ledger.clone();
    let summary = run.settle().await?;
    let figures = ledger.lock().figures;
    if figures.dead == 0 || figures.dead != figures.errors {
        let text = format!("{} dead letters for {} failures", figures.dead, figures.errors);
        return Err(Invariant::NoLoss.broken(text).into());
    }
    Ok(summary)
}

/// Checks that a worker refuses to start without the dead letter topic, and gives the reason.
pub(super) async fn missing(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut run = Run::open(suite, plan(suite, "dead-letters-missing"), seed).await?;
    let mut wrong = run.pipeline.clone();
    wrong.dead_letters = Some(format!("{}-not-there", wrong.group));
    run.launch_text("a", &wrong.text("a"))?;
    let mut worker = run.take("a")?;
    let exit = worker.exit(STOP).await?;
    if exit.code != Some(69) {
        return Err(worker.broken(&format!("ended by {exit:?} instead of exit code 69")));
    }
    run.note(format!("refused: {}", exit.last_line));
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    run.settle().await
}

/// Deletes the dead letter topic during the run. A malformed request, which would have to go there,
/// halts its partition, or all partitions with exactly-once delivery. Once the topic exists again,
/// a new worker answers all requests that waited.
pub(super) async fn gone(suite: &Suite, seed: u64) -> Result<Summary> {
    const KEY: u16 = 7;
    let mut plan = plan(suite, "dead-letters-gone");
    plan.malformed = 0;
    plan.duplicates = Duplicates::Counted;
    let mut run = Run::open(suite, plan, seed).await?;
    run.load.rate(RATE);
    run.start("a").await?;
    run.await_answers(200).await?;
    let Some(topic) = run.pipeline.dead_letters.clone() else { return run.settle().await };
    suite.client.call(json!({"op": "delete", "topics": [topic]})).await?;
    run.load.send([(Some(KEY), Kind::BrokenJson)]).await?;
    run.sleep(Duration::from_secs(8)).await?;
    let (waiting, partitions) = {
        let ledger = run.ledger.lock();
        (
            ledger.open_count(),
            ledger
                .ends()
                .keys()
                .filter(|partition| ledger.first_open(**partition).is_some())
                .count(),
        )
    };
    if waiting == 0 {
        return Err(Invariant::NoLoss.broken("no request waits for the dead letter topic").into());
    }
    run.note(format!("{waiting} requests waited in {partitions} partitions"));
    let mut worker = run.take("a")?;
    worker.signal("TERM").await?;
    let exit = worker.exit(STOP).await?;
    // A skipped request is a worse fault than a wrong exit code, so the commits are checked first.
    run.check_commits().await?;
    // With exactly-once delivery, the signal may come just after the worker has aborted a
    // transaction. No request is in flight then, and the worker stops with code 0.
    let clean_stop = exit.code == Some(0) && suite.delivery == Delivery::ExactlyOnce;
    if !clean_stop && !matches!(exit.code, Some(70 | 75)) {
        return Err(worker.broken(&format!("ended by {exit:?}, although requests have no answer")));
    }
    run.note(format!("stopped with {:?}", exit.code.unwrap_or(-1)));
    suite.client.create(&[&topic], PARTITIONS, json!({})).await?;
    suite.await_topic(&topic).await?;
    run.start("a").await?;
    run.await_answers(200).await?;
    run.settle().await
}
