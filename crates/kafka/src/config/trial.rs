//! Lets librdkafka check a configuration without connecting to anything.

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaType;

use super::sasl;
use crate::Error;

/// Checks every option's name and value, and the combinations of options.
///
/// librdkafka checks combinations when it creates a client, so this creates one that knows no
/// broker. Certificates and keys are not loaded: their files need not exist where a configuration
/// is only checked.
pub(super) fn create(client: &ClientConfig, kind: RDKafkaType) -> Result<(), Error> {
    let configure = |error: KafkaError| Error::Configure(error.into());
    client.create_native_config().map_err(configure)?;
    let mut trial = client.clone();
    trial.remove("bootstrap.servers").remove("group.id").remove("group.instance.id");
    let protocol = trial.get("security.protocol").unwrap_or_default().to_ascii_lowercase();
    if let Some(without_tls) = sasl::without_tls(&protocol) {
        trial.set("security.protocol", without_tls);
    }
    let native = trial.create_native_config().map_err(configure)?;
    Client::new(&trial, native, kind, Silent).map_err(configure)?;
    Ok(())
}

/// Ignores librdkafka's remark that the client has no broker.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, _: KafkaError, _: &str) {}
}
