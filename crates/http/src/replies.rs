//! `Replies`: the sink that answers requests.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use forebay_stream::{Event, Failure, Sink};

use crate::pending::PendingResponses;
use crate::source::SOURCE;

/// What is answered to one request, or one of several such.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reply {
    /// JSON; the body of the response, or a line of it.
    pub value: Bytes,
    /// The code of the error that `value` tells of, where it tells of one. The response's status says so.
    pub error: Option<String>,
}

/// Gives the requests of a [`HttpSource`](crate::HttpSource) their replies, each found by the origin of its event.
///
/// A response is written once its request's receipt settles, so that it has every reply there is; until then the
/// replies are held, as many as the pipeline makes for one request. Clones answer for the same source.
#[derive(Clone, Debug)]
pub struct Replies {
    waiting: Arc<PendingResponses>,
}

impl Replies {
    pub(crate) fn new(waiting: Arc<PendingResponses>) -> Self {
        Self { waiting }
    }
}

impl Sink<Reply> for Replies {
    type Error = Infallible;

    /// Adds the reply to the response. Its receipt is done at once, for the response waits for it; where the client has
    /// gone away too. It fails as `no_request` where the event is of no request that this source has open. Never waits.
    async fn send(&mut self, event: Event<Reply>) -> Result<(), Infallible> {
        let Event { value: reply, meta, receipt } = event;
        let origin = &meta.origin;
        if *origin.source == *SOURCE && self.waiting.reply(origin.position, reply) {
            receipt.done();
        } else {
            let message = format!("no request waits for the reply to {origin}");
            receipt.fail(Failure::new("no_request", message).at("reply"));
        }
        Ok(())
    }
}
