//! `PendingResponses`: the clients that wait, each for its request to settle.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use forebay_stream::Outcome;
use tokio::sync::oneshot;

use crate::Reply;

/// The requests that are not resolved yet, by position; as many as the source lets in.
#[derive(Debug, Default)]
pub(crate) struct PendingResponses(Mutex<HashMap<u64, Open>>);

#[derive(Debug)]
struct Open {
    replies: Vec<Reply>,
    client: oneshot::Sender<Settled>,
}

/// What there is to tell a client.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) outcome: Outcome,
    /// In the order in which they were sent.
    pub(crate) replies: Vec<Reply>,
}

impl PendingResponses {
    /// Begins a request.
    pub(crate) fn open(&self, position: u64) -> oneshot::Receiver<Settled> {
        let (client, settled) = oneshot::channel();
        self.lock().insert(position, Open { replies: Vec::new(), client });
        settled
    }

    /// Keeps a reply until its request settles, unless the client has gone; false where there is no such request.
    pub(crate) fn reply(&self, position: u64, reply: Reply) -> bool {
        let mut requests = self.lock();
        let Some(request) = requests.get_mut(&position) else { return false };
        if request.client.is_closed() {
            // Nobody will read them, so they need not wait for the request's end either.
            request.replies = Vec::new();
        } else {
            request.replies.push(reply);
        }
        true
    }

    /// Ends a request, and tells its client, if it is still there.
    pub(crate) fn settle(&self, position: u64, outcome: Outcome) {
        let request = self.lock().remove(&position);
        if let Some(Open { replies, client }) = request {
            client.send(Settled { outcome, replies }).ok();
        }
    }

    /// How many requests are not resolved.
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Open>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::PendingResponses;
    use crate::Reply;

    #[test]
    fn nothing_is_kept_for_a_client_that_has_gone() {
        let waiting = PendingResponses::default();
        let client = waiting.open(1);
        assert!(waiting.reply(1, Reply::default()));
        assert_eq!(waiting.lock()[&1].replies.len(), 1);
        drop(client);
        assert!(waiting.reply(1, Reply::default()));
        assert_eq!(waiting.lock()[&1].replies.len(), 0);
    }
}
