//! The pipeline files that the workers run.

use std::fmt::Write as _;

/// The delivery guarantee of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Delivery {
    #[value(name = "at_least_once")]
    AtLeastOnce,
    #[value(name = "exactly_once")]
    ExactlyOnce,
}

impl Delivery {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtLeastOnce => "at_least_once",
            Self::ExactlyOnce => "exactly_once",
        }
    }
}

/// A pipeline file. The fields are the settings that scenarios change.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) delivery: Delivery,
    pub(crate) brokers: String,
    /// Brokers of the sink, if they are not `brokers`.
    pub(crate) sink_brokers: Option<String>,
    pub(crate) requests: String,
    pub(crate) replies: String,
    pub(crate) group: String,
    pub(crate) max_in_flight: u32,
    pub(crate) commit_interval: &'static str,
    pub(crate) drain_timeout: &'static str,
    /// Longest time that a transaction may be open: less than the session timeout.
    pub(crate) transaction_timeout: &'static str,
    /// Settings of librdkafka for the source.
    pub(crate) source_options: Vec<(&'static str, String)>,
    /// Settings of librdkafka for the sink.
    pub(crate) sink_options: Vec<(&'static str, String)>,
    /// Whether each worker is a static member, under its own name.
    pub(crate) static_members: bool,
    /// Whether the answers to each key, including errors, leave in the order of its requests.
    pub(crate) order_by_key: bool,
    /// Topic for the requests that fail. If it is `None`, they get error replies.
    pub(crate) dead_letters: Option<String>,
    pub(crate) steps: String,
}

/// A step that reduces a request to `{id, seq, n}`. A later step adds `twice`, and the checks
/// expect the result as the value of the reply. If the request has a number `pad`, its reply gets
/// that many bytes more.
pub(crate) const ANSWER: &str = r#"
[[step]]
map = '{id, seq, n: (.n + 0)} + (if .pad then {pad: ("x" * .pad)} else {} end)'
"#;

/// Steps that enrich each request with `twice`, computed in batches as a model would.
pub(crate) const BATCH: &str = r#"
[[step]]
timed_window = { interval = "5ms", max_size = 32 }

[[step]]
map_batch = { jq = "map(. + .)", input = ".n", output = ".twice" }
"#;

/// Returns a step that delays every request by `by`, in place of a slow model.
pub(crate) fn slow(by: &str) -> String {
    format!("\n[[step]]\ndelay = {{ by = \"{by}\", capacity = 256 }}\n")
}

impl Pipeline {
    pub(crate) fn new(delivery: Delivery, brokers: String, name: &str) -> Self {
        Self {
            delivery,
            brokers,
            sink_brokers: None,
            requests: format!("{name}-requests"),
            replies: format!("{name}-replies"),
            group: name.to_owned(),
            max_in_flight: 256,
            commit_interval: "200ms",
            drain_timeout: "900ms",
            transaction_timeout: "1900ms",
            source_options: vec![
                ("session.timeout.ms", "2000".into()),
                ("heartbeat.interval.ms", "300".into()),
            ],
            sink_options: Vec::new(),
            static_members: false,
            order_by_key: false,
            dead_letters: None,
            steps: format!("{ANSWER}{}{BATCH}", slow("20ms")),
        }
    }

    /// Sets a session timeout of 6 s, which is longer than most faults, and the timeouts that
    /// depend on it.
    pub(crate) fn long_session(&mut self) {
        self.drain_timeout = "2500ms";
        self.transaction_timeout = "5s";
        for (name, value) in &mut self.source_options {
            if *name == "session.timeout.ms" {
                "6000".clone_into(value);
            }
        }
    }

    /// Returns the pipeline file for one worker.
    pub(crate) fn text(&self, worker: &str) -> String {
        let mut text = format!("name = {:?}\n", self.group);
        if self.delivery == Delivery::ExactlyOnce {
            text += "delivery = \"exactly_once\"\n";
        }
        if self.order_by_key {
            text += "order = \"key\"\n";
        }
        write_table(
            &mut text,
            "source.kafka",
            &[
                ("brokers", quoted(&self.brokers)),
                ("topic", quoted(&self.requests)),
                ("group", quoted(&self.group)),
                ("max_in_flight", self.max_in_flight.to_string()),
                ("commit_interval", quoted(self.commit_interval)),
                ("drain_timeout", quoted(self.drain_timeout)),
            ],
        );
        let mut options = self.source_options.clone();
        if self.static_members {
            options.push(("group.instance.id", worker.to_owned()));
        }
        write_options(&mut text, "source.kafka.options", &options);
        text += &self.steps;
        let mut sink = vec![("topic", quoted(&self.replies))];
        if let Some(brokers) = &self.sink_brokers {
            sink.push(("brokers", quoted(brokers)));
        }
        write_table(&mut text, "sink.kafka", &sink);
        write_options(&mut text, "sink.kafka.options", &self.sink_options);
        if let Some(topic) = &self.dead_letters {
            let policy =
                format!("{{ dead_letter = {{ topic = {topic:?}, delivery_timeout = \"2s\" }} }}");
            write_table(&mut text, "on_failure", &[("policy", policy)]);
        }
        if self.delivery == Delivery::ExactlyOnce {
            let id = format!("{}-{worker}", self.group);
            write_table(
                &mut text,
                "transactions",
                &[
                    ("id", quoted(&id)),
                    ("commit_interval", quoted(self.commit_interval)),
                    ("timeout", quoted(self.transaction_timeout)),
                ],
            );
        }
        text
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

fn write_table(text: &mut String, name: &str, entries: &[(&str, String)]) {
    // Writing into a string does not fail.
    writeln!(text, "\n[{name}]").ok();
    for (key, value) in entries {
        writeln!(text, "{key} = {value}").ok();
    }
}

fn write_options(text: &mut String, name: &str, options: &[(&str, String)]) {
    let entries: Vec<_> =
        options.iter().map(|(key, value)| (format!("{key:?}"), quoted(value))).collect();
    let entries: Vec<_> =
        entries.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    write_table(text, name, &entries);
}
