//! A broker, new topics for every test, and plain clients that do not use Forebay.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_kafka::{EmbeddedBroker, Error, Source, SourceConfig, SourceHandle, create_topics};
use forebay_stream::{Event, Header};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header as RecordHeader, Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

/// Timeout for everything that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) type Events = BoxStream<'static, Result<Event<Option<Bytes>>, Error>>;

pub(crate) struct Broker {
    pub(crate) servers: String,
    // Lives as long as the test.
    pub(crate) embedded: Option<EmbeddedBroker>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        // Shows the log of failed tests, filtered by RUST_LOG.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init().ok();
        if let Ok(servers) = std::env::var("KAFKA_BROKERS") {
            return Self { servers, embedded: None };
        }
        let embedded = EmbeddedBroker::start(&[]).unwrap();
        Self { servers: embedded.bootstrap_servers(), embedded: Some(embedded) }
    }

    /// Creates a topic.
    pub(crate) async fn topic(&self, partitions: i32) -> String {
        let name = unique("topic");
        match &self.embedded {
            Some(embedded) => embedded.create_topic(&name, partitions).unwrap(),
            None => create_topics(&self.servers, &[(&name, partitions)]).await.unwrap(),
        }
        name
    }

    pub(crate) fn source(&self, topic: &str, group: &str) -> SourceConfig {
        let mut config = SourceConfig::new(&self.servers, topic, group);
        config.options.insert("heartbeat.interval.ms".into(), "200".into());
        // Short, because the embedded broker ends a rebalance only about a second before the
        // session timeout has passed.
        config.options.insert("session.timeout.ms".into(), "6000".into());
        config.drain_timeout = Some(Duration::from_millis(2500));
        config
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.servers);
        client
    }

    /// Writes records, and waits until they are confirmed.
    pub(crate) async fn write(&self, topic: &str, records: &[Record]) {
        let producer: FutureProducer = self.client().set("linger.ms", "1").create().unwrap();
        let sent = records.iter().map(|record| {
            let mut raw = FutureRecord::<[u8], [u8]>::to(topic);
            raw.partition = Some(record.partition);
            raw.key = record.key.as_deref();
            raw.payload = record.value.as_deref();
            raw.headers = (!record.headers.is_empty()).then(|| {
                record.headers.iter().fold(OwnedHeaders::new(), |headers, header| {
                    headers
                        .insert(RecordHeader { key: &header.name, value: header.value.as_deref() })
                })
            });
            producer.send_result(raw).map_err(|(error, _)| error).unwrap()
        });
        for delivered in sent.collect::<Vec<_>>() {
            delivered.await.unwrap().map_err(|(error, _)| error).unwrap();
        }
    }

    /// Writes `count` records to each of `partitions` partitions.
    pub(crate) async fn fill(&self, topic: &str, partitions: i32, count: usize) {
        let records = (0..count)
            .flat_map(|n| (0..partitions).map(move |partition| record(partition, n.to_string())));
        self.write(topic, &records.collect::<Vec<_>>()).await;
    }

    /// Writes `count` records to each of `partitions` partitions, with the values that `value`
    /// returns for the partition and the number of the record.
    pub(crate) async fn fill_with(
        &self,
        topic: &str,
        partitions: i32,
        count: usize,
        value: impl Fn(i32, usize) -> String,
    ) {
        let records = (0..count)
            .flat_map(|n| (0..partitions).map(move |partition| (partition, n)))
            .map(|(partition, n)| record(partition, value(partition, n)));
        self.write(topic, &records.collect::<Vec<_>>()).await;
    }

    /// Reads all committed records of the topic, once there are at least `least`.
    pub(crate) fn read_committed(&self, topic: &str, least: usize) -> Vec<Record> {
        let mut client = self.client();
        client.set("group.id", unique("reader")).set("isolation.level", "read_committed");
        client.set("enable.partition.eof", "true");
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions = metadata.topics()[0].partitions().len();
        let mut assignment = TopicPartitionList::new();
        for partition in 0..partitions {
            let partition = i32::try_from(partition).unwrap();
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let mut read = Vec::new();
        let mut ends = std::collections::BTreeSet::new();
        let deadline = tokio::time::Instant::now() + 3 * PATIENCE;
        while read.len() < least || ends.len() < partitions {
            assert!(tokio::time::Instant::now() < deadline, "{} of {least} records", read.len());
            match consumer.poll(PATIENCE) {
                Some(Ok(message)) => {
                    // The partition has grown since its end was reached.
                    ends.remove(&message.partition());
                    read.push(Record {
                        partition: message.partition(),
                        key: message.key().map(Bytes::copy_from_slice),
                        value: message.payload().map(Bytes::copy_from_slice),
                        headers: Vec::new(),
                    });
                }
                Some(Err(rdkafka::error::KafkaError::PartitionEOF(partition))) => {
                    ends.insert(partition);
                }
                Some(Err(error)) => panic!("{error}"),
                None => {}
            }
        }
        read
    }

    /// Creates a topic with these settings. Prints that the test is skipped and returns `None` if
    /// the broker has no settings for topics.
    pub(crate) async fn topic_with(&self, settings: &[(&str, &str)]) -> Option<String> {
        if self.embedded.is_some() {
            eprintln!("skipped: the embedded broker's topics have no settings");
            return None;
        }
        let name = unique("topic");
        let new = NewTopic::new(&name, 1, TopicReplication::Fixed(1));
        let new = settings.iter().fold(new, |new, (setting, value)| new.set(setting, value));
        let admin: AdminClient<_> = self.client().create().unwrap();
        let created = admin.create_topics([&new], &AdminOptions::new()).await.unwrap();
        assert!(created.iter().all(Result::is_ok), "{created:?}");
        Some(name)
    }

    /// Reads the first `count` records of the topic's partition 0.
    pub(crate) fn read(&self, topic: &str, count: usize) -> Vec<Record> {
        self.read_partition(topic, 0, count)
    }

    /// Reads the first `count` records of one of the topic's partitions.
    pub(crate) fn read_partition(&self, topic: &str, partition: i32, count: usize) -> Vec<Record> {
        self.read_partitions(topic, partition..partition + 1, count)
    }

    /// Reads the first `count` records of some of the topic's partitions. Records of the same
    /// partition are in order.
    pub(crate) fn read_partitions(
        &self,
        topic: &str,
        partitions: Range<i32>,
        count: usize,
    ) -> Vec<Record> {
        let mut client = self.client();
        client.set("group.id", unique("reader")).extend(EmbeddedBroker::consumer_options());
        let consumer: BaseConsumer = client.create().unwrap();
        let mut assignment = TopicPartitionList::new();
        for partition in partitions {
            assignment.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&assignment).unwrap();
        let read = (0..count).map(|_| {
            let message = consumer.poll(PATIENCE).expect("a record").unwrap();
            let headers = message.headers().map(|headers| {
                headers.iter().map(|header| Header {
                    name: header.key.to_owned(),
                    value: header.value.map(Bytes::copy_from_slice),
                })
            });
            Record {
                partition: message.partition(),
                key: message.key().map(Bytes::copy_from_slice),
                value: message.payload().map(Bytes::copy_from_slice),
                headers: headers.map(Iterator::collect).unwrap_or_default(),
            }
        });
        read.collect()
    }

    /// Returns the end offset of each partition, or nothing if the topic does not exist.
    pub(crate) fn ends(&self, topic: &str) -> Vec<i64> {
        let mut client = self.client();
        client.set("group.id", unique("reader")).set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer = client.create().unwrap();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions = metadata.topics()[0].partitions().iter();
        let mut ends: Vec<_> = partitions
            .map(|partition| {
                let (_, end) = consumer.fetch_watermarks(topic, partition.id(), PATIENCE).unwrap();
                (partition.id(), end)
            })
            .collect();
        ends.sort_unstable();
        ends.into_iter().map(|(_, end)| end).collect()
    }

    /// Returns the offsets that the group has committed for each partition.
    pub(crate) fn committed(
        &self,
        topic: &str,
        group: &str,
        partitions: i32,
    ) -> BTreeMap<i32, i64> {
        let consumer: BaseConsumer = self.client().set("group.id", group).create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let committed = consumer.committed_offsets(list, PATIENCE).unwrap();
        let offsets =
            committed.elements().into_iter().filter_map(|element| match element.offset() {
                Offset::Offset(offset) => Some((element.partition(), offset)),
                _ => None,
            });
        offsets.collect()
    }
}

