//! `Source`: a topic, read as a member of a consumer group, as a stream of events.

mod assignment;
mod group;
mod handle;
mod handover;
mod in_flight;
#[cfg(test)]
mod model_check;
mod offsets;
mod partitions;
mod poller;
mod record;
mod rewind;
mod shared;
mod staged;
mod stream;
mod transactions;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use forebay_stream::Event;
use futures::Stream;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::group::Group;
use self::partitions::Partitions;
use self::poller::Poller;
use self::shared::Shared;
use self::stream::Records;
use self::transactions::Producer;
use crate::sink::batches;
use crate::{Delivery, Error, SinkConfig, SourceConfig, TransactionalSink, probe};

pub(crate) use self::record::PendingOffset;
pub(crate) use self::staged::Output;
pub(crate) use self::transactions::Transactions;

pub use self::handle::{CloseReport, Oldest, SourceHandle, Stats};

const SHORTEST_COMMIT_INTERVAL: Duration = Duration::from_millis(10);

/// What a source yields: an event for a record, its value `None` where that is null, or the error that ends the source.
pub type SourceItem = Result<Event<Option<Bytes>>, Error>;

/// A topic that is known to exist, ready to be read.
///
/// An offset is committed when its record and every one before it in its partition are resolved, which is at least once;
/// or in one transaction with the replies of those records, which is exactly once, see [`sink`](Self::sink). Failed and
/// abandoned records hold their offset; they are read again after a restart.
pub struct Source {
    consumer: BaseConsumer<Group>,
    shared: Arc<Shared>,
    config: SourceConfig,
    // There once it has a sink that writes exactly once.
    transactions: Option<(Arc<Transactions>, Producer)>,
}

impl Source {
    /// Connects to the brokers and checks that the topic exists. Joins no group yet.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work, when no broker answers within ten seconds, and when there is no such topic.
    pub async fn connect(config: SourceConfig) -> Result<Self, Error> {
        let client = config.client()?;
        let topic = config.topic.clone();
        probe::check_topic(client.clone(), topic).await?;
        let shared = Arc::new(Shared::new(&config));
        let group = Group::new(Arc::clone(&shared), config.drain_timeout);
        let consumer =
            client.create_with_context(group).map_err(|error| Error::Configure(error.into()))?;
        Ok(Self { consumer, shared, config, transactions: None })
    }

    /// A sink that writes replies exactly once, in the transactions that commit this source's offsets. All sinks of a
    /// source share one producer, with the options that the first of them gave.
    ///
    /// # Errors
    ///
    /// When the source delivers [at least once](Delivery::AtLeastOnce) only, when a sink's brokers or options are not
    /// those of the first, when there is no such topic, and when the brokers let this client make no transactions.
    pub async fn sink(&mut self, config: SinkConfig) -> Result<TransactionalSink, Error> {
        let Delivery::ExactlyOnce(settings) = &self.config.delivery else {
            let reason = "it is at least once, whose sinks are connected by themselves".to_owned();
            return Err(Error::Setting { setting: "delivery", reason });
        };
        let id = match (&self.transactions, &settings.id) {
            (Some((transactions, _)), _) => transactions.id().to_owned(),
            (None, Some(id)) => id.clone(),
            (None, None) => self.made_up_id(),
        };
        let client = config.transactional_client(&id, settings.timeout)?;
        if config.brokers != self.config.brokers {
            let reason = "a transaction cannot span clusters; give source and sink the same".into();
            return Err(Error::Setting { setting: "brokers", reason });
        }
        let mut plain = config.client()?;
        let broker = probe::check_topic(plain.clone(), config.topic.clone()).await?;
        let transactions = if let Some((transactions, _)) = &self.transactions {
            if !transactions.writes_with(&client) {
                let reason = "all sinks of one source have to have the same".to_owned();
                return Err(Error::Setting { setting: "options", reason });
            }
            Arc::clone(transactions)
        } else {
            batches::fit(&mut plain, &config.topic, broker).await;
            let batch_size = plain.get("batch.size").map(str::to_owned);
            let (shared, settings) = (Arc::clone(&self.shared), settings.clone());
            let connected = Transactions::connect(shared, client, batch_size, settings, id).await?;
            self.shared.write_with(&connected.0);
            Arc::clone(&self.transactions.insert(connected).0)
        };
        Ok(TransactionalSink::new(transactions, config, plain))
    }

    /// Unlike any other: of this process, and not of the next.
    fn made_up_id(&self) -> String {
        let number = RandomState::new().hash_one(std::process::id());
        format!("forebay-{}-{number:016x}", self.config.group)
    }

    /// Joins the group and reads, on a thread of its own, until `stop` is cancelled.
    ///
    /// - **Emits** records as they come, in offset order within a partition; a null value is `None`.
    /// - **Backpressures**: at most `max_in_flight` records are read and not yet resolved. Polling never stops, so a
    ///   slow pipeline keeps its place in the group.
    /// - **Completes** at once when `stop` is cancelled. Records that were not handed out are left for the next run;
    ///   those that were are still waited for, until the handle is [closed](SourceHandle::close).
    /// - **On failure** that nothing in the pipeline answered, or of Kafka for good, yields one error and ends.
    ///
    /// # Errors
    ///
    /// When the group cannot be joined or no thread can be started.
    pub fn start(
        self,
        stop: &CancellationToken,
    ) -> Result<(impl Stream<Item = SourceItem> + Send + 'static, SourceHandle), Error> {
        let Self { mut consumer, shared, config, transactions } = self;
        if transactions.is_none() && config.delivery != Delivery::AtLeastOnce {
            let reason = "exactly once, a source needs a sink that it has given".to_owned();
            return Err(Error::Setting { setting: "delivery", reason });
        }
        consumer
            .subscribe(&[&config.topic])
            .map_err(|error| Error::Read { topic: config.topic.clone(), source: error.into() })?;
        // Closing the source stops it; that must not reach whatever else the caller's token stops.
        let stop = stop.child_token();
        let (sender, records) =
            mpsc::channel(config.max_in_flight.get().min(Semaphore::MAX_PERMITS));
        let wake = Arc::clone(&shared);
        consumer.set_nonempty_callback(move || wake.wake());
        let consumer = Arc::new(consumer);
        let transactions = match transactions {
            Some((transactions, producer)) => {
                transactions.start(&consumer, producer)?;
                Some(transactions)
            }
            None => None,
        };
        let poller = Poller {
            consumer,
            shared: Arc::clone(&shared),
            transactions,
            partitions: Partitions::new(config.max_uncommitted, config.stuck_after),
            flush: None,
            records: sender,
            stop: stop.clone(),
            // Also keeps an interval of nothing from spinning.
            commit_interval: config.commit_interval.max(SHORTEST_COMMIT_INTERVAL),
        };
        let (report, reported) = oneshot::channel();
        let (gone, left) = oneshot::channel();
        let end = EndGuard(Arc::clone(&shared));
        thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || {
                let _end = end;
                let (closed, leaving) = poller.run();
                // Nobody waits for the report of a source whose handle was dropped.
                report.send(closed).ok();
                drop(leaving);
                gone.send(()).ok();
            })
            .map_err(Error::Thread)?;
        let intake = Records::new(records, Arc::clone(&shared), stop.clone());
        Ok((intake.into_stream(), SourceHandle::new(shared, stop, reported, left)))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Sees to it that the poll thread does not end in silence.
struct EndGuard(Arc<Shared>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.fail(Error::ThreadEnded { topic: self.0.topic.to_string() });
        }
    }
}
