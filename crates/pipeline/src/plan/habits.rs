//! Pipeline files as people write them from habit: with variables, with the spellings of other
//! programs, and with numbers far too large.

use std::path::Path;

use super::Plan;

fn parse(text: &str) -> Result<Plan, String> {
    let lookup = |name: &str| {
        let value = match name {
            "BATCH" => " 7 ",
            "YES" => "true",
            "RATIO" => "0.25",
            "WORD" => "seven",
            "MILLIS" => "30000",
            "S" => "hunter2 | \"x\"",
            "PASSWORD" => "hunter2",
            _ => return None,
        };
        Some(value.to_owned())
    };
    Plan::parse(Path::new("pipeline.toml"), text, &lookup).map_err(|error| error.to_string())
}

fn with_step(step: &str) -> String {
    format!("[source.stdin]\n[[step]]\n{step}\n[sink.stdout]\n")
}

fn with_model(settings: &str) -> String {
    format!(
        "[source.stdin]\n[[step]]\npartition = 3\n[[step]]\nmap_batch = {{ model = \"m\" }}\n[sink.stdout]\n[model.m]\npath = \"m\"\n{settings}\n"
    )
}

fn kafka(rest: &str) -> String {
    format!("[source.kafka]\nbrokers = \"a:9092\"\ntopic = \"in\"\ngroup = \"g\"\n{rest}\n")
}

/// Asserts that the file is refused with `expected` in the message or the hint.
#[track_caller]
fn refused(text: &str, expected: &str) {
    match parse(text) {
        Ok(_) => panic!("not refused:\n{text}"),
        Err(error) => assert!(error.contains(expected), "{error}\nwithout: {expected}"),
    }
}

#[test]
fn numbers_beyond_their_limit_are_refused_with_the_limit_d4() {
    for (text, limit) in [
        (with_model("replicas = 9223372036854775807"), "from 1 to 256"),
        (with_model("replicas = 100000"), "from 1 to 256"),
        (with_model("threads = 1000000"), "from 1 to 1024"),
        (with_model("threads = 0"), "from 1 to 1024"),
        (with_step("map_async = { jq = \".\", parallelism = 1000000 }"), "from 1 to 512"),
        (with_step("buffer = 9223372036854775807"), "from 1 to 10000000"),
        (with_step("buffer = 99999999999999999999999"), "from 1 to 10000000"),
        (with_step("partition = { size = -1 }"), "from 1 to 10000000"),
        (with_step("zip = { capacity = 10000001 }"), "from 1 to 10000000"),
        (with_step("delay = { by = \"900y\" }"), "at most \"3650d\""),
        (
            kafka("max_in_flight_bytes = 9223372036854775807\n[sink.stdout]"),
            "from 1 to 1099511627776",
        ),
    ] {
        refused(&text, limit);
    }
    parse(&with_model("replicas = 256\nthreads = 1024")).unwrap();
    parse(&with_step("buffer = 10000000")).unwrap();
}

#[test]
fn variables_give_numbers_and_booleans_where_the_file_needs_them_d5() {
    let plan = parse(&kafka(
        "max_in_flight = \"${BATCH}\"\nmax_uncommitted = \"${NONE:-64}\"\n[[step]]\n\
         timed_window = { interval = \"1s\", max_size = \"${BATCH}\", emit_empty = \"${YES}\" }\n\
         [sink.kafka]\ntopic = \"${BATCH}\"\n[on_failure]\nbreaker = { ratio = \"${RATIO}\", of = \"1${NONE:-0}\" }",
    ))
    .unwrap();
    let source = plan.kafka_sources().next().unwrap();
    assert_eq!((source.max_in_flight.get(), source.max_uncommitted.get()), (7, 64));
    assert_eq!(plan.kafka_sinks().next().unwrap().topic, " 7 ", "a text stays a text");
    let breaker = plan.on_failure.breaker.unwrap();
    assert_eq!((breaker.ratio.get(), breaker.of.get()), (0.25, 10));
    parse(&with_step("partition = \"${BATCH}\"")).unwrap();

    refused(&with_step("partition = \"${WORD}\""), "expected a whole number from 1 to 10000000");
    refused(&with_step("partition = \"${MILLIS}000\""), "from 1 to 10000000");
}

