use super::{Delivery, SinkConfig, SourceConfig, TransactionSettings};

fn source() -> SourceConfig {
    SourceConfig::new("localhost:9092", "requests", "sentiment")
}

#[test]
fn a_librdkafka_option_that_forebay_sets_itself_is_rejected() {
    let mut config = source();
    config.options.insert("group.id".into(), "other".into());
    let error = config.client().unwrap_err().to_string();
    assert_eq!(error, "the librdkafka option \"group.id\" cannot be set here: use `group`");

    let mut config = SinkConfig::new("localhost:9092", "replies");
    config.options.insert("acks".into(), "1".into());
    assert!(config.client().unwrap_err().to_string().contains("all replicas"));
}

#[test]
fn other_options_replace_the_defaults() {
    let mut config = source();
    config.options.insert("auto.offset.reset".into(), "latest".into());
    let client = config.client().unwrap();
    assert_eq!(client.get("auto.offset.reset"), Some("latest"));
    assert_eq!(client.get("enable.auto.commit"), Some("false"));
}

#[test]
fn a_lower_session_timeout_needs_no_other_setting() {
    let mut config = source();
    config.options.insert("session.timeout.ms".into(), "6000".into());
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce(TransactionSettings::default())] {
        config.delivery = delivery;
        config.validate().unwrap();
    }
}

#[test]
fn the_consumer_protocol_is_accepted_without_options_of_the_classic_one() {
    let mut config = source();
    config.options.insert("group.protocol".into(), "consumer".into());
    config.validate().unwrap();
    config.options.insert("session.timeout.ms".into(), "6000".into());
    let error = config.validate().unwrap_err().to_string();
    assert!(error.starts_with("invalid session.timeout.ms: with `group.protocol`"), "{error}");
}

#[test]
fn combinations_that_librdkafka_refuses_are_refused_before_connecting() {
    let mut config = source();
    config.options.insert("fetch.max.bytes".into(), "1000".into());
    let error = chain(&config.validate().unwrap_err());
    assert!(error.contains("`fetch.max.bytes` must be >= `message.max.bytes`"), "{error}");

    let mut config = SinkConfig::new("localhost:9092", "replies");
    config.options.insert("max.in.flight".into(), "50".into());
    let error = chain(&config.validate().unwrap_err());
    assert!(error.contains("`max.in.flight` must be set <= 5"), "{error}");
}

fn chain(error: &dyn std::error::Error) -> String {
    let cause = error.source().map(|cause| format!(": {}", chain(cause)));
    format!("{error}{}", cause.unwrap_or_default())
}

#[test]
fn names_that_cannot_work_are_rejected() {
    let config = SourceConfig::new("localhost:9092", "^requests.*", "sentiment");
    assert!(config.client().unwrap_err().to_string().contains("patterns"));
    assert!(SinkConfig::new(" ", "replies").client().is_err());
}
