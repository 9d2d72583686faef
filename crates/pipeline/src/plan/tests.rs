//! The error messages for wrong pipeline files, and checks of the shipped files and the
//! documentation.

use std::collections::BTreeMap;
use std::error::Error as _;
use std::num::NonZeroUsize;
use std::path::Path;

use forebay_model::{
    ClassificationOptions, DeviceChoice, EmbeddingOptions, HubModel, PoolingMode, Precision,
    Scores, Task, TextModelOptions,
};
use forebay_stream::NodeKind;

use super::{ModelPlan, Plan};
use crate::ConfigError;
use crate::registry::Registry;

fn parse(text: &str) -> Result<Plan, String> {
    let lookup = |name: &str| (name == "HOST").then(|| "kafka".to_owned());
    Plan::parse(Path::new("pipeline.toml"), text, &lookup).map_err(|error| error.to_string())
}

const MODEL: &str = "[model.sentiment]\npath = \"models/sentiment\"\n";

/// Returns a pipeline from standard input to standard output, with the given steps.
fn with_steps(steps: &[&str]) -> String {
    let steps = steps.join("\n[[step]]\n");
    let steps = if steps.is_empty() { steps } else { format!("[[step]]\n{steps}\n") };
    format!("[source.stdin]\n{steps}[sink.stdout]\n{MODEL}")
}

/// Returns a pipeline that calls a model, which has the given settings.
fn with_model(settings: &str) -> String {
    let steps = format!("[[step]]\n{WINDOW}\n[[step]]\n{CALL}\n");
    format!("[source.stdin]\n{steps}[sink.stdout]\n[model.sentiment]\n{settings}\n")
}

const WINDOW: &str = "timed_window = { interval = \"5ms\", max_size = 64 }";
const CALL: &str = "map_batch = { model = \"sentiment\" }";

/// Returns a pipeline file that begins with a Kafka source and ends with `rest`.
fn kafka(rest: &str) -> String {
    format!("[source.kafka]\nbrokers = \"a:9092\"\ntopic = \"in\"\ngroup = \"g\"\n{rest}")
}

