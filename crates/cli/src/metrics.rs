//! Metrics of a running pipeline, in the text format of Prometheus.

use std::collections::BTreeMap;

use anyhow::Context as _;
use forebay_pipeline::View;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// Buckets for durations, from a single request on a fast GPU to a large batch on a CPU, in
/// seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets for batch sizes.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Installs the process-wide metrics recorder.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("forebay_batch_size".into()), &SIZES)?
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe_counter!("forebay_events_total", "Events or batches that have left the stage");
    describe_gauge!("forebay_queue_depth", "Events waiting in the queue of the stage");
    describe_counter!("forebay_batches_total", "Batches that left the window, by reason");
    describe_counter!("forebay_batch_elements_total", "Tokens in the batches");
    describe_counter!("forebay_batch_padding_total", "Padding tokens in the batches");
    describe_histogram!("forebay_batch_size", "Members per batch");
    describe_histogram!(
        "forebay_batch_wait_seconds",
        "Waiting time of the oldest member of a batch"
    );
    describe_histogram!(
        "forebay_batch_predicted_seconds",
        "Predicted time of a batch in the model"
    );
    describe_histogram!("forebay_model_batch_seconds", "Time that the model took for a batch");
    Ok(handle)
}

/// Returns the page `/metrics`.
pub(crate) fn render(handle: &PrometheusHandle, view: &View) -> String {
    let mut stages: BTreeMap<&str, (u64, u32)> = BTreeMap::new();
    for node in view.graph().nodes() {
        let (emitted, depth) = stages.entry(node.name()).or_default();
        *emitted += node.emitted();
        *depth += u32::try_from(node.depth()).unwrap_or(u32::MAX);
    }
    for (stage, (emitted, depth)) in stages {
        counter!("forebay_events_total", "stage" => stage.to_owned()).absolute(emitted);
        gauge!("forebay_queue_depth", "stage" => stage.to_owned()).set(depth);
    }
    handle.run_upkeep();
    handle.render()
}