#[test]
fn a_value_in_the_wrong_form_has_a_hint_with_the_right_one_d5() {
    for (text, hint) in [
        (with_step("partition = \"64\""), "leave out the quotes: 64"),
        (with_step("slice = { end = \"10\" }"), "leave out the quotes: 10"),
        (with_model("truncate = \"true\""), "leave out the quotes: true"),
        (with_step("delay = 30000"), "write a unit: \"30s\" for 30000 milliseconds"),
        (with_step("delay = \"5\""), "\"5ms\" for 5 milliseconds, \"5s\" for 5 seconds"),
        (with_step("delay = 1.5"), "such as \"5ms\" or \"2s\""),
        (with_step("map = 5"), "put it in quotes: \"5\""),
        (kafka("[sink.kafka]\ntopic = \"out\"\nreply_topics = \"a\""), "write a list: [\"a\"]"),
    ] {
        refused(&text, hint);
    }
}

#[test]
fn options_may_be_numbers_booleans_and_names_without_quotes_d5() {
    let options = "[source.kafka.options]\nsession.timeout.ms = 6000\nheartbeat.interval.ms = 1500\n\
                   \"check.crcs\" = true\nenable.ssl.certificate.verification = false\n[sink.stdout]";
    let plan = parse(&kafka(options)).unwrap();
    let options = plan.kafka_sources().next().unwrap().options.clone();
    let options: Vec<_> =
        options.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        options,
        [
            "check.crcs=true",
            "enable.ssl.certificate.verification=false",
            "heartbeat.interval.ms=1500",
            "session.timeout.ms=6000"
        ]
    );
    let twice = "[source.kafka.options]\n\"a.b\" = 1\na.b = 2\n[sink.stdout]";
    refused(&kafka(twice), "`a.b` is set twice");
    refused(
        &kafka("options = { \"a.b\" = [1] }\n[sink.stdout]"),
        "a string, a number or a boolean",
    );
}

#[test]
fn the_caret_is_at_the_line_of_a_wrong_setting_d6() {
    let source = "[source.kafka.options]\n\"client.id\" = \"a\"\n";
    let sink = "[sink.kafka]\ntopic = \"out\"\n[sink.kafka.options]\n\"client.id\" = \"a\"\n";
    let letters = "[sink.stdout]\n[on_failure]\n[on_failure.policy.dead_letter]\ntopic = \"d\"\n\
                   [on_failure.policy.dead_letter.options]\n";
    for (text, line) in [
        (kafka(&format!("{source}\"no.such\" = \"1\"\n[sink.stdout]")), 7),
        (kafka(&format!("{source}no.such.option = 1\n[sink.stdout]")), 7),
        (kafka(&format!("{source}\"fetch.wait.max.ms\" = \"often\"\n[sink.stdout]")), 7),
        (kafka(&format!("{source}\"enable.auto.commit\" = true\n[sink.stdout]")), 7),
        (kafka(&format!("{sink}\"compression.type\" = \"rar\"")), 9),
        (kafka(&format!("{letters}\"no.such\" = \"1\"")), 10),
        (kafka(&format!("{letters}linger.mss = 1")), 10),
        ("[source.http]\nmax_body = 5\nlisten = \":80\"\n[sink.http]\n".to_owned(), 3),
        (kafka("drain_timeout = \"1h\"\n[sink.stdout]"), 5),
    ] {
        refused(&text, &format!("--> pipeline.toml:{line}:"));
    }
}