/// Files with a mistake in a source, a sink, a model or a setting, and the names of their
/// snapshots.
fn wrong_files() -> Vec<(&'static str, String)> {
    vec![
        ("not_toml", "[source.stdin\n".to_owned()),
        ("no_source", "[sink.stdout]\n".to_owned()),
        (
            "unknown_table",
            "[source.stdin]\n[sink.stdout]\n[modle.sentiment]\npath = \"x\"\n".to_owned(),
        ),
        ("unknown_source", "[source.kafak]\ntopic = \"a\"\n[sink.stdout]\n".to_owned()),
        (
            "missing_topic",
            "[source.kafka]\nbrokers = \"a:9092\"\ngroup = \"g\"\n[sink.stdout]\n".to_owned(),
        ),
        (
            "unknown_key",
            "[source.kafka]\nbrokers = \"a:9092\"\ntopics = \"in\"\ngroup = \"g\"\n[sink.stdout]\n"
                .to_owned(),
        ),
        (
            "reserved_option",
            kafka("options = { \"enable.auto.commit\" = \"true\" }\n[sink.stdout]\n"),
        ),
        ("tokens_of_no_text_model", {
            let window = "adaptive_window = { max_tokens = 512 }";
            with_steps(&[window, "map_batch = \"map(. * 2)\""])
        }),
        ("cost_and_tokens", {
            let window = "adaptive_window = { cost = \".n\", max_cost = 9, max_tokens = 512 }";
            with_steps(&[window, CALL])
        }),
        ("model_from_nowhere", with_model("device = \"cpu\"")),
        ("model_from_two_places", with_model("path = \"a\"\nhub = \"b/c\"")),
        ("revision_of_a_path", with_model("path = \"a\"\nrevision = \"main\"")),
        ("no_name_on_the_hub", with_model("hub = \"https://huggingface.co/b/c\"")),
        ("device_and_devices", with_model("path = \"a\"\ndevice = \"cpu\"\ndevices = [\"gpu\"]")),
        ("no_devices", with_model("path = \"a\"\ndevices = []")),
        ("unknown_device_of_several", with_model("path = \"a\"\ndevices = [\"cpu\", \"tpu\"]")),
        ("unknown_pooling", with_model("path = \"a\"\npooling = \"sum\"")),
        ("unknown_precision", with_model("path = \"a\"\nprecision = \"int8\"")),
        ("unknown_option", kafka("options = { \"no.such.option\" = \"1\" }\n[sink.stdout]\n")),
        ("replies_into_requests", kafka("[sink.kafka]\ntopic = \"in\"\n")),
        (
            "named_replies_into_requests",
            kafka("[sink.kafka]\ntopic = \"out\"\nreply_topics = [\"in\", \"other\"]\n"),
        ),
        ("no_deadline_header", kafka("[sink.stdout]\n[deadline]\ntimeout_header = \"\"\n")),
        (
            "same_file",
            "[source.file]\npath = \"a.jsonl\"\n[sink.file]\npath = \"a.jsonl\"\n".to_owned(),
        ),
        (
            "never_full_together",
            kafka(
                "max_in_flight = 8\n[[step]]\npartition = { size = 5 }\n[[step]]\nflatten = {}\n[[step]]\n\
                 partition = { size = 4 }\n[sink.stdout]\n",
            ),
        ),
        ("sink_without_brokers", "[source.stdin]\n[sink.kafka]\ntopic = \"out\"\n".to_owned()),
        ("unknown_step", with_steps(&["timed_windows = { interval = \"5ms\", max_size = 64 }"])),
        ("unknown_step_key", with_steps(&["timed_window = { interval = \"5ms\", max_sise = 64 }"])),
        ("too_many_in_flight", kafka("max_in_flight = 9000000000000000000\n[sink.stdout]\n")),
        ("zero_size", with_steps(&["timed_window = { interval = \"5ms\", max_size = 0 }"])),
        ("zero_interval", with_steps(&["timed_window = { interval = \"0s\", max_size = 64 }"])),
        ("bad_duration", with_steps(&["partition = { size = 4, timeout = \"5 parsecs\" }"])),
        ("number_for_duration", with_steps(&["partition = { size = 4, timeout = 5 }"])),
        ("two_operators_in_a_step", with_steps(&["flatten = {}\npartition = { size = 2 }"])),
        ("model_before_window", with_steps(&[CALL])),
        ("unknown_model", with_steps(&[WINDOW, "map_batch = { model = \"sentimant\" }"])),
        (
            "no_models",
            format!("[source.stdin]\n[[step]]\n{WINDOW}\n[[step]]\n{CALL}\n[sink.stdout]\n"),
        ),
        ("unknown_device", format!("{}device = \"tpu\"\n", with_steps(&[]))),
        ("unknown_task", format!("{}task = \"translation\"\n", with_steps(&[]))),
        (
            "unset_variable",
            "[source.file]\npath = \"${INPUT}/requests.jsonl\"\n[sink.stdout]\n".to_owned(),
        ),
        (
            "never_full",
            kafka("max_in_flight = 8\n[[step]]\npartition = { size = 9 }\n[sink.stdout]\n"),
        ),
    ]
}

/// Returns a pipeline from topic to topic, with `head` at its beginning and `steps` before its
/// sink.
fn topics(head: &str, steps: &str) -> String {
    format!("{head}\n{}{steps}[sink.kafka]\ntopic = \"out\"\n", kafka(""))
}

