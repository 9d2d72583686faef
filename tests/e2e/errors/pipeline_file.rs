//! Mistakes in a pipeline file, which `forebay check` finds.

use std::fs;

use tempfile::TempDir;

use super::{
    Case, brokers, case, exits_with, explain, kafka, listen, model, neighbour, options, stderr,
    step,
};
use crate::binary::{forebay, output};

fn variables() -> Vec<Case<String>> {
    vec![
        case(
            "a10",
            step("map = \"${NOPE}\""),
            [
                "the environment variable NOPE is not set",
                "p.toml:3:",
                "give a default: `${NOPE:-default}`",
            ],
        ),
        case(
            "a10",
            step("map = \"${A:-${B:-c}\""),
            ["`${` is not closed by `}`", "p.toml:3:", "write `$$` for a plain `$`"],
        ),
        neighbour(
            "a10",
            step("map = \"${A:-${NOPE}}\""),
            ["the environment variable NOPE is not set", "p.toml:3:", "give a default"],
        ),
        neighbour(
            "a10",
            step("map = \"${file:/no/such/file}\""),
            [
                "/no/such/file cannot be read: No such file",
                "p.toml:3:",
                "give a default: `${file:/no/such/file:-default}`",
            ],
        ),
        case(
            "a12",
            step("map = \"${SECRET}\""),
            [
                "jq has no filter `${SECRET}`",
                "p.toml:3:",
                "a text in an expression has quotes of its own",
            ],
        ),
        case(
            "a12",
            step("delay = \"${SECRET}\""),
            ["string \"${SECRET}\", expected a duration", "p.toml:3:", "such as \"5ms\" or \"2s\""],
        ),
        case(
            "a12",
            options("\"fetch.wait.max.ms\" = \"${SECRET}\""),
            [
                "Invalid value for configuration property",
                "p.toml:6:",
                "the list of librdkafka's settings",
            ],
        ),
        neighbour(
            "a12",
            step("name = \"${SECRET}.\"\nmap = \".\""),
            ["must not be empty or contain a dot", "p.toml:3:", "`NAME.true` and `NAME.false`"],
        ),
    ]
}

