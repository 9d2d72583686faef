//! `TransactionalSink`: a topic to which replies are written in the transactions that commit their requests' offsets.

use std::sync::Arc;

use forebay_stream::{Event, Failure, Receipt};
use rdkafka::config::ClientConfig;

use crate::sink::{Addressed, Outgoing, Reply, ReplyKind};
use crate::source::{Output, PendingOffset, Transactions};
use crate::{Error, SinkConfig};

/// Writes replies exactly once, for whoever reads committed records only; a [`Source`](crate::Source) gives it.
///
/// A reply is kept until every request before it in its partition is answered, and is then written in one transaction
/// with the offset of its request. What fails before that is read again, and what was kept for it is dropped. So a
/// reply's receipt is done as soon as it is kept, and replies stand in the order of their requests' partitions.
pub struct TransactionalSink {
    transactions: Arc<Transactions>,
    outgoing: Outgoing,
    topic: Arc<str>,
    max_bytes: usize,
}

impl TransactionalSink {
    /// `client` asks for the topics that requests name.
    pub(crate) fn new(
        transactions: Arc<Transactions>,
        config: SinkConfig,
        client: ClientConfig,
    ) -> Self {
        const KAFKAS_OWN: usize = 1_048_588;
        let max_bytes = config.options.get("message.max.bytes");
        let max_bytes = max_bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(KAFKAS_OWN);
        let topic = config.topic.as_str().into();
        Self { transactions, outgoing: Outgoing::new(config, client), topic, max_bytes }
    }

    /// What the brokers have against a result of the request, if they would not take it.
    fn refusal(&self, receipt: &Receipt) -> Option<Failure> {
        if !self.transactions.has_refused() {
            return None;
        }
        let mut refusal = None;
        receipt.visit(&mut |ticket: &PendingOffset| {
            if ticket.is_of(&self.transactions) {
                refusal = refusal.take().or_else(|| ticket.refusal(&self.transactions));
            }
        });
        refusal
    }

    /// Keeps an output for the one request that it answers; a failure where the request cannot be answered so.
    fn keep(&self, receipt: &Receipt, output: Output) -> Result<Result<(), Failure>, Error> {
        let mut inputs = 0;
        receipt.visit(&mut |ticket: &PendingOffset| {
            inputs += usize::from(ticket.is_of(&self.transactions));
        });
        match inputs {
            0 => return Err(Error::NoRequest { topic: self.topic.to_string() }),
            1 => {}
            _ => {
                let message = format_args!(
                    "the reply was made of {inputs} requests; exactly once, each has its own"
                );
                return Ok(Err(Failure::new("several_requests", message)));
            }
        }
        let size = output.size();
        if size > self.max_bytes {
            let message = format_args!(
                "the reply has {size} bytes, and message.max.bytes is {}",
                self.max_bytes
            );
            return Ok(Err(Failure::new("reply_too_large", message)));
        }
        let mut output = Some(output);
        receipt.visit(&mut |ticket: &PendingOffset| {
            if ticket.is_of(&self.transactions)
                && let Some(output) = output.take()
            {
                ticket.keep(output);
            }
        });
        Ok(Ok(()))
    }
}

impl forebay_stream::Sink<Reply> for TransactionalSink {
    type Error = Error;

    /// Keeps the reply for its transaction; fails its receipt as `reply_too_large`, with what the brokers had against it
    /// when it was written before, or as [`Sink`](crate::Sink) does where the request asks for a place.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Error> {
        let Event { value: reply, meta, receipt } = event;
        let addressed = match (self.refusal(&receipt), reply.kind) {
            (Some(refusal), ReplyKind::Result) => Err(refusal),
            // Where the request asks for it may be what the brokers had something against.
            (Some(_), ReplyKind::Error) => Ok(self.outgoing.at_home(&meta)),
            _ => self.outgoing.address(&meta, &reply).await,
        };
        let Addressed { place, traceparent } = match addressed {
            Ok(addressed) => addressed,
            Err(failure) => {
                receipt.fail(failure);
                return Ok(());
            }
        };
        let output = Output { place, reply, traceparent, meta };
        match self.keep(&receipt, output)? {
            Ok(()) => receipt.done(),
            Err(failure) => receipt.fail(failure),
        }
        Ok(())
    }

    /// Nothing to push: transactions have their own beat.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// The source's end writes what is left.
    async fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl std::fmt::Debug for TransactionalSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalSink").field("topic", &self.topic).finish_non_exhaustive()
    }
}
