//! TCP proxies between workers and brokers, which delay bytes, hold them back, or reset
//! connections.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Cluster;

/// The faults that the proxies inject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Conditions {
    /// Added latency in each direction.
    pub(crate) latency: Duration,
    /// Whether the proxies hold back the bytes for the brokers. All connections stay open.
    pub(crate) requests_stuck: bool,
    /// Whether the proxies hold back the bytes from the brokers. All connections stay open.
    pub(crate) responses_stuck: bool,
}

/// The conditions, and the number of calls of [`Proxies::reset`] so far. Each connection remembers
/// the number at which it was opened, and is reset as soon as the number differs.
type State = (Conditions, u32);

/// The proxies, one in front of each broker. They stop when this value is dropped.
pub(crate) struct Proxies {
    conditions: Arc<watch::Sender<State>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxies {
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        let conditions = Arc::new(watch::Sender::new(State::default()));
        let mut tasks = Vec::new();
        for (port, broker) in cluster.proxied() {
            let listener = TcpListener::bind(("127.0.0.1", port)).await;
            let listener = listener.with_context(|| format!("port {port} for a proxy"))?;
            tasks.push(tokio::spawn(accept(listener, broker, Arc::clone(&conditions))));
        }
        Ok(Self { conditions, tasks })
    }

    /// Sets the conditions of all open and future connections.
    pub(crate) fn set(&self, conditions: Conditions) {
        self.conditions.send_modify(|(now, _)| *now = conditions);
    }

    /// Resets every connection.
    pub(crate) fn reset(&self) {
        self.conditions.send_modify(|(_, resets)| *resets += 1);
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, broker: u16, conditions: Arc<watch::Sender<State>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(relay(client, broker, conditions.subscribe()));
            }
            // Removes connections that have ended from the set.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, broker: u16, mut conditions: watch::Receiver<State>) {
    // If the broker is down, it refuses the connection, and the proxy closes that of the client.
    let Ok(server) = TcpStream::connect(("127.0.0.1", broker)).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
        // With a linger time of 0, closing a connection sends a reset.
        stream.set_zero_linger().ok();
    }
    let resets = conditions.borrow().1;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let up = conditions.clone();
    let down = conditions.clone();
    tokio::select! {
        () = pass(client_in, server_out, up, |conditions| conditions.requests_stuck) => {}
        () = pass(server_in, client_out, down, |conditions| conditions.responses_stuck) => {}
        _ = conditions.wait_for(|(_, now)| *now != resets) => {}
    }
}

/// Passes on the bytes of one direction of a connection until the connection ends.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut conditions: watch::Receiver<State>,
    is_stuck: fn(&Conditions) -> bool,
) {
    // The bytes that are read and not yet written: at most 256 pieces of up to 16 KiB.
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(256);
    let latency = conditions.clone();
    let reading = async move {
        loop {
            let mut piece = vec![0; 16 * 1024];
            let Ok(length @ 1..) = from.read(&mut piece).await else { return };
            piece.truncate(length);
            let arrival = Instant::now() + latency.borrow().0.latency;
            if sender.send((arrival, piece)).await.is_err() {
                return;
            }
        }
    };
    let writing = async move {
        while let Some((arrival, piece)) = pieces.recv().await {
            sleep_until(arrival).await;
            if conditions.wait_for(|(conditions, _)| !is_stuck(conditions)).await.is_err()
                || to.write_all(&piece).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