/// Files with a mistake in `delivery`, `order`, `[transactions]` or `[on_failure]`.
fn wrong_guarantees() -> Vec<(&'static str, String)> {
    let exactly_once = "delivery = \"exactly_once\"\n";
    vec![
        ("unknown_delivery", topics("delivery = \"exactly-once\"", "")),
        ("transactions_at_least_once", topics("[transactions]\nid = \"a\"", "")),
        ("exactly_once_from_stdin", format!("{exactly_once}{}", with_steps(&[]))),
        ("exactly_once_to_stdout", format!("{exactly_once}{}", kafka("[sink.stdout]\n"))),
        (
            "exactly_once_elsewhere",
            format!(
                "{exactly_once}{}",
                kafka("[sink.kafka]\nbrokers = \"b:9092\"\ntopic = \"out\"\n")
            ),
        ),
        ("exactly_once_with_memory", topics(exactly_once, "[[step]]\nunique = {}\n")),
        (
            "transactions_longer_than_the_session",
            topics(&format!("{exactly_once}[transactions]\ntimeout = \"60s\""), ""),
        ),
        (
            "commits_rarer_than_the_timeout",
            topics(&format!("{exactly_once}[transactions]\ncommit_interval = \"8s\""), ""),
        ),
        ("unknown_policy", topics("[on_failure]\npolicy = \"retry\"", "")),
        (
            "dead_letters_into_requests",
            topics("[on_failure]\npolicy = { dead_letter = { topic = \"in\" } }", ""),
        ),
        (
            "dead_letters_among_replies",
            topics("[on_failure]\npolicy = { dead_letter = { topic = \"out\" } }", ""),
        ),
        (
            "dead_letters_of_lines",
            format!(
                "[on_failure]\npolicy = {{ dead_letter = {{ topic = \"dead\", brokers = \"a:9092\" }} }}\n{}",
                with_steps(&[])
            ),
        ),
        ("breaker_of_nothing", topics("[on_failure]\nbreaker = { ratio = 0.0 }", "")),
        ("no_attempts", topics("[on_failure]\nretry = { attempts = 0, backoff = \"1s\" }", "")),
        (
            "retry_before_a_window_without_end",
            topics(
                "[on_failure]\nretry = { attempts = 3, backoff = \"1s\" }",
                "[[step]]\npartition = 4\n[[step]]\nflatten = {}\n",
            ),
        ),
        (
            "order_with_two_sinks",
            format!(
                "{}[sink.stdout]\n",
                topics("order = \"key\"", "[[step]]\nname = \"a\"\nmap = \".\"\n")
            ),
        ),
    ]
}

/// Returns whether a pipeline with these steps can deliver exactly once, or the reason why not.
fn exactly_once(steps: &[&str]) -> Result<(), String> {
    let steps = format!("[[step]]\n{}\n", steps.join("\n[[step]]\n"));
    let models = "[model.sentiment]\npath = \"m\"\n";
    let text = format!("{}{models}", topics("delivery = \"exactly_once\"", &steps));
    let registry = Registry::new()
        .step("remembers", |_: &BTreeMap<String, i64>, flow| flow)
        .stateless_step("forgets", |_: &BTreeMap<String, i64>, flow| flow);
    let plan = Plan::parse_with(Path::new("pipeline.toml"), &text, &|_| None, &registry);
    plan.map(|_| ()).map_err(|error| error.to_string())
}

#[test]
fn exactly_once_refuses_steps_whose_results_depend_on_several_requests() {
    let windows = [
        "partition = { size = 4, timeout = \"1s\" }",
        "timed_window = \"1s\"",
        "adaptive_window = {}",
    ];
    for window in windows {
        let arrays: [&[&str]; 3] =
            [&[window], &[window, "map = \"length\""], &[window, "filter = \"length > 1\""]];
        for steps in arrays {
            let refused = exactly_once(steps).unwrap_err();
            let of_several =
                refused.contains("made of several requests") && refused.contains("at_least_once");
            assert!(of_several, "{steps:?}: {refused}");
        }
        for reduces in ["fold = { step = \". + $item\" }", "len = {}"] {
            let refused = exactly_once(&[window, reduces]).unwrap_err();
            assert!(refused.contains("depend on several requests"), "{reduces}: {refused}");
        }
        assert_eq!(exactly_once(&[window, "map_batch = { model = \"sentiment\" }"]), Ok(()));
        assert_eq!(exactly_once(&[window, "flatten = {}"]), Ok(()));
    }
    let refused = exactly_once(&["remembers = {}"]).unwrap_err();
    assert!(refused.contains("stateless_step"), "{refused}");
    assert_eq!(exactly_once(&["forgets = {}"]), Ok(()));
    // An array within one request is not a batch.
    assert_eq!(exactly_once(&["fold = { step = \". + $item\" }"]), Ok(()));
    assert_eq!(exactly_once(&["len = {}"]), Ok(()));
}

