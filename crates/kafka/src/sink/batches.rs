//! `batch.size`: limits how much librdkafka puts into one request to a topic.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

const BATCH_SIZE: &str = "batch.size";

/// librdkafka's default `batch.size`.
const DEFAULT: usize = 1_000_000;

/// Limits `batch.size` to what `topic` accepts, unless the user has set it.
///
/// A topic's `max.message.bytes` limits the size of a whole batch, and brokers that refuse a batch
/// refuse every record in it. Without the limit on `batch.size`, a small reply would be refused if
/// its batch has too many replies, or another one that is too large. librdkafka sends a record that
/// is larger than `batch.size` in a batch of its own. If the brokers do not tell
/// `max.message.bytes`, librdkafka's default `batch.size` stays.
pub async fn fit(client: &mut ClientConfig, topic: &str, broker: Option<i32>) {
    if client.get(BATCH_SIZE).is_some() {
        return;
    }
    match max_message_bytes(client, topic, broker).await {
        Ok(Some(limit)) if limit < DEFAULT => {
            tracing::debug!(topic, limit, "batch.size is limited to what the topic accepts");
            client.set(BATCH_SIZE, limit.max(1).to_string());
        }
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(topic, %error, "cannot read the topic's settings, so batch.size keeps its default");
        }
    }
}

async fn max_message_bytes(
    client: &ClientConfig,
    topic: &str,
    broker: Option<i32>,
) -> Result<Option<usize>, KafkaError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    // Any broker can answer. Without a broker id, librdkafka asks the controller, which the
    // embedded broker lacks.
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).broker_id(broker);
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await?;
    let Some(resource) = described.into_iter().next() else { return Ok(None) };
    let resource = resource.map_err(KafkaError::AdminOp)?;
    let limit = resource.get("max.message.bytes").and_then(|entry| entry.value.as_ref());
    Ok(limit.and_then(|limit| limit.parse().ok()))
}
