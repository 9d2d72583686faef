//! `Ingress`: turns requests into events, and answers each when its receipt settles.

use parking_lot::{Mutex, MutexGuard};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use axum::body::{BodyDataStream, HttpBody as _};
use axum::extract::{Request, State};
use axum::http::header::EXPECT;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method};
use axum::response::Response;
use bytes::Bytes;
use forebay_stream::{Event, Header, Meta, Origin, Receipt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::response::{self, Refusal};
use super::{SOURCE, body};
use crate::config::Resolved;
use crate::pending::{PendingResponses, Settled};

/// The event of a request; the value is its body.
pub(super) type RequestEvent = Event<Option<Bytes>>;

/// The state shared by the server's handlers, the stream of requests and the handle.
#[derive(Debug)]
pub(super) struct Ingress {
    config: Resolved,
    source: Arc<str>,
    /// The number of requests that became events; the last one has this number.
    taken: AtomicU64,
    // One permit for each request that may be in flight. The channel has the same capacity, so it
    // is never full.
    permits: Arc<Semaphore>,
    // Locked while an event is sent and while `Requests` closes the channel on drop. Otherwise an
    // event could enter a channel whose receiver has gone, and would never settle.
    requests: Mutex<mpsc::Sender<RequestEvent>>,
    pending: Arc<PendingResponses>,
    /// Cancelled when the source stops taking requests.
    pub(super) stop: CancellationToken,
    /// Cancelled when the server shuts down. Requests that are still in flight are then answered as
    /// abandoned, without waiting until they settle.
    pub(super) closing: CancellationToken,
}

/// Handles one request.
pub(super) async fn answer(State(ingress): State<Arc<Ingress>>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let length = body.size_hint().lower();
    let mut body = body.into_data_stream();
    match ingress.take(&head, length, &mut body).await {
        Ok(settled) => ingress.wait(settled).await,
        Err(refusal) => {
            tracing::debug!(code = refusal.code().name(), "refused a request");
            // A client that sent `Expect: 100-continue` sends its body only after the server asks
            // for it. Reading from the body would ask for it.
            if !head.headers.contains_key(EXPECT) {
                body::discard(&mut body).await;
            }
            refusal.into_response()
        }
    }
}

impl Ingress {
    pub(super) fn new(
        config: Resolved,
        pending: Arc<PendingResponses>,
        stop: CancellationToken,
        closing: CancellationToken,
    ) -> (Self, mpsc::Receiver<RequestEvent>) {
        let permits = config.max_in_flight as usize;
        let (requests, receiver) = mpsc::channel(permits);
        let ingress = Self {
            config,
            source: SOURCE.into(),
            taken: AtomicU64::new(0),
            permits: Arc::new(Semaphore::new(permits)),
            requests: Mutex::new(requests),
            pending,
            stop,
            closing,
        };
        (ingress, receiver)
    }

    /// Validates a request, reads its body, and hands it over as an event.
    async fn take(
        &self,
        head: &Parts,
        length: u64,
        body: &mut BodyDataStream,
    ) -> Result<oneshot::Receiver<Settled>, Refusal> {
        let limit = self.config.max_body;
        if head.uri.path() != self.config.path {
            return Err(Refusal::NotFound { path: self.config.path.clone() });
        }
        if head.method != Method::POST {
            return Err(Refusal::Method { method: head.method.clone() });
        }
        if length > limit as u64 {
            return Err(Refusal::TooLarge { limit });
        }
        // The permit is acquired before `stop` is checked, while `Handle::close` cancels `stop`
        // before it waits for all permits. So a request either holds a permit that `close` waits
        // for, or sees that the source is stopped.
        let permit = self.permit();
        if self.stop.is_cancelled() {
            return Err(Refusal::Stopped);
        }
        let permit = permit?;
        let read =
            self.stop.run_until_cancelled(body::read(body, limit, self.config.body_timeout)).await;
        let body = read.unwrap_or(Err(Refusal::Stopped))?;
        Ok(self.hand_over(&head.headers, body, permit))
    }

    /// Acquires a permit for one request in flight. If none is left, returns the refusal
    /// `overloaded`.
    pub(super) fn permit(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        permit.map_err(|_| Refusal::Overloaded { limit: self.config.max_in_flight })
    }

    /// Sends a request's event to the stream. If the stream has ended, the event settles as
    /// abandoned at once.
    pub(super) fn hand_over(
        &self,
        headers: &HeaderMap,
        body: Bytes,
        permit: OwnedSemaphorePermit,
    ) -> oneshot::Receiver<Settled> {
        let position = self.taken.fetch_add(1, Ordering::Relaxed) + 1;
        let settled = self.pending.open(position);
        let pending = Arc::clone(&self.pending);
        let receipt = Receipt::new(move |outcome| {
            pending.settle(position, outcome);
            drop(permit);
        });
        let meta = Arc::new(self.meta(headers, position));
        let sent = self.requests().try_send(Event { value: Some(body), meta, receipt });
        // If the channel is closed, `sent` returns the event. Dropping the event settles its
        // request as abandoned; this happens here, after the lock on `requests` is released.
        drop(sent);
        settled
    }

    fn meta(&self, headers: &HeaderMap, position: u64) -> Meta {
        let bytes = |value: &HeaderValue| Bytes::copy_from_slice(value.as_bytes());
        let key_header = &self.config.key_header;
        let passed_on =
            headers.iter().filter(|(name, _)| is_passed_on(name) && *name != key_header);
        Meta {
            key: headers.get(key_header).map(bytes),
            headers: passed_on
                .map(|(name, value)| Header {
                    name: name.as_str().to_owned(),
                    value: Some(bytes(value)),
                })
                .collect(),
            timestamp: Some(SystemTime::now()),
            origin: Origin { source: Arc::clone(&self.source), partition: None, position },
        }
    }

    /// Waits until the request settles or the server shuts down, and returns the response.
    async fn wait(&self, settled: oneshot::Receiver<Settled>) -> Response {
        tokio::select! {
            biased;
            settled = settled => match settled {
                Ok(settled) => response::settled(&settled),
                Err(_) => response::abandoned(),
            },
            () = self.closing.cancelled() => response::abandoned(),
        }
    }

    /// Waits until no request is in flight. If `stop` is cancelled before, no request is added
    /// later.
    pub(super) async fn all_settled(&self) {
        self.permits.acquire_many(self.config.max_in_flight).await.ok();
    }

    /// Returns the number of requests in flight.
    pub(super) fn in_flight(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn requests(&self) -> MutexGuard<'_, mpsc::Sender<RequestEvent>> {
        self.requests.lock()
    }
}

/// Returns whether a header is copied to the event: Forebay's own headers and those of W3C Trace
/// Context.
fn is_passed_on(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("forebay-") || name == "traceparent" || name == "tracestate"
}