#[test]
fn a_window_that_an_http_source_can_never_fill_is_refused() {
    let file = |steps: &str| {
        format!(
            "[source.http]\nlisten = \"127.0.0.1:1\"\nmax_in_flight = 8\n{steps}[[step]]\nflatten = {{}}\n[sink.http]\n"
        )
    };
    let parse = |text: &str| Plan::parse(Path::new("pipeline.toml"), text, &|_| None);
    let refused = parse(&file("[[step]]\npartition = 9\n")).unwrap_err().to_string();
    assert!(refused.contains("`max_in_flight`"), "{refused}");
    parse(&file("[[step]]\npartition = 8\n")).unwrap();
}

/// Files with a mistake in a step or its `from`.
fn wrong_steps() -> Vec<(&'static str, String)> {
    vec![
        ("model_after_expression", with_steps(&[WINDOW, "map = \".\"", CALL])),
        ("not_jq", with_steps(&["map = \".text |\""])),
        ("unknown_filter", with_steps(&["filter = \".text | lenght > 3\""])),
        ("not_a_pointer", with_steps(&["pluck = \"text\""])),
        ("a_bad_name_for_a_member", with_steps(&["starmap = { args = [\"a b\"], jq = \".\" }"])),
        ("number_for_jq", with_steps(&["map = 5"])),
        ("not_a_table", "[source.stdin]\n[sink]\nstdout = 5\n".to_owned()),
        ("steps_as_a_table", "[source.stdin]\n[step]\nmap = \".\"\n[sink.stdout]\n".to_owned()),
        ("empty_step", with_steps(&["name = \"a\""])),
        ("dot_in_a_name", with_steps(&["name = \"a.b\"\nmap = \".\""])),
        ("two_of_one_name", with_steps(&["name = \"a\"\nmap = \".\"", "name = \"a\"\nmap = \".\""])),
        ("unknown_from", with_steps(&["name = \"texts\"\nmap = \".\"", "from = \"text\"\nmap = \".\""])),
        ("empty_from", with_steps(&["from = []\nmap = \".\""])),
        ("from_a_number", with_steps(&["from = 5\nmap = \".\""])),
        ("two_flows_for_one", with_steps(&["from = [\"stdin\", \"stdin\"]\nmap = \".\""])),
        ("one_flow_for_several", with_steps(&["union = {}"])),
        ("wrong_emit_on", with_steps(&["from = [\"stdin\", \"stdin\"]\ncombine_latest = { emit_on = [\"stdout\"] }"])),
        ("split_without_a_way", with_steps(&["name = \"a\"\nsplit = \".\"", "from = \"a\"\nmap = \".\""])),
        ("after_a_split", with_steps(&["split = \".\"", "map = \".\""])),
        ("way_of_a_map", with_steps(&["name = \"a\"\nmap = \".\"", "from = \"a.true\"\nmap = \".\""])),
        ("way_left_over", with_steps(&["name = \"a\"\nsplit = \".\"", "from = \"a.true\"\nmap = \".\""])),
        ("step_left_over", with_steps(&["map = \".\"", "from = \"stdin\"\nmap = \".\""])),
        (
            "source_left_over",
            "[source.stdin]\n[source.interval]\nevery = \"1s\"\n[[step]]\nfrom = \"stdin\"\nmap = \".\"\n[sink.stdout]\n"
                .to_owned(),
        ),
        (
            "which_source",
            "[source.stdin]\n[source.interval]\nevery = \"1s\"\n[[step]]\nmap = \".\"\n[sink.stdout]\n".to_owned(),
        ),
        ("two_stdins", "[[source.stdin]]\nname = \"a\"\n[[source.stdin]]\nname = \"b\"\n[[step]]\nfrom = [\"a\", \"b\"]\nunion = {}\n[sink.stdout]\n".to_owned()),
        ("sink_of_two", with_steps(&["map = \".\""]).replace("[sink.stdout]", "[sink.stdout]\nfrom = [\"stdin\", \"stdin\"]")),
        ("replies_to_nobody", "[source.stdin]\n[sink.http]\n".to_owned()),
        ("bad_address", "[source.http]\nlisten = \"\"\n[sink.http]\n".to_owned()),
    ]
}

