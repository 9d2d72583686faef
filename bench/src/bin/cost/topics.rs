//! The topics of this benchmark and their records.

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use tokio::runtime::Runtime;

use crate::settings;

pub(crate) const PARTITIONS: i32 = 4;
/// Size of a value, in bytes.
pub(crate) const VALUE: usize = 200;
pub(crate) const CORRELATION_ID: &str = "kafka_correlationId";

const PATIENCE: Duration = Duration::from_secs(30);

/// Creates, fills and removes topics.
pub(crate) struct Topics {
    brokers: String,
    admin: AdminClient<DefaultClientContext>,
    runtime: Runtime,
    made: usize,
}

impl Topics {
    pub(crate) fn new(brokers: &str) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let admin = settings::client(brokers).create()?;
        Ok(Self { brokers: brokers.to_owned(), admin, runtime, made: 0 })
    }

    pub(crate) fn make(&mut self) -> anyhow::Result<String> {
        self.made += 1;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let name = format!("cost-{now}-{}", self.made);
        let topic = NewTopic::new(&name, PARTITIONS, TopicReplication::Fixed(-1))
            .set("file.delete.delay.ms", "1000");
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        let made = self.runtime.block_on(self.admin.create_topics(&[topic], &options))?;
        made.into_iter().try_for_each(|one| {
            one.map(|_| ()).map_err(|(name, code)| anyhow!("{name} could not be created: {code}"))
        })?;
        // The brokers learn of a new topic a moment later.
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = self.size(&name) {
            ensure!(Instant::now() < deadline, "{name} cannot be used: {error}");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(name)
    }

    pub(crate) fn remove(&self, name: &str) -> anyhow::Result<()> {
        let options = AdminOptions::new().operation_timeout(Some(PATIENCE));
        self.runtime.block_on(self.admin.delete_topics(&[name], &options))?;
        Ok(())
    }

    /// Writes `count` requests, each with a different key.
    pub(crate) fn fill(&self, topic: &str, count: usize) -> anyhow::Result<()> {
        let producer: ThreadedProducer<DefaultProducerContext> =
            settings::producer(&self.brokers).set("linger.ms", "5").create()?;
        for number in 0..count {
            let key = key(number);
            let value = [b'v'; VALUE];
            let mut record = BaseRecord::<[u8], [u8]>::to(topic);
            (record.key, record.payload) = (Some(key.as_bytes()), Some(&value[..]));
            record.headers = Some(headers(number));
            while let Err((error, back)) = producer.send(record) {
                ensure!(is_full(&error), "filling {topic}: {error}");
                record = back;
                thread::sleep(Duration::from_millis(1));
            }
        }
        producer.flush(PATIENCE)?;
        let written = self.size(topic)?;
        ensure!(written == count, "{topic} has {written} records, not {count}");
        Ok(())
    }

    /// Returns the number of offsets in the topic, including those of transaction markers.
    pub(crate) fn size(&self, topic: &str) -> anyhow::Result<usize> {
        let consumer: BaseConsumer = settings::client(&self.brokers).create()?;
        let mut size = 0;
        for partition in 0..PARTITIONS {
            let (low, high) = consumer.fetch_watermarks(topic, partition, PATIENCE)?;
            size += usize::try_from(high - low)?;
        }
        Ok(size)
    }
}

pub(crate) fn key(number: usize) -> String {
    format!("{number:07}")
}

pub(crate) fn headers(number: usize) -> OwnedHeaders {
    let id = (number as u128).to_be_bytes();
    OwnedHeaders::new_with_capacity(1).insert(Header { key: CORRELATION_ID, value: Some(&id) })
}

/// Returns whether an error means that the queue of the producer is full.
pub(crate) fn is_full(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::QueueFull)
}
