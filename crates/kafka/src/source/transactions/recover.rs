//! `Recovery`: what happens after a transaction has failed.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use forebay_stream::Failure;
use rdkafka::error::KafkaError;
use tokio::time::Instant;

use super::client::Client;
use super::job::Job;
use super::open::Open;
use super::txn_error::{TxnError, record_failure_code};
use crate::Error;
use crate::error::ClientError;
use crate::sink::is_unknown_topic;

/// Reacts to the errors of one worker, and remembers what it has to know about earlier ones.
pub(super) struct Recovery {
    job: Arc<Job>,
    // When the last transaction began.
    begun: Option<Instant>,
    // When another producer with the same id last fenced this one.
    fenced: Option<Instant>,
    // Number of failures since the last commit, for the backoff.
    failures: u32,
}

impl Recovery {
    pub(super) fn new(job: Arc<Job>) -> Self {
        Self { job, begun: None, fenced: None, failures: 0 }
    }

    /// Notes that a transaction begins.
    pub(super) fn begun(&mut self) {
        self.begun = Some(Instant::now());
    }

    /// Notes that a transaction was committed.
    pub(super) fn committed(&mut self) {
        *self.job.gone.lock() = None;
        *self.job.failing.lock() = None;
        if std::mem::take(&mut self.failures) > 0 {
            tracing::info!(id = %self.job.id, "transactions are committed again");
        }
    }

    /// Reacts to an error. The source ends after a permanent error, and if another producer with
    /// the same id has fenced this one twice within a minute. Otherwise everything in flight is
    /// voided, the transaction is aborted or left to a new producer, and the partitions are
    /// rewound.
    pub(super) fn recover(
        &mut self,
        client: &mut Client,
        open: &mut Option<Open>,
        error: TxnError,
    ) {
        if matches!(error, TxnError::Over) || client.is_replaced() {
            return;
        }
        if let TxnError::GiveUp(error) = error {
            return self.give_up(error);
        }
        // The failures that follow the first one mostly have the same cause.
        if self.failures == 0 {
            tracing::warn!(id = %self.job.id, %error, "a transaction failed, its requests are read again");
        } else {
            tracing::debug!(id = %self.job.id, %error, "a transaction failed again");
        }
        self.job.void();
        self.job.note_failure(open.as_ref());
        if let Some(open) = open.take() {
            self.note_refusal(client, &open);
        }
        let ended = match error {
            TxnError::Rebuild(_) => Err(error),
            _ => client.abort(),
        };
        match ended {
            Ok(()) => {
                if !client.request_rewind() {
                    return;
                }
            }
            _ if client.is_replaced() => return,
            Err(error) if error.is_fenced() && self.is_young() && self.was_fenced_before() => {
                let id = self.job.id.clone();
                return self.job.core.fail(Error::Fenced { id });
            }
            Err(error) => {
                tracing::info!(id = %self.job.id, ?error, "a new producer takes over");
                client.discard();
            }
        }
        self.back_off(client);
    }

    /// Lets a new producer take over.
    pub(super) fn rebuild(&mut self, client: &mut Client) -> Result<(), TxnError> {
        match client.create_producer() {
            Ok(()) => {
                if !client.request_rewind() {
                    return Err(TxnError::Over);
                }
                tracing::debug!(id = %self.job.id, "a new producer has taken over");
                Ok(())
            }
            Err(error @ TxnError::GiveUp(_)) => Err(error),
            Err(error) => {
                tracing::debug!(?error, "no new producer yet, it is tried again");
                self.job.note_failure(None);
                self.back_off(client);
                Ok(())
            }
        }
    }

    /// Ends the source with an error that repeating cannot fix.
    fn give_up(&self, error: KafkaError) {
        self.job.void();
        let topic = self.job.topic();
        let source = error.into();
        self.job.core.fail(Error::Transaction { topic, source });
    }

    /// Notes the reply that the brokers refused, if the transaction failed because of one.
    fn note_refusal(&self, client: &Client, open: &Open) {
        if let Ok(Some((error, number))) = client.first_failure()
            && let Some(code) = record_failure_code(&error)
            && let Some(reply) = open.replies.get(number)
        {
            let target = &reply.output.target;
            if !target.asked && is_unknown_topic(&error) {
                *self.job.gone.lock() = Some(Arc::clone(&target.topic));
            }
            let message = format_args!("the reply was not written: {}", ClientError::from(error));
            self.job.refused(reply, Failure::new(code, message));
        }
    }

    /// Whether the last transaction is too young for the brokers to have ended it by its timeout.
    fn is_young(&self) -> bool {
        self.begun.is_some_and(|begun| begun.elapsed() < self.job.timeout)
    }

    /// Whether another producer fenced this one for the second time within a minute. Two instances
    /// with one id keep fencing each other.
    fn was_fenced_before(&mut self) -> bool {
        const LIMIT: Duration = Duration::from_mins(1);
        let before = self.fenced.replace(Instant::now());
        before.is_some_and(|at| at.elapsed() < LIMIT)
    }

    /// Waits before the next attempt, twice as long after each failure in a row.
    fn back_off(&mut self, client: &Client) {
        const MAX_DOUBLINGS: u32 = 6;
        let pause = Duration::from_millis(50) * 2_u32.pow(self.failures.min(MAX_DOUBLINGS));
        self.failures += 1;
        let until = Instant::now() + pause;
        while !client.is_over() && Instant::now() < until {
            thread::park_timeout(until.saturating_duration_since(Instant::now()));
        }
    }
}