/// A record as a plain client sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) partition: i32,
    pub(crate) key: Option<Bytes>,
    pub(crate) value: Option<Bytes>,
    pub(crate) headers: Vec<Header>,
}

pub(crate) fn record(partition: i32, value: impl Into<Bytes>) -> Record {
    Record { partition, value: Some(value.into()), ..Record::default() }
}

pub(crate) fn header(name: &str, value: Option<&'static [u8]>) -> Header {
    Header { name: name.to_owned(), value: value.map(Bytes::from_static) }
}

/// Returns a name that no other test and no earlier run has used.
pub(crate) fn unique(what: &str) -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
    format!("{what}-{}-{now}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

pub(crate) async fn start(config: SourceConfig) -> (Events, SourceHandle) {
    start_until(config, &CancellationToken::new()).await
}

pub(crate) async fn start_until(
    config: SourceConfig,
    stop: &CancellationToken,
) -> (Events, SourceHandle) {
    let (events, handle) = Source::connect(config).await.unwrap().start(stop).unwrap();
    (events.boxed(), handle)
}

/// Returns the next event, or panics if none comes in time.
pub(crate) async fn next(events: &mut Events) -> Event<Option<Bytes>> {
    let next = tokio::time::timeout(PATIENCE, events.next()).await;
    next.expect("an event in time").expect("an event before the end").expect("an event, no error")
}

pub(crate) async fn take(events: &mut Events, count: usize) -> Vec<Event<Option<Bytes>>> {
    let mut taken = Vec::new();
    while taken.len() < count {
        taken.push(next(events).await);
    }
    taken
}

pub(crate) fn positions<T>(events: &[Event<T>]) -> Vec<u64> {
    events.iter().map(|event| event.meta.origin.position).collect()
}
