//! TLS and SASL through the binary, with brokers that `scripts/kafka.sh start --secure` has
//! started. No output contains a secret.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Service, forebay, output};
use crate::broker::Broker;
use crate::clients::{Request, produce, read_replies};

/// A pipeline whose sink uses the credentials of its source.
const PIPELINE: &str = r#"
[source.kafka]
brokers = "${ADDRESS}"
topic = "${REQUESTS_TOPIC}"
group = "${CONSUMER_GROUP}"
[source.kafka.options]
"security.protocol" = "SASL_SSL"
"sasl.mechanisms" = "${MECHANISM}"
"sasl.username" = "${KAFKA_USER}"
"sasl.password" = "${file:PASSWORD_FILE}"
"ssl.ca.location" = "${CA}"
debug = "all"
[[step]]
map = "."
[sink.kafka]
topic = "${REPLIES_TOPIC}"
"#;

/// Returns a setting that the script printed, from the environment. Without it, prints that the
/// test is skipped and returns `None`.
fn find(name: &str) -> Option<String> {
    let found = std::env::var(format!("KAFKA_{name}")).ok();
    if found.is_none() {
        assert!(
            std::env::var_os("CI").is_none(),
            "CI must test TLS and SASL: start Kafka with --secure"
        );
        eprintln!("skipped: needs brokers with TLS and SASL, see scripts/kafka.sh --secure");
    }
    found
}

/// A pipeline file and the file with the password.
struct Files {
    pipeline: NamedTempFile,
    _password: NamedTempFile,
}

impl Files {
    fn with(password: &str) -> Self {
        let mut file = NamedTempFile::new().unwrap();
        writeln!(file, "{password}").unwrap();
        let pipeline = NamedTempFile::new().unwrap();
        let path = file.path().display().to_string();
        std::fs::write(pipeline.path(), PIPELINE.replace("PASSWORD_FILE", &path)).unwrap();
        Self { pipeline, _password: file }
    }

    /// Returns a command of `forebay` for the pipeline file, with the log level `trace`.
    fn command(&self, name: &str, broker: &Broker, mechanism: &str, ca: &str) -> Command {
        let mut command = forebay();
        command
            .arg(name)
            .arg(self.pipeline.path())
            .envs(broker.variables())
            .env("ADDRESS", std::env::var("KAFKA_SASL_BROKERS").unwrap())
            .env("MECHANISM", mechanism)
            .env("CA", ca)
            .env("FOREBAY_LOG", "trace");
        command
    }
}

/// Returns the last line of the log. Checks that no output contains `secret`.
fn error_of(output: &Output, secret: &str) -> String {
    let shown = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(!shown.contains(secret) && !log.contains(secret), "a secret was printed");
    log.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn requests_and_replies_pass_over_sasl_without_the_password_in_any_output() {
    let (Some(password), Some(ca)) = (find("PASSWORD"), find("CA")) else { return };
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let broker = Broker::start("sasl");
        let files = Files::with(&password);
        let mut command = files.command("run", &broker, mechanism, &ca);
        let service = Service::start(command.stdout(Stdio::null()));
        let request = |number: usize| Request {
            id: format!("id-{number}"),
            key: None,
            value: Some(number.to_string().into_bytes()),
        };
        let requests: Vec<_> = (0..20).map(request).collect();
        produce(&broker, &requests, 2);
        let replies = read_replies(&broker, &requests);
        assert_eq!(replies["id-7"][0].value, 7);
        let shown = service.stop();
        assert!(
            shown.contains("librdkafka") && shown.contains("sasl"),
            "librdkafka logs its debug lines: {shown}"
        );
        assert!(!shown.contains(&password), "the password is in the log");

        for name in ["check", "graph"] {
            let output = output(&mut files.command(name, &broker, mechanism, &ca), "");
            assert!(output.status.success());
            error_of(&output, &password);
        }
    }
}

#[test]
fn a_wrong_password_fails_at_once_and_names_the_settings_to_check() {
    let (Some(_), Some(ca)) = (find("PASSWORD"), find("CA")) else { return };
    let broker = Broker::start("wrong-password");
    let secret = "hunter2-and-more";
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let before = Instant::now();
        let files = Files::with(secret);
        let output = output(&mut files.command("run", &broker, mechanism, &ca), "");
        assert!(before.elapsed().as_secs() < 15, "took {:?}", before.elapsed());
        assert_eq!(output.status.code(), Some(69));
        let error = error_of(&output, secret);
        assert!(error.contains("authentication failed at 127.0.0.1:"), "{error}");
        assert!(error.contains("`sasl.password`"), "{error}");
    }
}

#[test]
fn a_certificate_of_another_authority_fails_at_once_and_names_the_setting() {
    let (Some(password), Some(other)) = (find("PASSWORD"), find("OTHER_CA")) else { return };
    let broker = Broker::start("wrong-authority");
    let before = Instant::now();
    let files = Files::with(&password);
    let output = output(&mut files.command("run", &broker, "PLAIN", &other), "");
    assert!(before.elapsed().as_secs() < 15, "took {:?}", before.elapsed());
    assert_eq!(output.status.code(), Some(69));
    let error = error_of(&output, &password);
    assert!(error.contains("no TLS connection to 127.0.0.1:"), "{error}");
    assert!(error.contains("`ssl.ca.location`") && error.contains("verify failed"), "{error}");
}

#[test]
fn the_error_for_a_missing_secret_file_names_it() {
    let broker = Broker::start("no-secret");
    let files = Files::with("x");
    let text = std::fs::read_to_string(files.pipeline.path()).unwrap();
    let text = text.replace("${file:", "${file:/no/such/folder");
    std::fs::write(files.pipeline.path(), text).unwrap();
    let mut command = forebay();
    command.arg("check").arg(files.pipeline.path()).envs(broker.variables());
    command.envs([("ADDRESS", "a:9092"), ("MECHANISM", "PLAIN"), ("CA", "x"), ("KAFKA_USER", "x")]);
    let output = output(&mut command, "");
    assert_eq!(output.status.code(), Some(64));
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        error.contains("the file /no/such/folder") && error.contains("cannot be read"),
        "{error}"
    );
    assert!(error.contains(":10:"), "the line is named: {error}");
}