/// Files with a mistake in a loop or an operator's settings, and windows that would never be full.
fn wrong_loops() -> Vec<(&'static str, String)> {
    vec![
        (
            "circle",
            with_steps(&[
                "name = \"a\"\nfrom = [\"stdin\", \"b\"]\nunion = {}",
                "name = \"b\"\nmap = \".\"",
            ]),
        ),
        ("feedback_to_nowhere", with_steps(&["feedback = {}", "from = \"stdin\"\nmap = \".\""])),
        (
            "feedback_without_a_loop",
            with_steps(&["name = \"f\"\nfeedback = {}", "from = [\"stdin\", \"f\"]\nunion = {}"]),
        ),
        (
            "feedback_alone",
            with_steps(&[
                "from = [\"f\", \"f\"]\nunion = {}",
                "name = \"f\"\nfeedback = {}",
                "from = \"stdin\"\nmap = \".\"",
            ]),
        ),
        (
            "feedback_into_a_map",
            with_steps(&[
                "from = \"f\"\nmap = \".\"",
                "name = \"f\"\nfeedback = {}",
                "from = \"stdin\"\nmap = \".\"",
            ]),
        ),
        (
            "loop_without_an_exit",
            with_steps(&[
                "from = [\"stdin\", \"f\"]\nunion = {}",
                "name = \"f\"\nfeedback = {}",
                "from = \"stdin\"\nmap = \".\"",
            ]),
        ),
        (
            "window_in_a_loop",
            with_steps(&[
                "from = [\"stdin\", \"f\"]\nunion = {}",
                "partition = 3",
                "name = \"s\"\nsplit = \".\"",
                "name = \"f\"\nfrom = \"s.true\"\nfeedback = {}",
                "from = \"s.false\"\nmap = \".\"",
            ]),
        ),
        ("not_a_table_of_settings", with_steps(&["unique = \".\""])),
        ("negative_end", with_steps(&["slice = { end = -1 }"])),
        ("cost_without_a_limit", with_steps(&["adaptive_window = { cost = \".\" }"])),
        (
            "emit_on_nothing",
            with_steps(&["from = [\"stdin\", \"stdin\"]\ncombine_latest = { emit_on = [] }"]),
        ),
        ("nothing_to_call", with_steps(&[WINDOW, "map_batch = {}"])),
        ("huge_number", with_steps(&["partition = 99999999999999999999"])),
        (
            "keys_without_a_timeout",
            kafka("[[step]]\npartition = { size = 2, key = \".a\" }\n[sink.stdout]\n"),
        ),
    ]
}

