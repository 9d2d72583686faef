//! A client with one request in flight, which measures the time from sending a request until its
//! reply is read.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, ThreadedProducer};
use rdkafka::{Offset, TopicPartitionList};

use crate::settings;
use crate::topics::{self, PARTITIONS, VALUE};

const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Client {
    producer: ThreadedProducer<DefaultProducerContext>,
    replies: BaseConsumer,
    requests: String,
    sent: usize,
}

impl Client {
    pub(crate) fn new(brokers: &str, requests: &str, replies: &str) -> anyhow::Result<Self> {
        let producer = settings::producer(brokers).set("linger.ms", "0").create()?;
        let consumer: BaseConsumer = settings::consumer(brokers, "not joined").create()?;
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(replies, partition, Offset::Beginning)?;
        }
        consumer.assign(&list)?;
        Ok(Self { producer, replies: consumer, requests: requests.to_owned(), sent: 0 })
    }

    /// Sends one request, waits for its reply, and returns the time between them.
    pub(crate) fn ask(&mut self) -> anyhow::Result<Duration> {
        self.sent += 1;
        let key = topics::key(self.sent);
        let value = [b'v'; VALUE];
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.requests);
        (record.key, record.payload) = (Some(key.as_bytes()), Some(&value[..]));
        record.headers = Some(topics::headers(self.sent));
        let sent = Instant::now();
        self.producer.send(record).map_err(|(error, _)| error)?;
        while let Some(reply) = self.replies.poll(PATIENCE) {
            let reply = reply?;
            let headers = reply.headers().context("the reply has no headers")?;
            let id = headers.iter().find(|header| header.key == topics::CORRELATION_ID);
            if id.and_then(|id| id.value) == Some(&(self.sent as u128).to_be_bytes()) {
                return Ok(sent.elapsed());
            }
        }
        bail!("no reply within {PATIENCE:?}")
    }
}
