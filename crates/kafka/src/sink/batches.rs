//! Batches: how much librdkafka may put into one request to a topic.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::KafkaError;

const BATCH_SIZE: &str = "batch.size";

/// librdkafka's own `batch.size`.
const DEFAULT: usize = 1_000_000;

/// Makes batches no larger than `topic` takes, unless a size was given.
///
/// A topic's `max.message.bytes` holds for whole batches, and brokers refuse whole batches: without this, replies would
/// be refused for being many, and those beside one that is too large with it. A record that is larger than `batch.size`
/// goes alone. Where the brokers do not tell, or not this client, librdkafka's own size stays.
pub(crate) async fn fit(client: &mut ClientConfig, topic: &str, broker: Option<i32>) {
    if client.get(BATCH_SIZE).is_some() {
        return;
    }
    match max_message_bytes(client, topic, broker).await {
        Ok(Some(limit)) if limit < DEFAULT => {
            tracing::debug!(topic, limit, "batches are made no larger than the topic takes");
            client.set(BATCH_SIZE, limit.max(1).to_string());
        }
        Ok(_) => {}
        Err(error) => tracing::debug!(topic, %error, "the topic's settings are not known"),
    }
}

async fn max_message_bytes(
    client: &ClientConfig,
    topic: &str,
    broker: Option<i32>,
) -> Result<Option<usize>, KafkaError> {
    const PATIENCE: Duration = Duration::from_secs(5);
    let admin: AdminClient<DefaultClientContext> = client.create()?;
    // Any broker can tell. Without being told which, librdkafka looks for the controller, which an embedded broker lacks.
    let options = AdminOptions::new().request_timeout(Some(PATIENCE)).broker_id(broker);
    let described = admin.describe_configs([&ResourceSpecifier::Topic(topic)], &options).await?;
    let Some(resource) = described.into_iter().next() else { return Ok(None) };
    let resource = resource.map_err(KafkaError::AdminOp)?;
    let limit = resource.get("max.message.bytes").and_then(|entry| entry.value.as_ref());
    Ok(limit.and_then(|limit| limit.parse().ok()))
}