/// Files with a mistake in `committed`.
fn wrong_commits() -> Vec<(&'static str, String)> {
    let committed = |rest: &str| kafka(&format!("committed = \"commits\"\n{rest}"));
    let to_sinks = "[[sink.stdout]]\nfrom = \"kafka\"\n[[sink.stdout]]\nfrom = \"commits\"\n";
    vec![
        (
            "committed_offsets_with_the_name_of_a_step",
            committed(&format!("[[step]]\nname = \"commits\"\nmap = \".\"\n{to_sinks}")),
        ),
        (
            "committed_offsets_with_the_name_of_their_source",
            kafka("committed = \"kafka\"\n[sink.stdout]\n"),
        ),
        ("committed_offsets_with_a_dot", kafka("committed = \"a.b\"\n[sink.stdout]\n")),
        ("committed_offsets_without_a_name", kafka("committed = true\n[sink.stdout]\n")),
        ("committed_offsets_that_nothing_takes", committed("[sink.stdout]\n")),
        (
            "committed_offsets_with_their_requests",
            committed("[[step]]\nfrom = [\"kafka\", \"commits\"]\nunion = {}\n[sink.stdout]\n"),
        ),
        (
            "committed_offsets_flush_their_requests",
            committed(
                "[[step]]\nfrom = \"kafka\"\ncollect = { flush = \"commits\" }\n[sink.stdout]\n",
            ),
        ),
        (
            "committed_offsets_to_clients",
            committed(
                "[[sink.stdout]]\nfrom = \"kafka\"\n[sink.http]\nfrom = \"commits\"\n[source.http]\nlisten = \"127.0.0.1:1\"\n[sink.drop]\nfrom = \"http\"\n",
            ),
        ),
        (
            "committed_offsets_into_requests",
            committed(
                "[sink.stdout]\nfrom = \"kafka\"\n[sink.kafka]\nfrom = \"commits\"\ntopic = \"in\"\n",
            ),
        ),
        (
            "committed_offsets_of_another_source",
            "[source.stdin]\ncommitted = \"commits\"\n[sink.stdout]\n".to_owned(),
        ),
        ("no_time_to_be_stuck", kafka("stuck_timeout = \"0s\"\n[sink.stdout]\n")),
    ]
}

#[test]
fn every_mistake_in_a_file_has_a_message_a_place_and_an_explanation() {
    for (name, text) in wrong_files()
        .into_iter()
        .chain(wrong_guarantees())
        .chain(wrong_steps())
        .chain(wrong_loops())
        .chain(wrong_commits())
    {
        insta::assert_snapshot!(name, parse(&text).unwrap_err());
    }
}

#[test]
fn every_shipped_file_is_valid_and_can_be_drawn() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config");
    let mut files = 0;
    for file in std::fs::read_dir(config).unwrap() {
        let plan = Plan::load(&file.unwrap().path()).unwrap();
        let graph = plan.graph();
        let kinds: Vec<_> = graph.nodes().iter().map(forebay_stream::Node::kind).collect();
        assert!(kinds.contains(&NodeKind::Window) && kinds.contains(&NodeKind::Batch), "{kinds:?}");
        files += 1;
    }
    assert!(files >= 4);
}

#[test]
fn the_sentiment_pipeline_draws_as_the_readme_shows() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/sentiment.toml");
    insta::assert_snapshot!(Plan::load(&config).unwrap().graph().to_mermaid());
}

#[test]
fn a_model_is_loaded_for_the_largest_batch_of_its_windows() {
    let plan =
        parse(&with_steps(&["partition = { size = 8 }", CALL, "partition = { size = 32 }", CALL]))
            .unwrap();
    let ModelPlan::Text(model) = &plan.models["sentiment"] else { panic!("it is a text model") };
    assert_eq!(model.options.max_batch.get(), 32);
}

#[test]
fn a_model_that_no_step_names_is_not_loaded() {
    assert!(parse(&with_steps(&[])).unwrap().models.is_empty());
}

