//! `Replies`: the sink that answers requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use forebay_stream::{Event, Failure, Sink};

use crate::codes;
use crate::pending::PendingResponses;
use crate::source::SOURCE;

/// A reply to a request. A request may get several.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// The reply as JSON. If it is the only reply, it is the body of the response. Otherwise it is
    /// one line of the body.
    pub value: Bytes,
    /// The error's code, if `value` is an error. The response then has the status 422.
    pub error: Option<String>,
}

/// A sink that sends replies to the requests of an [`HttpSource`](crate::HttpSource). An event's
/// origin identifies its request.
///
/// The response to a request is written when the request's receipt settles, because only then are
/// all replies known. Until then the replies are kept in memory, and their number is not limited.
/// Clones reply to requests of the same source.
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
    /// The event's receipt is done at once, even if the client has gone away: the response is
    /// written later, when the whole request settles. If no request of this source with the
    /// event's origin is in flight, the event's receipt fails with `no_request`.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Infallible> {
        let Event { value: reply, meta, receipt } = event;
        let origin = &meta.origin;
        if *origin.source == *SOURCE && self.pending.reply(origin.position, reply) {
            receipt.done();
        } else {
            let message = format!("no request waits for the reply to {origin}");
            receipt.fail(Failure::new(codes::NO_REQUEST, message).at("reply"));
        }
        Ok(())
    }
}
