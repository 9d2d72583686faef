//! `Replies`: the sink that answers requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use forebay_stream::{Event, Failure, Sink};

use crate::pending::PendingResponses;
use crate::source::SOURCE;

/// A reply to a request. A request may get several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// JSON: the body of the response or, if there are several replies, a line of it.
    pub value: Bytes,
    /// The error's code, if `value` is an error. It changes the status of the response.
    pub error: Option<String>,
}

/// A sink that sends replies to the requests of an [`HttpSource`](crate::HttpSource). An event's
/// origin identifies its request.
///
/// A response is written when its request's receipt settles, so that it contains all replies. Until
/// then the replies are held, as many as the pipeline makes for one request. Clones answer for the
/// same source.
#[derive(Clone, Debug)]
pub struct Replies {
    pending: Arc<PendingResponses>,
}

impl Replies {
    pub(crate) fn new(pending: Arc<PendingResponses>) -> Self {
        Self { pending }
    }
}

impl Sink<Reply> for Replies {
    type Error = Infallible;

    /// Adds the reply to the response, and never waits.
    ///
    /// The event's receipt is done at once, because the response itself waits for the request's
    /// receipt; also if the client has gone away. It fails with `no_request` if no request of this
    /// source with the event's origin is in flight.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Infallible> {
        let Event { value: reply, meta, receipt } = event;
        let origin = &meta.origin;
        if *origin.source == *SOURCE && self.pending.reply(origin.position, reply) {
            receipt.done();
        } else {
            let message = format!("no request waits for the reply to {origin}");
            receipt.fail(Failure::new("no_request", message).at("reply"));
        }
        Ok(())
    }
}
