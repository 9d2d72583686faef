//! `Source`: a topic, read as a member of a consumer group, as a stream of events.

mod assignment;
mod committed;
mod core;
mod end;
mod group;
mod handle;
mod handover;
mod in_flight;
mod ledger;
mod lists;
mod membership;
#[cfg(test)]
mod model_check;
mod offsets;
mod partitions;
mod poller;
mod record;
mod rewind;
mod staged;
mod stats;
mod stream;
mod transactions;
mod wake;

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::thread;

use bytes::Bytes;
use forebay_stream::Event;
use futures::Stream;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::core::Core;
use self::group::Group;
use self::membership::Membership;
use self::poller::Poller;
use self::stream::Records;
use self::transactions::Producer;
use crate::connections::Connections;
use crate::sink::batches;
use crate::{Delivery, Error, SinkConfig, SourceConfig, TransactionalSink, probe};

pub(crate) use self::record::PendingOffset;
pub(crate) use self::staged::Output;
pub(crate) use self::transactions::Transactions;

pub use self::committed::{CommittedOffset, CommittedOffsets};
pub use self::handle::SourceHandle;
pub use self::stats::{CloseReport, Oldest, Stats};

/// An event with the value of a record (`None` for a null value), or the error that ends the
/// source.
pub type SourceItem = Result<Event<Option<Bytes>>, Error>;

/// A topic that is known to exist, ready to be read.
///
/// The offset of a record is committed when that record and all before it in its partition are
/// done. With at-least-once delivery the source commits offsets by itself; with exactly-once
/// delivery they are committed in one transaction with the replies to those records, see
/// [`sink`](Self::sink). Failed and abandoned records hold their offset: nothing behind it is
/// committed, and they are read again after a restart.
pub struct Source {
    consumer: BaseConsumer<Group>,
    core: Arc<Core>,
    config: SourceConfig,
    // Set by the first call of `sink`.
    transactions: Option<(Arc<Transactions>, Producer)>,
}

impl Source {
    /// Connects to the brokers and checks that the topic exists. Joins no group yet.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, if no broker answers within ten seconds,
    /// or if the topic does not exist.
    pub async fn connect(config: SourceConfig) -> Result<Self, Error> {
        let mut client = config.client()?;
        let topic = config.topic.clone();
        probe::check_topic(client.clone(), topic).await?;
        let core = Arc::new(Core::new(&config));
        Connections::report(&mut client);
        let strategy = client.get("partition.assignment.strategy").map(str::to_owned);
        let membership = Membership::new(Arc::clone(&core.topic), config.group.clone(), strategy);
        let group = Group::new(Arc::clone(&core), membership, config.drain_timeout()?);
        let consumer =
            client.create_with_context(group).map_err(|error| Error::Configure(error.into()))?;
        Ok(Self { consumer, core, config, transactions: None })
    }

    /// Connects a sink that writes replies exactly once, in the transactions that commit this
    /// source's offsets.
    ///
    /// All sinks of a source share one producer, with the options of the first sink.
    ///
    /// # Errors
    ///
    /// Returns an error if the source delivers [at least once](Delivery::AtLeastOnce), if the
    /// sink's brokers are not those of the source, if its options differ from those of the first
    /// sink, if the topic does not exist, or if the brokers do not allow this client to use
    /// transactions.
    pub async fn sink(&mut self, config: SinkConfig) -> Result<TransactionalSink, Error> {
        let Delivery::ExactlyOnce(settings) = &self.config.delivery else {
            let reason =
                "it is at least once; connect the sink with `Sink::connect` instead".to_owned();
            return Err(Error::Setting { setting: "delivery", reason });
        };
        let id = match (&self.transactions, &settings.id) {
            (Some((transactions, _)), _) => transactions.id().to_owned(),
            (None, Some(id)) => id.clone(),
            (None, None) => self.generated_id(),
        };
        let timeout = self.config.transaction_timeout(settings)?;
        let client = config.transactional_client(&id, timeout)?;
        if config.brokers != self.config.brokers {
            let reason = "a transaction cannot span clusters; give source and sink the same".into();
            return Err(Error::Setting { setting: "brokers", reason });
        }
        let mut plain = config.client()?;
        let broker = probe::check_topic(plain.clone(), config.topic.clone()).await?;
        let transactions = if let Some((transactions, _)) = &self.transactions {
            if !transactions.has_client_config(&client) {
                let reason = "all sinks of one source have to have the same".to_owned();
                return Err(Error::Setting { setting: "options", reason });
            }
            Arc::clone(transactions)
        } else {
            batches::fit(&mut plain, &config.topic, broker).await;
            let batch_size = plain.get("batch.size").map(str::to_owned);
            let core = Arc::clone(&self.core);
            let interval = settings.commit_interval;
            let connected =
                Transactions::connect(core, client, batch_size, interval, timeout, id).await?;
            Arc::clone(&self.transactions.insert(connected).0)
        };
        Ok(TransactionalSink::new(transactions, config, plain))
    }