#[test]
fn the_sentiment_file_shows_every_key_of_its_source_and_sink_with_its_default() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let text = std::fs::read_to_string(root.join("config/sentiment.toml")).unwrap();
    let page = std::fs::read_to_string(root.join("docs/kafka.md")).unwrap();
    let shown: toml::Table = text.parse().unwrap();
    for (table, wrong) in [
        ("source", "[source.kafka]\nnope = 1\n[sink.stdout]\n".to_owned()),
        ("sink", kafka("[sink.kafka]\nnope = 1\n")),
        ("deadline", kafka("[sink.stdout]\n[deadline]\nnope = 1\n")),
    ] {
        // serde's message lists the known keys.
        let error = parse(&wrong).unwrap_err();
        let (_, known) = error.lines().next().unwrap().split_once("expected").unwrap();
        let keys: Vec<_> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() >= 2, "{error}");
        let ends = &shown[table];
        let has = |key: &str| ends.get("kafka").unwrap_or(ends).get(key).is_some();
        for key in keys {
            // The sink uses the brokers of its source.
            let is_shown = has(key) || text.contains(&format!("\n# {key} = "));
            assert!(is_shown || (table, key) == ("sink", "brokers"), "{table}: {key} is not shown");
            assert!(page.contains(&format!("`{key}`")), "docs/kafka.md does not name {key}");
        }
    }

    let plan = Plan::parse(Path::new("sentiment.toml"), &text, &|_| None).unwrap();
    let short = "[source.kafka]\nbrokers = \"localhost:9092\"\ntopic = \"requests\"\ngroup = \"sentiment\"\n\
                 [sink.kafka]\ntopic = \"replies\"\n";
    let defaults = parse(short).unwrap();
    assert!(plan.kafka_sources().eq(defaults.kafka_sources()));
    assert!(plan.kafka_sinks().eq(defaults.kafka_sinks()));
    assert_eq!(plan.deadlines.header, defaults.deadlines.header);
    assert_eq!(plan.deadlines.timeout_header, defaults.deadlines.timeout_header);
}

#[test]
fn docs_models_md_names_every_key_of_a_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let page = std::fs::read_to_string(root.join("docs/models.md")).unwrap();
    for wrong in [with_model("nope = 1"), with_steps(&["adaptive_window = { nope = 1 }", CALL])] {
        let error = parse(&wrong).unwrap_err();
        let (_, known) = error.lines().next().unwrap().split_once("expected").unwrap();
        let keys: Vec<_> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() >= 4, "{error}");
        for key in keys {
            assert!(page.contains(&format!("`{key}`")), "docs/models.md does not name {key}");
        }
    }
}

#[test]
fn every_key_of_a_model_becomes_an_option() {
    let settings = "hub = \"a/b\"\nrevision = \"v1\"\ndevices = [\"gpu:0\", \"gpu:1\"]\nreplicas = 2\n\
                    threads = 3\nprecision = \"f16\"\ntask = \"text-embedding\"\nmax_tokens = 128\n\
                    truncate = true\nprompt = \"query: \"\npooling = \"max\"\nnormalize = false\n\
                    dimensions = 64\ntop_k = 5\nscores = \"sigmoid\"";
    let plan = parse(&with_model(settings)).unwrap();
    let ModelPlan::Text(model) = &plan.models["sentiment"] else { panic!("it is a text model") };
    let hub = HubModel { repo: "a/b".to_owned(), revision: "v1".to_owned() };
    assert_eq!(model.hub, Some(hub));
    assert_eq!(model.devices, [DeviceChoice::Gpu(Some(0)), DeviceChoice::Gpu(Some(1))]);
    assert_eq!((model.replicas.get(), model.options.threads), (2, NonZeroUsize::new(3)));
    let expected = TextModelOptions {
        task: Some(Task::TextEmbedding),
        device: DeviceChoice::Gpu(Some(0)),
        truncate: true,
        max_tokens: NonZeroUsize::new(128),
        threads: NonZeroUsize::new(3),
        precision: Precision::F16,
        prompt: Some("query: ".to_owned()),
        embedding: EmbeddingOptions {
            pooling: Some(PoolingMode::Max),
            normalize: Some(false),
            dimensions: NonZeroUsize::new(64),
        },
        classification: ClassificationOptions {
            top_k: NonZeroUsize::new(5),
            scores: Some(Scores::Sigmoid),
        },
        ..TextModelOptions::new("")
    };
    assert_eq!(model.options, expected);
}