fn kafka_settings() -> Vec<Case<String>> {
    let consumer = "group.protocol = \"consumer\"\n";
    vec![
        case(
            "c5",
            options(&format!("{consumer}session.timeout.ms = 6000")),
            ["the brokers set it", "p.toml:7:", "leave it out"],
        ),
        neighbour(
            "c5",
            options(&format!("{consumer}heartbeat.interval.ms = 500")),
            ["the brokers set it", "p.toml:7:", "leave it out"],
        ),
        neighbour(
            "c5",
            options(&format!("{consumer}partition.assignment.strategy = \"range\"")),
            ["the brokers assign the partitions", "p.toml:7:", "`group.remote.assignor`"],
        ),
        case(
            "c6",
            options("\"sasl.mechanisms\" = \"OAUTHBEARER\""),
            ["OAUTHBEARER is not built in", "p.toml:6:", "set one that this build has: PLAIN"],
        ),
        case(
            "c6",
            options("\"sasl.mechanisms\" = \"GSSAPI\""),
            ["GSSAPI is not built in", "p.toml:6:", "SCRAM-SHA-512"],
        ),
        case(
            "c6",
            options("\"sasl.oauthbearer.method\" = \"oidc\""),
            ["OIDC is not built in", "p.toml:6:", "set one that this build has"],
        ),
        neighbour(
            "c6",
            options("\"sasl.mechanism\" = \"AWS_MSK_IAM\""),
            ["AWS_MSK_IAM is not built in", "p.toml:6:", "set one that this build has"],
        ),
        neighbour(
            "c6",
            options("security.protocol = \"sasl_ssl\""),
            ["it is needed with `security.protocol`", "p.toml:", "set one that this build has"],
        ),
        case(
            "c7",
            options("max.poll.interval.ms = 10000\nsession.timeout.ms = 20000"),
            ["20s is more than max.poll.interval.ms, 10s", "p.toml:7:", "lower it, or raise"],
        ),
        neighbour(
            "c7",
            kafka("drain_timeout = \"200s\""),
            ["200s is not less than 150s", "p.toml:5:", "lower it, or raise max.poll.interval.ms"],
        ),
        neighbour(
            "c7",
            options("session.timeout.ms = 6000\nheartbeat.interval.ms = 7000"),
            ["7s is not less than session.timeout.ms, 6s", "p.toml:7:", "a third of that is usual"],
        ),
        neighbour(
            "c7",
            options("session.timeout.ms = \"6s\""),
            ["\"6s\" is not a number of milliseconds", "p.toml:6:", "such as 6000"],
        ),
        neighbour(
            "c7",
            format!(
                "delivery = \"exactly_once\"\n[transactions]\ntimeout = \"60s\"\n{}",
                kafka("").replace("[sink.stdout]", "[sink.kafka]\ntopic = \"out\"")
            ),
            ["60s is not less than session.timeout.ms", "p.toml:3:", "lower it, or raise"],
        ),
        case(
            "c10",
            brokers("http://kafka:9092"),
            ["has a scheme", "p.toml:2:", "write \"kafka:9092\""],
        ),
        neighbour(
            "c10",
            brokers("kafka"),
            ["\"kafka\" has no port", "p.toml:2:", "\"kafka:9092\""],
        ),
        neighbour(
            "c10",
            brokers("kafka:9092/topic"),
            [
                "\"9092/topic\" in \"kafka:9092/topic\" is not a port",
                "p.toml:2:",
                "a number from 1 to 65535",
            ],
        ),
        neighbour(
            "c10",
            brokers("SSL://kafka:9093"),
            ["has a scheme", "p.toml:2:", "\"security.protocol\" = \"SSL\""],
        ),
        neighbour(
            "c10",
            brokers("::1:9092"),
            ["has several colons", "p.toml:2:", "an IPv6 address in brackets"],
        ),
    ]
}

fn numbers_and_addresses() -> Vec<Case<String>> {
    vec![
        case(
            "d2",
            listen(":8388"),
            ["\":8388\" is not host:port", "p.toml:2:", "0.0.0.0:8388 for all interfaces"],
        ),
        case(
            "d2",
            listen("http://127.0.0.1:8388"),
            ["is not host:port", "p.toml:2:", "leave out http://, as in 127.0.0.1:8388"],
        ),
        neighbour(
            "d2",
            listen("8388"),
            ["\"8388\" is not host:port", "p.toml:2:", "such as 127.0.0.1"],
        ),
        neighbour(
            "d2",
            listen("127.0.0.1:99999"),
            [
                "\"127.0.0.1:99999\" is not host:port",
                "p.toml:2:",
                "the port is a number up to 65535",
            ],
        ),
        case(
            "d4",
            model("replicas = 9223372036854775807"),
            ["integer `9223372036854775807`", "p.toml:11:", "from 1 to 256"],
        ),
        case("d4", model("replicas = 100000"), ["integer `100000`", "p.toml:11:", "from 1 to 256"]),
        case(
            "d4",
            model("threads = 1000000"),
            ["integer `1000000`", "p.toml:11:", "from 1 to 1024"],
        ),
        neighbour(
            "d4",
            step("buffer = 10000001"),
            ["integer `10000001`", "p.toml:3:", "from 1 to 10000000"],
        ),
        neighbour(
            "d4",
            step("map_async = { jq = \".\", parallelism = 1000 }"),
            ["integer `1000`", "p.toml:3:", "from 1 to 512"],
        ),
        neighbour("d4", step("delay = \"900y\""), ["900y", "p.toml:3:", "at most \"3650d\""]),
        case(
            "d5",
            step("partition = \"${SECRET}\""),
            ["string \"${SECRET}\"", "p.toml:3:", "expected a whole number from 1 to"],
        ),
        case(
            "d5",
            step("delay = 30000"),
            ["integer `30000`, expected a duration", "p.toml:3:", "\"30s\" for 30000 milliseconds"],
        ),
        neighbour(
            "d5",
            step("partition = \"64\""),
            ["string \"64\"", "p.toml:3:", "leave out the quotes: 64"],
        ),
        neighbour("d5", step("map = 5"), ["integer `5`", "p.toml:3:", "put it in quotes: \"5\""]),
        neighbour(
            "d5",
            options("a.b = 1\n\"a.b\" = 2"),
            ["`a.b` is set twice", "p.toml:", "leave one of them out"],
        ),
        case(
            "d6",
            options("client.id = \"x\"\n\"no.such\" = 1"),
            [
                "No such configuration property",
                "p.toml:7:",
                "docs/kafka.md has the address of the list",
            ],
        ),
        case(
            "d6",
            options("client.id = \"x\"\nfetch.wait.max.ms = \"often\""),
            [
                "Invalid value for configuration property",
                "p.toml:7:",
                "the list of librdkafka's settings and their values",
            ],
        ),
        neighbour(
            "d6",
            options("client.id = \"x\"\nenable.auto.commit = true"),
            ["\"enable.auto.commit\" cannot be set here", "p.toml:7:", "leave it out"],
        ),
        neighbour(
            "d6",
            options("client.id = \"x\"\ngroup.id = \"g\""),
            ["\"group.id\" cannot be set here", "p.toml:7:", "use `group`"],
        ),
    ]
}

