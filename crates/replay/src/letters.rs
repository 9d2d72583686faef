//! `Letters`: reads the dead letters of a topic that are not replayed yet, and commits which ones
//! are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::client::{Log, check_topic, commit_at, headers, metadata};
use forebay_kafka::{Error, SourceConfig};
use forebay_stream::{Header, Origin};
use rdkafka::ClientConfig;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::Instant;

use crate::progress::Progress;

const PATIENCE: Duration = Duration::from_secs(10);

/// A record of the topic.
pub(super) struct Record {
    pub(super) key: Option<Bytes>,
    pub(super) value: Option<Bytes>,
    pub(super) headers: Vec<Header>,
    pub(super) at: Origin,
}

pub(super) struct Letters {
    consumer: Arc<StreamConsumer<Log>>,
    topic: Arc<str>,
    // Whether to read records again that were replayed before.
    again: bool,
    partitions: BTreeMap<i32, Partition>,
    // Number of partitions that have not been read to their ends.
    open: usize,
    // Whether there is progress since the last commit.
    changed: bool,
}

struct Partition {
    progress: Progress,
    /// The next offset to read.
    next: i64,
    /// The offset at which reading ends.
    end: i64,
    /// Whether `end` is not reached yet.
    open: bool,
}

impl Letters {
    /// Connects, and finds the offsets at which reading begins and ends. If `again` is set, it
    /// begins at the topic's beginning and includes records that are done.
    pub(super) async fn open(mut config: SourceConfig, again: bool) -> Result<Self, Error> {
        // This consumer does not join the group, it only commits offsets under the group's name.
        config.options.remove("group.instance.id");
        config.drain_timeout = Some(Duration::ZERO);
        let mut client = config.client()?;
        // If retention has deleted the record at which reading begins, reading goes on with the
        // oldest one that is left.
        client.set("auto.offset.reset", "earliest").set("enable.partition.eof", "true");
        check_topic(client.clone(), config.topic.clone()).await?;
        let topic: Arc<str> = config.topic.as_str().into();
        let asked = Arc::clone(&topic);
        match tokio::task::spawn_blocking(move || ask(&client, &asked, again)).await {
            Ok(Ok((consumer, partitions))) => {
                let open = partitions.values().filter(|partition| partition.open).count();
                let consumer = Arc::new(consumer);
                Ok(Self { consumer, topic, again, partitions, open, changed: false })
            }
            Ok(Err(error)) => Err(Error::Read { topic: topic.to_string(), source: error.into() }),
            Err(_) => Err(Error::ThreadEnded { topic: topic.to_string() }),
        }
    }

    /// Returns the next record that is not done; `None` at the end. This method is cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<Record>, Error> {
        while self.open > 0 {
            let message = match self.consumer.recv().await {
                Ok(message) => message,
                Err(KafkaError::PartitionEOF(partition)) => {
                    if let Some(partition) = self.partitions.get_mut(&partition) {
                        close(partition, &mut self.open);
                    }
                    continue;
                }
                Err(error) if is_final(&error) => {
                    let topic = self.topic.to_string();
                    return Err(Error::Read { topic, source: error.into() });
                }
                // librdkafka has reported the error to the context, and recovers by itself.
                Err(_) => continue,
            };
            let Some(partition) = self.partitions.get_mut(&message.partition()) else { continue };
            let offset = message.offset();
            if !partition.open || offset < partition.next {
                continue;
            }
            // Offsets may be missing because of transaction markers and compaction. They count as
            // done.
            let missing = partition.next..offset.min(partition.end);
            if !missing.is_empty() {
                partition.progress.add(missing);
                self.changed = true;
            }
            let within = offset < partition.end;
            partition.next = offset + 1;
            if partition.next >= partition.end {
                close(partition, &mut self.open);
            }
            if within && (self.again || !partition.progress.has(offset)) {
                return Ok(Some(read(&message, &self.topic)));
            }
        }
        Ok(None)
    }

    /// Notes that a record needs no further replay.
    pub(super) fn done(&mut self, partition: i32, offset: i64) {
        if let Some(partition) = self.partitions.get_mut(&partition) {
            partition.progress.add(offset..offset.saturating_add(1));
            self.changed = true;
        }
    }

    /// Commits the progress. Returns the number of records that the next replay reads again
    /// although they are done, because the commit cannot list them.
    pub(super) async fn commit(&mut self) -> Result<u64, Error> {
        let mut list = TopicPartitionList::new();
        let mut all_forgotten = 0;
        for (&number, partition) in &self.partitions {
            let (position, metadata, forgotten) = partition.progress.encode();
            all_forgotten += forgotten;
            let mut element = list.add_partition(&self.topic, number);
            // Succeeds for every offset that was read or committed.
            if element.set_offset(Offset::Offset(position)).is_ok() && !metadata.is_empty() {
                element.set_metadata(metadata);
            }
        }
        if !std::mem::take(&mut self.changed) {
            return Ok(all_forgotten);
        }
        let consumer = Arc::clone(&self.consumer);
        let committing = tokio::task::spawn_blocking(move || {
            with_coordinator(|| commit_at(consumer.client(), &list, PATIENCE), |code| Some(*code))
        });
        let topic = self.topic.to_string();
        match committing.await {
            Ok(Ok(())) => Ok(all_forgotten),
            Ok(Err(code)) => Err(Error::Commit { topic, source: KafkaError::Global(code).into() }),
            Err(_) => Err(Error::ThreadEnded { topic }),
        }
    }
}

