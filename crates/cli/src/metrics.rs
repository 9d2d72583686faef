//! Metrics of a running pipeline, in the text format of Prometheus. docs/metrics.md lists them.

use std::time::Duration;

use anyhow::Context as _;
use forebay_pipeline::View;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

/// Buckets for durations, from a single request on a fast GPU to a large batch on a CPU, in
/// seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Buckets for batch sizes.
const SIZES: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Gauges are set whenever the metrics are read. One that is not set any more, such as the lag of a
/// partition that another process reads now, disappears after this time.
const STALE: Duration = Duration::from_secs(1);

/// Installs the process-wide metrics recorder.
pub(crate) fn install() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Full("forebay_batch_size".into()), &SIZES)?
        .idle_timeout(MetricKindMask::GAUGE, Some(STALE))
        .install_recorder()
        .context("cannot install the metrics recorder")?;
    describe();
    Ok(handle)
}

/// Describes the metrics that are not described where they are counted.
fn describe() {
    describe_counter!("forebay_requests_total", "Requests by outcome and error code");
    describe_histogram!(
        "forebay_request_seconds",
        "Time from the record's timestamp to its confirmed answer"
    );
    describe_histogram!(
        "forebay_request_tokenize_seconds",
        "Time in which a request's text was tokenised"
    );
    describe_histogram!(
        "forebay_request_queue_seconds",
        "Time in which a request waited in the window before a text model"
    );
    describe_histogram!(
        "forebay_request_delivery_seconds",
        "Time from an answer's arrival at its sink to its confirmation"
    );
    describe_counter!("forebay_step_received_total", "Events that came to the step");
    describe_counter!("forebay_step_emitted_total", "Events that left the step");
    describe_counter!("forebay_step_failed_total", "Events that failed at the step, by code");
    describe_counter!("forebay_step_discarded_total", "Events that the step left out on purpose");
    describe_gauge!(
        "forebay_step_made",
        "Events that the step made of others, less those that it joined to others"
    );
    describe_gauge!("forebay_step_inside", "Events that are inside the step");
    describe_gauge!("forebay_step_waiting", "Events that wait in the step's queue");
    describe_counter!("forebay_batches_total", "Batches that left the window, by reason");
    describe_histogram!("forebay_batch_size", "Members per batch");
    describe_histogram!(
        "forebay_batch_wait_seconds",
        "Waiting time of the oldest member of a batch"
    );
    describe_counter!("forebay_batch_elements_total", "Tokens in the batches");
    describe_counter!("forebay_batch_padding_total", "Padding tokens in the batches");
    describe_histogram!(
        "forebay_batch_predicted_seconds",
        "Predicted time of a batch in the model"
    );
    describe_histogram!("forebay_model_batch_seconds", "Time that the device took for a batch");
    describe_counter!("forebay_model_inputs_total", "Inputs that the model was given");
    describe_counter!(
        "forebay_model_rebuilds_total",
        "How often the model was loaded again after a failure"
    );
    describe_gauge!(
        "forebay_model_warm_up_seconds",
        "Time that loading the model and its warm-up took"
    );
    describe_gauge!("forebay_model_info", "The model and its device; always 1");
    describe_gauge!("forebay_build_info", "The version of Forebay; always 1");
    describe_counter!(
        "forebay_joins_out_of_order_total",
        "How often a join went on without a branch that was behind"
    );
}

/// Returns the page `/metrics`.
pub(crate) fn render(handle: &PrometheusHandle, view: &View) -> String {
    gauge!("forebay_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
    for step in view.steps() {
        let name = || step.name.clone();
        counter!("forebay_step_received_total", "step" => name()).absolute(step.received);
        counter!("forebay_step_emitted_total", "step" => name()).absolute(step.emitted);
        counter!("forebay_step_discarded_total", "step" => name()).absolute(step.discarded);
        for (code, count) in &step.failed {
            counter!("forebay_step_failed_total", "step" => name(), "code" => code.clone())
                .absolute(*count);
        }
        gauge!("forebay_step_made", "step" => name()).set(number(step.made));
        gauge!("forebay_step_inside", "step" => name()).set(number(step.inside()));
        gauge!("forebay_step_waiting", "step" => name()).set(number(step.waiting));
    }
    for model in view.models() {
        let warm_up = model.work.warm_up.as_secs_f64();
        gauge!("forebay_model_warm_up_seconds", "model" => model.name.clone()).set(warm_up);
        gauge!("forebay_model_info", "model" => model.name, "description" => model.description)
            .set(1);
    }
    handle.run_upkeep();
    handle.render()
}

/// Converts a number for a gauge. Precision is lost beyond 2^53 only.
#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn number(number: impl TryInto<i64>) -> f64 {
    number.try_into().unwrap_or(i64::MAX) as f64
}

/// A value of a metric, as `/state.json` has it.
#[derive(Debug, PartialEq, serde::Serialize)]
pub(crate) struct Sample {
    name: String,
    labels: std::collections::BTreeMap<String, String>,
    value: f64,
}

/// Reads the page `/metrics` back. Lines that are no samples are left out.
pub(crate) fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let (head, value) = line.rsplit_once(' ')?;
    let (name, labels) = match head.split_once('{') {
        Some((name, labels)) => (name, labels.strip_suffix('}')?),
        None => (head, ""),
    };
    let mut read = std::collections::BTreeMap::new();
    let mut rest = labels;
    while let Some((label, after)) = rest.split_once("=\"") {
        let mut value = String::new();
        let mut letters = after.char_indices();
        let end = loop {
            match letters.next()? {
                (end, '"') => break end,
                (_, '\\') => match letters.next()? {
                    (_, 'n') => value.push('\n'),
                    (_, letter) => value.push(letter),
                },
                (_, letter) => value.push(letter),
            }
        };
        read.insert(label.trim_start_matches(',').to_owned(), value);
        rest = &after[end + 1..];
    }
    Some(Sample { name: name.to_owned(), labels: read, value: value.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::{Sample, samples};

    #[test]
    fn samples_are_read_back() {
        let page = "# HELP a b\n# TYPE a counter\na 3\n\nb_bucket{le=\"+Inf\",step=\"x \\\"y\\\" \\\\ , z=\\n\"} 2.5\n\
                    broken{le=\"1\nnot a number x\n";
        let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = [
            Sample { name: "a".into(), labels: [].into(), value: 3.0 },
            Sample {
                name: "b_bucket".into(),
                labels: [label("le", "+Inf"), label("step", "x \"y\" \\ , z=\n")].into(),
                value: 2.5,
            },
        ];
        assert_eq!(samples(page), expected);
    }
}
