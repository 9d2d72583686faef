//! The same requests through pipelines whose differences must not change the answers.

use anyhow::Result;

use crate::pipeline::{ANSWER, slow};
use crate::run::{Plan, Run, Summary};
use crate::suite::Suite;
use crate::violation::Invariant;

const RATE: u32 = 300;
const REQUESTS: usize = 600;

const TWICE: &str = r#"
[[step]]
map_batch = "map(. + {twice: (.n + .n)})"
"#;

fn variants() -> [(&'static str, String, &'static str); 5] {
    let window = |window: &str| format!("{ANSWER}{}\n[[step]]\n{window}\n{TWICE}", slow("20ms"));
    let parallel = |parallelism| {
        format!(
            "{ANSWER}\n[[step]]\nmap_async = {{ jq = \". + {{twice: (.n + .n)}}\", parallelism = {parallelism} }}\n"
        )
    };
    let cooperative = "cooperative-sticky";
    [
        ("one by one", window("partition = { size = 1, timeout = \"10ms\" }"), cooperative),
        (
            "windows of 64",
            window("timed_window = { interval = \"5ms\", max_size = 64 }"),
            cooperative,
        ),
        ("one thread", parallel(1), cooperative),
        ("eight threads", parallel(8), cooperative),
        (
            "eager rebalances",
            window("timed_window = { interval = \"5ms\", max_size = 64 }"),
            "range",
        ),
    ]
}

/// Checks that all variants give the same answers. The ledger checks the order of each key.
pub(super) async fn same(suite: &Suite, seed: u64) -> Result<Summary> {
    let mut first: Option<(u64, usize)> = None;
    let mut last = None;
    for (name, steps, strategy) in variants() {
        let mut plan = Plan::new(suite, "same");
        plan.pipeline.steps = steps;
        plan.pipeline.source_options.push(("partition.assignment.strategy", strategy.into()));
        plan.pipeline.long_session();
        plan.malformed = 10;
        let mut run = Run::open(suite, plan, seed).await?;
        run.load.exactly(REQUESTS);
        run.load.rate(RATE);
        run.start("a").await?;
        run.await_answers(100).await?;
        run.start("b").await?;
        run.await_total(REQUESTS).await?;
        let summary = run.settle().await?;
        let found = (summary.figures.digest, summary.figures.answered);
        if *first.get_or_insert(found) != found {
            let text =
                format!("{name}: digest and number of answers are {found:?} instead of {first:?}");
            return Err(Invariant::Identity.broken(text).into());
        }
        last = Some(summary);
    }
    last.ok_or_else(|| anyhow::anyhow!("no variants"))
}