fn close(partition: &mut Partition, open: &mut usize) {
    if std::mem::take(&mut partition.open) {
        *open -= 1;
    }
}

fn ask(
    client: &ClientConfig,
    topic: &str,
    again: bool,
) -> KafkaResult<(StreamConsumer<Log>, BTreeMap<i32, Partition>)> {
    let mut client = client.clone();
    let log = Log::of(&mut client);
    let consumer: StreamConsumer<Log> = client.create_with_context(log)?;
    let found = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let mut asked = TopicPartitionList::new();
    for partition in found.topics().iter().flat_map(rdkafka::metadata::MetadataTopic::partitions) {
        asked.add_partition(topic, partition.id());
    }
    let committed = with_coordinator(
        || consumer.committed_offsets(asked.clone(), PATIENCE),
        KafkaError::rdkafka_error_code,
    )?;
    let mut assigned = TopicPartitionList::new();
    let mut partitions = BTreeMap::new();
    for element in committed.elements() {
        element.error()?;
        let number = element.partition();
        let (low, high) = consumer.fetch_watermarks(topic, number, PATIENCE)?;
        let progress = match element.offset() {
            // An offset past the end is left from an earlier topic of the same name.
            Offset::Offset(position) if position <= high => {
                Progress::decode(position, &metadata(&committed, topic, number))
            }
            _ => Progress::at(low),
        };
        let next = if again { low } else { progress.position().max(low) };
        let open = next < high;
        if open {
            assigned.add_partition_offset(topic, number, Offset::Offset(next))?;
        }
        partitions.insert(number, Partition { progress, next, end: high, open });
    }
    consumer.assign(&assigned)?;
    Ok((consumer, partitions))
}

fn read(message: &BorrowedMessage<'_>, topic: &Arc<str>) -> Record {
    let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
    Record {
        key: copy(message.key()),
        value: copy(message.payload()),
        headers: headers(message),
        at: Origin {
            source: Arc::clone(topic),
            partition: Some(message.partition()),
            // A record that was read has an offset.
            position: message.offset().try_into().unwrap_or_default(),
        },
    }
}

/// Repeats `ask` while the group has no coordinator. A new group, or one whose coordinator moves to
/// another broker, may have none for a moment.
fn with_coordinator<T, E>(
    ask: impl Fn() -> Result<T, E>,
    code: impl Fn(&E) -> Option<RDKafkaErrorCode>,
) -> Result<T, E> {
    const AGAIN: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + PATIENCE;
    loop {
        match ask() {
            Err(error)
                if Instant::now() < deadline
                    && matches!(
                        code(&error),
                        Some(
                            RDKafkaErrorCode::NotCoordinator
                                | RDKafkaErrorCode::CoordinatorNotAvailable
                                | RDKafkaErrorCode::CoordinatorLoadInProgress
                        )
                    ) =>
            {
                thread::park_timeout(AGAIN);
            }
            answer => return answer,
        }
    }
}

/// Whether librdkafka does not recover from an error by itself.
fn is_final(error: &KafkaError) -> bool {
    matches!(error, KafkaError::MessageConsumptionFatal(_))
        || matches!(
            error.rdkafka_error_code(),
            Some(
                RDKafkaErrorCode::ClusterAuthorizationFailed
                    | RDKafkaErrorCode::GroupAuthorizationFailed
                    | RDKafkaErrorCode::TopicAuthorizationFailed
            )
        )
}
