//! Creating topics.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Error;

/// Creates each topic with the given number of partitions and the brokers' default replication
/// factor. Topics that exist already are left unchanged.
///
/// # Errors
///
/// Returns an error that names the first topic that the brokers refused, or [`Error::Unreachable`]
/// if no broker answered.
pub async fn create_topics(brokers: &str, topics: &[(&str, i32)]) -> Result<(), Error> {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .create()
        .map_err(|error| Error::Configure(error.into()))?;
    let wanted: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|(topic, partitions)| NewTopic::new(topic, *partitions, TopicReplication::Fixed(-1)))
        .collect();
    let options =
        AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT));
    let results =
        admin.create_topics(&wanted, &options).await.map_err(|error| Error::Unreachable {
            brokers: brokers.to_owned(),
            timeout: TIMEOUT,
            detail: error.to_string(),
        })?;
    for result in results {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => {
                return Err(Error::CreateTopic { topic, source: KafkaError::AdminOp(code).into() });
            }
        }
    }
    Ok(())
}
