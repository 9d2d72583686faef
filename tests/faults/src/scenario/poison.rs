//! Malformed requests: each gets its own error, and the requests around it get their results.

use anyhow::Result;

use crate::request_format::Kind;
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;

const KEYS: u16 = 40;

/// Sends malformed requests: at the head of every partition, a single one between good ones, every
/// tenth, and a hundred without good ones between them.
pub(super) async fn pills(suite: &Suite, seed: u64) -> Result<Summary> {
    let run = Run::open(suite, Plan::new(suite, "poison"), seed).await?;
    mixture(run, 400, |number, kind| match number {
        0..40 | 100 | 300.. => kind,
        200..300 if number % 10 == 0 => kind,
        _ => Kind::Good,
    })
    .await
}

/// Makes replies above the brokers' size limit. If `sink_knows`, the sink has the same limit and
/// refuses them. Otherwise the sink's limit is higher, and the brokers refuse them.
pub(super) async fn too_large(suite: &Suite, seed: u64, sink_knows: bool) -> Result<Summary> {
    let mut plan = Plan::new(suite, "too-large");
    if !sink_knows {
        plan.pipeline.sink_options.push(("message.max.bytes", "10000000".into()));
    }
    let run = Run::open(suite, plan, seed).await?;
    mixture(run, 120, |number, _| if number % 20 == 7 { Kind::TooLarge } else { Kind::Good }).await
}

/// Sends `count` requests and waits for their answers. `choose` returns the kind of a request; it
/// gets the number of the request and the malformed kind to use for it, if any.
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