#[test]
fn the_spellings_of_other_programs_have_hints_d7() {
    let kafka_with = |key: &str| format!("[source.kafka]\n{key}\n[sink.stdout]\n");
    for (text, hint) in [
        (with_step("map = .").as_str(), "a text is in quotes: map = \".\""),
        (&with_step("map = .text | \"x\""), "a text is in quotes: map = '.text | \"x\"'"),
        (&with_step("delay = 5ms"), "a text is in quotes: delay = \"5ms\""),
        (
            &with_step("partition = { size = 3, timeout = 5ms }"),
            "a text is in quotes: timeout = \"5ms\"",
        ),
        (
            &kafka_with("brokers = localhost:9092"),
            "a text is in quotes: brokers = \"localhost:9092\"",
        ),
        (
            &with_model("").replace("{ model = \"m\" }", "\"m\""),
            "to call the model, write `map_batch = { model = \"m\" }`",
        ),
        (&kafka_with("bootstrap_servers = \"a\""), "did you mean `brokers`?"),
        (&kafka_with("\"bootstrap.servers\" = \"a\""), "did you mean `brokers`?"),
        (&kafka_with("topics = [\"a\"]"), "did you mean `topic`?"),
        (&kafka_with("group_id = \"a\""), "did you mean `group`?"),
        (&kafka_with("auto.offset.reset = \"latest\""), "belong in `options`"),
        (
            &kafka_with("brokers = [\"a:9092\", \"b:9092\"]"),
            "separated by commas: \"a:9092,b:9092\"",
        ),
        (&with_step("adaptive_window = { batch_size = 3 }"), "did you mean `max_size`?"),
        (&with_step("map_async = { jq = \".\", workers = 3 }"), "did you mean `parallelism`?"),
        ("[source.stdin]\n[[steps]]\nmap = \".\"\n[sink.stdout]\n", "did you mean `step`?"),
        ("[source.stdin]\n[steps]\nmap = \".\"\n[sink.stdout]\n", "did you mean `step`?"),
        ("[sources.stdin]\n[sink.stdout]\n", "did you mean `source`?"),
        ("[source]\ntype = \"kafka\"\n[sink.stdout]\n", "such as `[source.kafka]`"),
    ] {
        refused(text, hint);
    }
}

#[test]
fn no_message_shows_the_value_of_a_variable_a12() {
    for text in [
        with_step("map = \"${S}\""),
        with_step("filter = \".a ++ ${S}\""),
        with_step("starmap = { args = [\"${S}\"], jq = \".\" }"),
        with_step("starmap = { args = [\"a\"], jq = \"${S}\" }"),
        with_step("accumulate = { step = \"${PASSWORD}\" }"),
        with_step("delay = \"${S}\""),
        with_step("delay = \"${PASSWORD}s\""),
        with_step("partition = \"${S}\""),
        with_step("pluck = \"${S}\""),
        with_step("buffer = { size = 1, overflow = \"${S}\" }"),
        with_step("name = \"${PASSWORD}.\"\nmap = \".\""),
        with_step("from = \"${PASSWORD}\"\nmap = \".\""),
        with_step("name = \"${S}\"\nmap = \".\"\n[[step]]\nname = \"${S}\"\nmap = \".\""),
        with_model("device = \"${S}\""),
        with_model("pooling = \"${PASSWORD}\""),
        kafka("format = \"${S}\"\n[sink.stdout]"),
        kafka("options = { \"compression.type\" = \"${S}\" }\n[sink.stdout]"),
        kafka("options = { \"fetch.wait.max.ms\" = \"${PASSWORD}\" }\n[sink.stdout]"),
        "delivery = \"${PASSWORD}\"\n[source.stdin]\n[sink.stdout]\n".to_owned(),
        "[source.http]\nlisten = \"${S}\"\n[sink.http]\n".to_owned(),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(!error.contains("hunter2") && error.contains("${"), "{error}");
    }
    let error = parse(&with_step("delay = \"${MILLIS}\"")).unwrap_err();
    assert!(!error.contains("30s") && !error.contains("30000"), "{error}");
}

#[test]
fn graphs_failures_and_debug_output_show_variables_instead_of_values_a12() {
    let text = kafka("[[step]]\nname = \"a ${PASSWORD}\"\nmap = \".\"\n[sink.file]\npath = \"${PASSWORD}.jsonl\"\n")
        .replace("\"in\"", "\"${PASSWORD}\"");
    let plan = parse(&text).unwrap();
    for shown in [plan.graph().to_mermaid(), plan.graph().to_dot(), format!("{plan:?}")] {
        assert!(!shown.contains("hunter2") && shown.contains("${PASSWORD}"), "{shown}");
    }
    assert_eq!(plan.kafka_sources().next().unwrap().topic, "hunter2");
}

#[test]
fn a_single_name_is_enough_for_emit_on_e10() {
    let join = |emit_on: &str| {
        let join = format!("combine_latest = {{ emit_on = {emit_on} }}");
        with_step(&format!(
            "name = \"a\"\nmap = \".\"\n[[step]]\nname = \"b\"\nfrom = \"stdin\"\nmap = \".\"\n[[step]]\nfrom = [\"a\", \"b\"]\n{join}"
        ))
    };
    parse(&join("\"a\"")).unwrap();
    parse(&join("[\"a\", \"b\"]")).unwrap();
    refused(&join("\"c\""), "`c` is not one of the joined steps");
    refused(&join("5"), "a name, or a list of names");
}
