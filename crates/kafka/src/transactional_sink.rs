//! `TransactionalSink`: writes replies in the transactions that commit their requests' offsets.

use std::sync::Arc;

use forebay_stream::{Event, Failure, Receipt};
use rdkafka::config::ClientConfig;

use crate::sink::{Addressed, Outgoing, Reply, ReplyKind};
use crate::source::{Output, PendingOffset, Transactions};
use crate::{Error, SinkConfig, codes};

/// A sink that writes each reply exactly once, as seen by consumers that read only committed
/// records. [`Source::sink`](crate::Source::sink) connects one.
///
/// A reply is first staged, which means kept in memory. It is written when all earlier requests of
/// the same partition are answered, in the transaction that commits its request's offset. If
/// anything fails before the commit, the staged replies are dropped and their requests are read
/// again. Nothing is lost then, so the reply's receipt can be marked done as soon as the reply is
/// staged. The replies to the requests of one partition are written in the order of the requests.
pub struct TransactionalSink {
    transactions: Arc<Transactions>,
    outgoing: Outgoing,
    topic: Arc<str>,
    max_bytes: usize,
}

impl TransactionalSink {
    /// Creates a sink. `client` configures the client that checks whether a reply topic that a
    /// request names exists.
    pub(crate) fn new(
        transactions: Arc<Transactions>,
        config: SinkConfig,
        client: ClientConfig,
    ) -> Self {
        const KAFKA_DEFAULT: usize = 1_048_588;
        let max_bytes = config.options.get("message.max.bytes");
        let max_bytes = max_bytes.and_then(|bytes| bytes.parse().ok()).unwrap_or(KAFKA_DEFAULT);
        let topic = config.topic.as_str().into();
        Self { transactions, outgoing: Outgoing::new(config, client), topic, max_bytes }
    }

    /// Returns why the brokers refused an earlier result for the request of this receipt, if they
    /// did. A new result for the request is then not staged but fails with this reason; an error
    /// reply is still written.
    fn refusal(&self, receipt: &Receipt) -> Option<Failure> {
        if !self.transactions.has_refused() {
            return None;
        }
        let mut refusal = None;
        receipt.visit(&mut |pending: &PendingOffset| {
            if pending.is_of(&self.transactions) {
                refusal = refusal.take().or_else(|| pending.refusal(&self.transactions));
            }
        });
        refusal
    }

    /// Stages a reply for the one request that it answers. The inner result is a failure if the
    /// reply answers several requests or is too large. The outer error means that the reply answers
    /// no request of this source.
    fn stage(&self, receipt: &Receipt, output: Output) -> Result<Result<(), Failure>, Error> {
        let mut inputs = 0;
        receipt.visit(&mut |pending: &PendingOffset| {
            inputs += usize::from(pending.is_of(&self.transactions));
        });
        match inputs {
            0 => return Err(Error::NoRequest { topic: self.topic.to_string() }),
            1 => {}
            _ => {
                let message = format_args!(
                    "the reply answers {inputs} requests; with exactly-once delivery each request needs its own reply"
                );
                return Ok(Err(Failure::new(codes::SEVERAL_REQUESTS, message)));
            }
        }
        let size = output.size();
        if size > self.max_bytes {
            let message = format_args!(
                "the reply has {size} bytes, and message.max.bytes is {}",
                self.max_bytes
            );
            return Ok(Err(Failure::new(codes::REPLY_TOO_LARGE, message)));
        }
        let mut output = Some(output);
        receipt.visit(&mut |pending: &PendingOffset| {
            if pending.is_of(&self.transactions)
                && let Some(output) = output.take()
            {
                pending.keep(output);
            }
        });
        Ok(Ok(()))
    }
}

impl forebay_stream::Sink<Reply> for TransactionalSink {
    type Error = Error;

    /// Stages the reply. Its receipt fails
    /// - as `reply_too_large` if the reply is larger than `message.max.bytes`,
    /// - as `several_requests` if the reply answers more than one request,
    /// - with the brokers' reason if the brokers refused an earlier result for the same request,
    /// - with the same codes as in a [`Sink`](crate::Sink) if the topic or the partition that the
    ///   request names cannot be used.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Error> {
        let Event { value: reply, meta, receipt } = event;
        // If even the error reply cannot be written, the sink has failed, and not the source whose
        // request would get no answer.
        if reply.kind == ReplyKind::Error && self.transactions.is_gone(&self.topic) {
            return Err(Error::TopicGone { topic: self.topic.to_string() });
        }
        let addressed = match (self.refusal(&receipt), reply.kind) {
            (Some(refusal), ReplyKind::Result) => Err(refusal),
            // The brokers may have refused the target that the request names, so the error reply
            // goes to the sink's own topic.
            (Some(_), ReplyKind::Error) => Ok(self.outgoing.to_own_topic()),
            _ => self.outgoing.address(&meta, &reply).await,
        };
        let Addressed { target, drop } = match addressed {
            Ok(addressed) => addressed,
            Err(failure) => {
                receipt.fail(failure);
                return Ok(());
            }
        };
        let output = Output { target, reply, drop, meta };
        match self.stage(&receipt, output)? {
            Ok(()) => receipt.done(),
            Err(failure) => receipt.fail(failure),
        }
        Ok(())
    }

    /// Does nothing, because transactions are committed at their own interval.
    async fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }

    /// Does nothing, because closing the source commits the staged replies.
    async fn close(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

impl std::fmt::Debug for TransactionalSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TransactionalSink").field("topic", &self.topic).finish_non_exhaustive()
    }
}
