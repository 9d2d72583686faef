//! `PendingResponses`: the requests in flight, whose clients wait for a response.

use parking_lot::{Mutex, MutexGuard};
use std::collections::HashMap;

use forebay_stream::Outcome;
use tokio::sync::oneshot;

use crate::Reply;

/// The requests in flight, by position: the number of the request in its event's origin. The
/// source bounds how many there are.
#[derive(Debug, Default)]
pub(crate) struct PendingResponses(Mutex<HashMap<u64, Open>>);

/// A request in flight: its replies so far, and the channel to the handler that responds to its
/// client.
#[derive(Debug)]
struct Open {
    replies: Vec<Reply>,
    client: oneshot::Sender<Settled>,
}

/// The outcome of a request and its replies, from which the client's handler makes the response.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    /// The replies in the order in which they were sent.
    pub(crate) replies: Vec<Reply>,
}

impl PendingResponses {
    /// Registers a request, and returns the receiver of its outcome.
    pub(crate) fn open(&self, position: u64) -> oneshot::Receiver<Settled> {
        let (client, settled) = oneshot::channel();
        self.lock().insert(position, Open { replies: Vec::new(), client });
        settled
    }

    /// Keeps a reply until the request at `position` settles. If the request's client has gone,
    /// drops the reply. Returns false if no request at `position` is in flight.
    pub(crate) fn reply(&self, position: u64, reply: Reply) -> bool {
        let mut requests = self.lock();
        let Some(request) = requests.get_mut(&position) else { return false };
        if request.client.is_closed() {
            // Frees the earlier replies too, because nobody will read them.
            request.replies = Vec::new();
        } else {
            request.replies.push(reply);
        }
        true
    }

    /// Removes the request at `position`, and sends its outcome to the client's handler, unless the
    /// client has gone.
    pub(crate) fn settle(&self, position: u64, outcome: Outcome) {
        let request = self.lock().remove(&position);
        if let Some(Open { replies, client }) = request {
            client.send(Settled { outcome, replies }).ok();
        }
    }

    /// Returns the number of requests in flight.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::PendingResponses;
    use crate::Reply;

    #[test]
    fn no_reply_is_kept_for_a_client_that_has_gone() {
        let pending = PendingResponses::default();
        let client = pending.open(1);
        assert!(pending.reply(1, Reply::default()));
        assert_eq!(pending.lock()[&1].replies.len(), 1);
        drop(client);
        assert!(pending.reply(1, Reply::default()));
        assert_eq!(pending.lock()[&1].replies.len(), 0);
    }
}
