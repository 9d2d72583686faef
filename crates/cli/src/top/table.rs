//! The rows of the table: what two readings of the state say about each step.

use std::time::Duration;

use super::state::{State, Step};

/// One step.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    pub(super) step: String,
    /// Events per second.
    pub(super) received: f64,
    pub(super) emitted: f64,
    pub(super) failed: u64,
    pub(super) inside: u64,
    pub(super) waiting: u64,
    /// Mean size of the step's batches between the readings, and the commonest reason why they left.
    pub(super) batch: Option<(f64, String)>,
    /// Longest wait for a batch, on average, in seconds.
    pub(super) wait: Option<f64>,
    /// Share of padding in the batches.
    pub(super) padding: Option<f64>,
}

/// Returns a row for each step, from the readings `before` and `now`, with the time between them.
pub(super) fn rows(before: &State, now: &State, between: Duration) -> Vec<Row> {
    now.steps.iter().map(|step| row(step, before, now, between)).collect()
}

fn row(step: &Step, before: &State, now: &State, between: Duration) -> Row {
    let earlier = before.steps.iter().find(|earlier| earlier.name == step.name);
    let of = |count: fn(&Step) -> u64| per_second(earlier.map_or(0, count), count(step), between);
    let label = Some(("step", step.name.as_str()));
    let grown = |metric: &str| (now.sum(metric, label) - before.sum(metric, label)).max(0.0);
    let batches = grown("forebay_batch_size_count");
    let batch = (batches > 0.0).then(|| {
        let reason = commonest_reason(&step.name, before, now).unwrap_or_default();
        (grown("forebay_batch_size_sum") / batches, reason)
    });
    let waits = grown("forebay_batch_wait_seconds_count");
    let tokens = grown("forebay_batch_elements_total");
    let padding = grown("forebay_batch_padding_total");
    Row {
        step: step.name.clone(),
        received: of(|step| step.received),
        emitted: of(|step| step.emitted),
        failed: step.failed.values().sum(),
        inside: step.inside,
        waiting: step.waiting,
        batch,
        wait: (waits > 0.0).then(|| grown("forebay_batch_wait_seconds_sum") / waits),
        padding: (tokens > 0.0).then(|| padding / (padding + tokens)),
    }
}

/// Returns a rate. A counter that fell belongs to a process that was started again.
#[expect(clippy::cast_precision_loss, reason = "a rate is shown with three digits")]
pub(super) fn per_second(before: u64, now: u64, between: Duration) -> f64 {
    let grown = now.checked_sub(before).unwrap_or(now);
    grown as f64 / between.as_secs_f64().max(1e-3)
}

fn commonest_reason(step: &str, before: &State, now: &State) -> Option<String> {
    let of_step = |state: &State| -> Vec<(String, f64)> {
        let samples = state.samples.iter().filter(|sample| {
            sample.name == "forebay_batches_total"
                && sample.labels.get("step").is_some_and(|given| given == step)
        });
        let reason = |sample: &super::state::Sample| sample.labels.get("reason").cloned();
        samples.filter_map(|sample| Some((reason(sample)?, sample.value))).collect()
    };
    let earlier = of_step(before);
    let grown = of_step(now).into_iter().map(|(reason, count)| {
        let before = earlier.iter().find(|(known, _)| *known == reason).map_or(0.0, |one| one.1);
        (reason, count - before)
    });
    grown.max_by(|one, other| one.1.total_cmp(&other.1)).map(|(reason, _)| reason)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::super::state::State;
    use super::rows;

    /// A reading with `count` events in and out, in batches of four that wait for 20 ms.
    fn state(count: u64) -> State {
        let step = |name: &str| {
            json!({"name": name, "received": count, "emitted": count, "failed": {"a": 1, "b": 2},
                   "inside": 3, "waiting": 2})
        };
        let sample = |name: &str, labels: serde_json::Value, value: u64| json!({"name": name, "labels": labels, "value": value});
        let window = || json!({"step": "window"});
        serde_json::from_value(json!({
            "pipeline": "p", "uptime_seconds": 1.0, "answers": {"results": count, "errors": 0},
            "steps": [step("map"), step("window")], "models": [], "failures": [],
            "samples": [
                sample("forebay_batch_size_count", window(), count / 4),
                sample("forebay_batch_size_sum", window(), count),
                sample("forebay_batch_wait_seconds_count", window(), count / 4),
                sample("forebay_batch_wait_seconds_sum", window(), count / 4 * 2),
                sample("forebay_batch_elements_total", window(), count * 3),
                sample("forebay_batch_padding_total", window(), count),
                sample("forebay_batches_total", json!({"step": "window", "reason": "size"}), count),
                sample("forebay_batches_total", json!({"step": "window", "reason": "wait"}), 7),
            ],
        }))
        .unwrap()
    }

    #[test]
    fn rates_and_means_are_those_between_the_readings() {
        let rows = rows(&state(400), &state(800), Duration::from_secs(2));
        assert_eq!((rows[0].received, rows[0].emitted, rows[0].failed), (200.0, 200.0, 3));
        assert_eq!((&rows[0].batch, rows[0].wait, rows[0].padding), (&None, None, None));
        assert_eq!(rows[1].batch, Some((4.0, "size".to_owned())));
        assert_eq!((rows[1].wait, rows[1].padding), (Some(2.0), Some(0.25)));
        assert_eq!((rows[1].inside, rows[1].waiting), (3, 2));
    }

    #[test]
    fn a_process_that_was_started_again_counts_from_zero() {
        let rows = rows(&state(800), &state(40), Duration::from_secs(1));
        assert_eq!((rows[0].received, rows[0].emitted), (40.0, 40.0));
    }
}
