//! Requests that cannot be answered: each gets an error of its own, and its neighbours their results.

use anyhow::Result;

use crate::request_format::Kind;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const KEYS: u16 = 40;

/// At the head of every partition, in the middle, every tenth, and all of them.
pub(super) async fn pills(suite: &Suite, seed: u64) -> Result<Summary> {
    let run = Run::open(suite, Plan::new(suite, "poison"), seed).await?;
    mixture(run, 400, |number, kind| match number {
        0..40 | 100 | 300.. => kind,
        200..300 if number % 10 == 0 => kind,
        _ => Kind::Good,
    })
    .await
}

/// Replies that no broker takes. The sink knows, or is told that they are allowed and has the brokers refuse them.
pub(super) async fn too_large(suite: &Suite, seed: u64, sink_knows: bool) -> Result<Summary> {
    let mut plan = Plan::new(suite, "too-large");
    if !sink_knows {
        plan.pipeline.sink_options.push(("message.max.bytes", "10000000".into()));
    }
    let run = Run::open(suite, plan, seed).await?;
    mixture(run, 120, |number, _| if number % 20 == 7 { Kind::TooLarge } else { Kind::Good }).await
}

/// Requests of the kinds that are chosen for each number, malformed in turn.
async fn mixture(
    mut run: Run<'_>,
    count: u16,
    choose: impl Fn(u16, Kind) -> Kind,
) -> Result<Summary> {
    let kinds = (0..count).map(|number| {
        let malformed = Kind::MALFORMED[usize::from(number / 10 + number) % Kind::MALFORMED.len()];
        (Some(number % KEYS), choose(number, malformed))
    });
    run.load.send(kinds).await?;
    run.start("a").await?;
    run.await_answers(usize::from(count)).await?;
    run.settle().await
}