    /// Returns the offsets that the source will commit, as a source of events.
    ///
    /// The events of all calls are the same ones: each goes to one of the returned sources.
    ///
    /// ```
    /// # use std::time::Duration;
    /// #
    /// # use bytes::Bytes;
    /// # use forebay_kafka::{EmbeddedBroker, Reply, Sink, SinkConfig, Source, SourceConfig};
    /// # use forebay_stream::{Event, Flow, Sink as _};
    /// # use futures::StreamExt as _;
    /// # use tokio_util::sync::CancellationToken;
    /// #
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let broker = EmbeddedBroker::start(&[("requests", 1)])?;
    /// # let brokers = broker.bootstrap_servers();
    /// # let mut client = Sink::connect(SinkConfig::new(&brokers, "requests")).await?;
    /// # client.send(Event::detached(Reply { value: Some("hello".into()), ..Reply::default() })).await?;
    /// # client.close().await?;
    /// let mut source = Source::connect(SourceConfig::new(&brokers, "requests", "group")).await?;
    /// let committed = Flow::from_source("committed", source.committed());
    /// let (events, handle) = source.start(&CancellationToken::new())?;
    ///
    /// let request = Box::pin(events).next().await.expect("one request")?;
    /// request.receipt.done();
    /// handle.close(Duration::from_secs(5)).await?;
    ///
    /// let committed = committed.collect().await?;
    /// assert_eq!((&*committed[0].topic, committed[0].partition, committed[0].offset), ("requests", 0, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn committed(&mut self) -> CommittedOffsets {
        let Core { topic, confirmed, .. } = &*self.core;
        CommittedOffsets::new(&self.config.group, topic, Arc::clone(confirmed))
    }

    /// Generates a transactional id that no other process has, for settings without one.
    fn generated_id(&self) -> String {
        let number = RandomState::new().hash_one(std::process::id());
        format!("forebay-{}-{number:016x}", self.config.group)
    }

    /// Joins the group and reads on a dedicated thread until `stop` is cancelled.
    ///
    /// - **Emits** records as they arrive, in offset order within a partition; a null value is
    ///   `None`.
    /// - **Backpressures**: at most `max_in_flight` records are read and not yet settled. Polling
    ///   never stops, so a slow pipeline stays a member of the group.
    /// - **Completes** at once when `stop` is cancelled. Records that were not handed out are left
    ///   for the next run. The outcomes of those that were handed out count until the handle is
    ///   [closed](SourceHandle::close).
    /// - **On failure** of a record that nothing in the pipeline answered (with
    ///   [`OnUnanswered::Stop`](crate::OnUnanswered::Stop)), on an error from which the Kafka client
    ///   does not recover, or if a record is stuck for
    ///   [`stuck_timeout`](SourceConfig::stuck_timeout), yields one error and ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the topic cannot be subscribed to, if a source that delivers exactly
    /// once has no sink, or if no thread can be started.
    pub fn start(
        self,
        stop: &CancellationToken,
    ) -> Result<(impl Stream<Item = SourceItem> + Send + 'static, SourceHandle), Error> {
        let Self { mut consumer, core, config, transactions } = self;
        if transactions.is_none() && config.delivery != Delivery::AtLeastOnce {
            let reason =
                "a source that delivers exactly once needs a sink from `Source::sink`".to_owned();
            return Err(Error::Setting { setting: "delivery", reason });
        }
        consumer
            .subscribe(&[&config.topic])
            .map_err(|error| Error::Read { topic: config.topic.clone(), source: error.into() })?;
        // Closing the source cancels this token, which must not cancel the caller's token.
        let stop = stop.child_token();
        let (sender, records) =
            mpsc::channel(config.max_in_flight.get().min(Semaphore::MAX_PERMITS));
        let woken = Arc::clone(&core);
        consumer.set_nonempty_callback(move || woken.poller.wake());
        let ready = consumer.context().membership.ready();
        let consumer = Arc::new(consumer);
        let transactions = match transactions {
            Some((transactions, producer)) => {
                transactions.start(&consumer, producer)?;
                Some(transactions)
            }
            None => None,
        };
        let poller =
            Poller::new(consumer, Arc::clone(&core), transactions, sender, stop.clone(), &config);
        let (report, reported) = oneshot::channel();
        let (gone, left) = oneshot::channel();
        let end = EndGuard(Arc::clone(&core));
        thread::Builder::new()
            .name("kafka-source".to_owned())
            .spawn(move || {
                let _end = end;
                let (closed, leaving) = poller.run();
                // Sending fails if the handle was dropped; then nobody waits for the report.
                report.send(closed).ok();
                drop(leaving);
                gone.send(()).ok();
            })
            .map_err(Error::Thread)?;
        let records = Records::new(records, Arc::clone(&core), stop.clone());
        Ok((records.into_stream(), SourceHandle::new(core, stop, ready, reported, left)))
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Fails the source if the poll thread panics, so that the stream reports it.
struct EndGuard(Arc<Core>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.confirmed.end();
        if thread::panicking() {
            self.0.fail(Error::ThreadEnded { topic: self.0.topic.to_string() });
        }
    }
}