fn expressions() -> Vec<Case<String>> {
    vec![
        case(
            "d7",
            model("").replace("{ model = \"m\" }", "\"m\""),
            ["jq has no filter `m`", "p.toml:6:", "write `map_batch = { model = \"m\" }`"],
        ),
        case(
            "d7",
            step("map = ."),
            ["expected digits", "p.toml:3:", "a text is in quotes: map = \".\""],
        ),
        neighbour("d7", step("delay = 5ms"), ["must be quoted", "p.toml:3:", "delay = \"5ms\""]),
        neighbour(
            "d7",
            kafka("").replace("topic", "topics"),
            ["unknown field `topics`", "p.toml:3:", "did you mean `topic`?"],
        ),
        case(
            "d8",
            step("map = \"$ENV.HOME\""),
            ["jq's `$ENV` is not supported here", "p.toml:3:", "write `env`"],
        ),
        case(
            "d8",
            step("map = \"input\""),
            ["jq's `input` is not supported here", "p.toml:3:", "a window, such as `partition`"],
        ),
        neighbour(
            "d8",
            step("map = \"[limit(2; inputs)]\""),
            ["jq's `inputs` is not supported here", "p.toml:3:", "docs/operators.md lists"],
        ),
        neighbour(
            "d8",
            step("map = \".text | lenght\""),
            ["jq has no filter `lenght`", "p.toml:3:", "did you mean `length`?"],
        ),
        neighbour(
            "d8",
            step("map = \"limit(.)\""),
            [
                "`limit` with 1 argument",
                "p.toml:3:",
                "explains expressions, and the arguments of `limit`",
            ],
        ),
        neighbour(
            "d8",
            step("filter = \".a |\""),
            ["expected term at the end", "p.toml:3:", "https://jqlang.org/manual"],
        ),
    ]
}

#[test]
fn a_mistake_in_a_pipeline_file_is_explained_a10_a12_c5_c6_c7_c10_d2_d4_d5_d6_d7_d8() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("p.toml");
    let cases = [variables(), kafka_settings(), numbers_and_addresses(), expressions()];
    let cases: Vec<_> = cases.into_iter().flatten().collect();
    explain(&cases, |text: &String| {
        fs::write(&file, text).unwrap();
        let mut command = forebay();
        command.arg("check").arg(&file).env_remove("NOPE").env("SECRET", "hunter2");
        let output = output(&mut command, "");
        let message = stderr(&output);
        let leaks = message.contains("hunter2").then(|| "the secret is shown".to_owned());
        (message, exits_with(&output, 64).or(leaks))
    });
}
