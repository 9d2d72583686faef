//! `serve`: an HTTP/1.1 server that closes connections whose clients are silent.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::extract::Request;
use axum::response::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The default of the longest wait for the head of a request.
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// The pause after the operating system has refused to accept a connection, for example because the
/// process has too many open files.
const PAUSE: Duration = Duration::from_secs(1);

/// Serves connections until `closing` is cancelled. Then the requests that have arrived are
/// answered. Dropping the future cuts all connections.
///
/// A connection is closed if no whole head of a request arrives within `idle_timeout` after the
/// connection was opened, or after the last response.
///
/// axum's own server has no such limit, so each silent client would hold a descriptor for ever.
pub(crate) async fn serve<S>(
    listener: TcpListener,
    service: S,
    idle_timeout: Duration,
    closing: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    let mut connections = JoinSet::new();
    let mut is_refused = false;
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                is_refused = false;
                let service = service.clone();
                connections.spawn(connection(stream, peer, service, idle_timeout, closing.clone()));
            }
            Err(error) if is_of_client(&error) => {}
            Err(error) => {
                if !is_refused {
                    tracing::warn!(%error, "cannot accept connections; trying again every second");
                }
                is_refused = true;
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Returns whether the client is the reason that its connection could not be accepted.
fn is_of_client(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

async fn connection<S>(
    stream: TcpStream,
    peer: SocketAddr,
    service: S,
    idle_timeout: Duration,
    closing: CancellationToken,
) where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible>,
{
    // Turns off Nagle's algorithm, which would only delay responses, because they are written
    // whole. An error is ignored, because the connection works without the option too.
    stream.set_nodelay(true).ok();
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(idle_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let end = tokio::select! {
        end = connection.as_mut() => end,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    match end {
        Ok(()) => {}
        Err(error) if error.is_timeout() => {
            tracing::debug!(%peer, ?idle_timeout, "closed a connection on which no request came");
        }
        Err(error) => tracing::debug!(%peer, %error, "a connection ended"),
    }
}
