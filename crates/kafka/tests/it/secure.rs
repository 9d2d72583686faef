//! TLS and SASL, with brokers that `scripts/kafka.sh start --secure` has started.

use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{Error, Options, Reply, Sink, SinkConfig, Source, SourceConfig, create_topics};
use forebay_stream::{Event, Sink as _};
use tokio::time::Instant;

use crate::support::{Broker, PATIENCE, next, start, unique};

/// The settings that the script prints.
struct Secure {
    sasl: String,
    tls: String,
    ca: String,
    other_ca: String,
    user: String,
    password: String,
}

impl Secure {
    /// Reads the settings from the environment. Prints that the test is skipped and returns `None`
    /// if they are not set.
    fn find() -> Option<Self> {
        // Called for its side effect: it makes failed tests show their log.
        Broker::start();
        let find = || {
            let [sasl, tls, ca, other_ca, user, password] =
                ["SASL_BROKERS", "TLS_BROKERS", "CA", "OTHER_CA", "USER", "PASSWORD"]
                    .map(|name| std::env::var(format!("KAFKA_{name}")).ok());
            let sasl = sasl?;
            let tls = tls?;
            let ca = ca?;
            let other_ca = other_ca?;
            Some(Self { sasl, tls, ca, other_ca, user: user?, password: password? })
        };
        let found = find();
        if found.is_none() {
            assert!(
                std::env::var_os("CI").is_none(),
                "CI must test TLS and SASL: start Kafka with --secure"
            );
            eprintln!("skipped: needs brokers with TLS and SASL, see scripts/kafka.sh --secure");
        }
        found
    }

    fn sasl(&self, mechanism: &str, password: &str) -> Options {
        options(&[
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanisms", mechanism),
            ("sasl.username", &self.user),
            ("sasl.password", password),
            ("ssl.ca.location", &self.ca),
        ])
    }

    fn tls(ca: &str) -> Options {
        options(&[("security.protocol", "SSL"), ("ssl.ca.location", ca)])
    }
}

fn options(options: &[(&str, &str)]) -> Options {
    let mut all = Options::new();
    all.extend(options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    all
}

/// Sends a request through these brokers and reads its reply.
async fn round_trip(brokers: &str, options: Options) {
    let plain = std::env::var("KAFKA_BROKERS").unwrap();
    let requests = unique("requests");
    let replies = unique("replies");
    create_topics(&plain, &[(&requests, 1), (&replies, 1)]).await.unwrap();
    let sink = |topic: &str| {
        let config = SinkConfig::new(brokers, topic);
        Sink::connect(SinkConfig { options: options.clone(), ..config })
    };
    let mut client = sink(&requests).await.unwrap();
    let request = Reply { value: Some(Bytes::from_static(b"hello")), ..Reply::default() };
    client.send(Event::detached(request)).await.unwrap();
    client.close().await.unwrap();

    let source = SourceConfig::new(brokers, &requests, &requests);
    let (mut events, handle) = start(SourceConfig { options: options.clone(), ..source }).await;
    let mut sink = sink(&replies).await.unwrap();
    let event = next(&mut events).await;
    sink.send(event.map(|value| Reply { value, ..Reply::default() })).await.unwrap();
    sink.close().await.unwrap();
    assert_eq!(handle.close(PATIENCE).await.unwrap().unresolved, 0);
    let written = Broker { servers: plain, embedded: None }.read(&replies, 1);
    assert_eq!(written[0].value.as_deref(), Some(&b"hello"[..]));
}

#[tokio::test]
async fn requests_and_replies_are_delivered_with_tls_and_each_sasl_mechanism() {
    let Some(secure) = Secure::find() else { return };
    round_trip(&secure.tls, Secure::tls(&secure.ca)).await;
    round_trip(&secure.sasl, secure.sasl("PLAIN", &secure.password)).await;
    round_trip(&secure.sasl, secure.sasl("SCRAM-SHA-512", &secure.password)).await;
}

/// Returns the error of a sink, after checking that a source fails with the same kind of error,
/// both within seconds.
async fn error(brokers: &str, options: Options) -> Error {
    let before = Instant::now();
    let source = SourceConfig::new(brokers, "requests", "g");
    let source = Source::connect(SourceConfig { options: options.clone(), ..source }).await;
    let sink = Sink::connect(SinkConfig { options, ..SinkConfig::new(brokers, "replies") }).await;
    assert!(before.elapsed() < Duration::from_secs(8), "took {:?}", before.elapsed());
    let source = source.unwrap_err();
    let sink = sink.unwrap_err();
    assert_eq!(std::mem::discriminant(&source), std::mem::discriminant(&sink), "{source} {sink}");
    sink
}

#[tokio::test]
async fn the_error_for_refused_credentials_says_what_to_check() {
    let Some(secure) = Secure::find() else { return };
    let secret = "hunter2-and-more";
    for mechanism in ["PLAIN", "SCRAM-SHA-512"] {
        let error = error(&secure.sasl, secure.sasl(mechanism, secret)).await;
        assert!(matches!(error, Error::Authentication { .. }), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("authentication failed at 127.0.0.1:"), "{text}");
        assert!(text.contains("`sasl.username` and `sasl.password`"), "{text}");
        assert!(!format!("{error:?}{text}").contains(secret), "{error:?}");
    }
    let error = error(&secure.sasl, secure.sasl("SCRAM-SHA-256", &secure.password)).await;
    assert!(matches!(error, Error::Authentication { .. }), "{error}");
    assert!(
        error.to_string().contains("SCRAM-SHA-512"),
        "the error lists the brokers' mechanisms: {error}"
    );
}

#[tokio::test]
async fn the_error_for_a_certificate_that_cannot_be_verified_says_what_to_set() {
    let Some(secure) = Secure::find() else { return };
    for ca in [&secure.other_ca, "probe"] {
        let error = error(&secure.tls, Secure::tls(ca)).await;
        assert!(matches!(error, Error::Tls { .. }), "{error}");
        let text = error.to_string();
        assert!(text.contains("certificate verify failed"), "{text}");
        assert!(text.contains("`ssl.ca.location`"), "{text}");
    }
    let error = error(&secure.tls, Secure::tls("/no/such/file.pem")).await;
    let text = format!("{:#}", anyhow::Error::from(error));
    assert!(text.contains("ssl.ca.location"), "{text}");
}

#[tokio::test]
async fn a_client_without_tls_is_told_that_the_brokers_require_it() {
    let Some(secure) = Secure::find() else { return };
    let before = Instant::now();
    let config = SourceConfig::new(&secure.tls, "requests", "g");
    let error = Source::connect(config).await.unwrap_err().to_string();
    assert!(before.elapsed() < Duration::from_secs(15), "took {:?}", before.elapsed());
    assert!(error.contains("set `security.protocol`"), "{error}");
}

#[tokio::test]
async fn a_client_with_tls_is_told_that_the_brokers_do_not_use_it() {
    if Secure::find().is_none() {
        return;
    }
    let before = Instant::now();
    let plain = std::env::var("KAFKA_BROKERS").unwrap();
    let config = SourceConfig::new(plain, "requests", "g");
    let config = SourceConfig { options: Secure::tls("probe"), ..config };
    let error = Source::connect(config).await.unwrap_err();
    assert!(before.elapsed() < Duration::from_secs(15), "took {:?}", before.elapsed());
    assert!(matches!(error, Error::Tls { .. }), "{error}");
    assert!(error.to_string().contains("`security.protocol`"), "{error}");
}
