//! The state of a running pipeline, as its page `/state.json` has it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct State {
    pub(super) pipeline: String,
    pub(super) uptime_seconds: f64,
    /// Why the pipeline takes no requests, if it does not.
    pub(super) unready: Option<String>,
    pub(super) answers: Answers,
    pub(super) steps: Vec<Step>,
    pub(super) models: Vec<Model>,
    pub(super) failures: Vec<Failure>,
    pub(super) samples: Vec<Sample>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Answers {
    pub(super) results: u64,
    pub(super) errors: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Step {
    pub(super) name: String,
    pub(super) received: u64,
    pub(super) emitted: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) inside: u64,
    pub(super) waiting: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) inputs: u64,
    pub(super) busy_seconds: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Failure {
    pub(super) origin: String,
    pub(super) code: String,
    pub(super) step: String,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

impl State {
    /// Returns the sum of the samples of a metric with this label; of all, if it is `None`.
    pub(super) fn sum(&self, metric: &str, label: Option<(&str, &str)>) -> f64 {
        let fits = |sample: &&Sample| {
            sample.name == metric
                && label.is_none_or(|(name, value)| {
                    sample.labels.get(name).is_some_and(|given| given == value)
                })
        };
        self.samples.iter().filter(fits).map(|sample| sample.value).sum()
    }
}

/// Returns the address of the state, from the address that the user gave.
pub(super) fn url(given: &str) -> String {
    let address = given.trim_end_matches('/');
    let scheme = if address.contains("://") { "" } else { "http://" };
    format!("{scheme}{address}/state.json")
}

/// Reads the state. The error says what to do.
pub(super) fn read(url: &str) -> Result<State, String> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let agent: ureq::Agent =
        ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().into();
    let mut response = agent.get(url).call().map_err(|error| {
        format!("{url} does not answer ({error}); start the pipeline with --listen HOST:PORT")
    })?;
    let text = response.body_mut().read_to_string();
    let text = text.map_err(|error| format!("{url}: {error}"))?;
    serde_json::from_str(&text)
        .map_err(|error| format!("{url} is not the state of a Forebay pipeline: {error}"))
}

#[cfg(test)]
mod tests {
    use super::url;

    #[test]
    fn an_address_may_lack_its_scheme() {
        let expected = "http://h:1/state.json";
        assert_eq!(["h:1", "http://h:1", "http://h:1/"].map(url), [expected; 3]);
        assert_eq!(url("https://h"), "https://h/state.json");
    }
}