#[test]
fn a_sink_inherits_the_connection_options_of_a_source_at_the_same_brokers() {
    let source = "options = { \"security.protocol\" = \"SASL_SSL\", \"sasl.mechanisms\" = \"PLAIN\", \
                  \"sasl.username\" = \"u\", \"sasl.password\" = \"p\", \"fetch.wait.max.ms\" = \"5\" }\n";
    let options = |sink: &str| {
        let plan =
            parse(&kafka(&format!("{source}[sink.kafka]\ntopic = \"out\"\n{sink}"))).unwrap();
        let options = plan.kafka_sinks().next().unwrap().options.clone();
        options.into_iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
    };
    let sasl = ["sasl.mechanisms=PLAIN", "sasl.password=p", "sasl.username=u"];
    assert_eq!(options(""), [&sasl[..], &["security.protocol=SASL_SSL"]].concat());
    assert_eq!(
        options("options = { \"security.protocol\" = \"SASL_PLAINTEXT\" }"),
        [&sasl[..], &["security.protocol=SASL_PLAINTEXT"]].concat()
    );
    assert!(options("brokers = \"b:9092\"").is_empty(), "other brokers need their own options");
}

#[test]
fn the_topics_of_a_plan_include_the_one_for_dead_letters() {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/dead-letters.toml");
    let text = std::fs::read_to_string(config).unwrap();
    assert_eq!(parse(&text).unwrap().topics(), ["dead-letters", "replies", "requests"]);
}

#[test]
fn a_pipeline_that_follows_a_file_is_a_service() {
    let reads_lines = |source: &str| {
        let text = format!("{source}\n[sink.stdout]\n");
        parse(&text).unwrap().reads_lines()
    };
    assert!(reads_lines("[source.stdin]"));
    assert!(reads_lines("[source.file]\npath = \"a\""));
    assert!(!reads_lines("[source.file]\npath = \"a\"\nfollow = true"));
    assert!(!reads_lines("[source.interval]\nevery = \"1s\""));
}

#[test]
fn the_value_of_a_variable_is_not_part_of_any_message() {
    let lookup = |_: &str| Some("hunter2".to_owned());
    let text =
        kafka("options = { \"sasl.password\" = \"${PASSWORD}\", retries = [] }\n[sink.stdout]\n");
    let error = Plan::parse(Path::new("pipeline.toml"), &text, &lookup).unwrap_err().to_string();
    assert!(error.contains("${PASSWORD}") && !error.contains("hunter2"), "{error}");

    let text = kafka("options = { \"sasl.pasword\" = \"${PASSWORD}\" }\n[sink.stdout]\n");
    let error = Plan::parse(Path::new("pipeline.toml"), &text, &lookup).unwrap_err().to_string();
    assert!(error.contains("sasl.pasword") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_model_that_cannot_be_read_is_told_from_one_that_is_not_there_b10() {
    let check = |directory: &Path| {
        let text = with_model(&format!("path = \"{}\"", directory.display()));
        parse(&text).unwrap().check_models()
    };
    let directory = tempfile::tempdir().unwrap();
    let model = directory.path();
    let message = |error: ConfigError| match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    let missing = format!(
        "the model `sentiment` is not at {}: there is no config.json; correct its `path`, or put the model there",
        model.display()
    );
    assert_eq!(message(check(model).unwrap_err()), missing);
    std::fs::create_dir(model.join("config.json")).unwrap();
    assert_eq!(message(check(model).unwrap_err()), missing);
    std::fs::remove_dir(model.join("config.json")).unwrap();

    // Every user, also root, fails to open a link that points to itself.
    std::os::unix::fs::symlink("config.json", model.join("config.json")).unwrap();
    let found = message(check(model).unwrap_err());
    let start =
        format!("cannot read the directory of the model `sentiment`, {}; ", model.display());
    assert!(found.starts_with(&start) && found.contains("symbolic links"), "{found}");

    std::fs::write(model.join("modules.json"), "[]").unwrap();
    check(model).unwrap();
}
