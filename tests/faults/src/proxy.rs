//! TCP proxies between workers and brokers, with a weather of their own.

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

/// What happens to what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    /// Each way.
    pub(crate) latency: Duration,
    /// Nothing passes, and no connection notices.
    pub(crate) requests_stuck: bool,
    pub(crate) responses_stuck: bool,
}

/// The weather, and the number of resets so far: connections from before the last are reset.
type Sky = (Weather, u32);

/// One proxy before each broker. They end when dropped.
pub(crate) struct Proxies {
    weather: Arc<watch::Sender<Sky>>,
    tasks: Vec<JoinHandle<()>>,
}

impl Proxies {
    pub(crate) async fn start(cluster: &Cluster) -> Result<Self> {
        let weather = Arc::new(watch::Sender::new(Sky::default()));
        let mut tasks = Vec::new();
        for (port, broker) in cluster.proxied() {
            let listener = TcpListener::bind(("127.0.0.1", port)).await;
            let listener = listener.with_context(|| format!("port {port} for a proxy"))?;
            tasks.push(tokio::spawn(accept(listener, broker, Arc::clone(&weather))));
        }
        Ok(Self { weather, tasks })
    }

    /// Changes the weather for what is open and for what will be.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_modify(|(now, _)| *now = weather);
    }

    /// Resets every connection.
    pub(crate) fn reset(&self) {
        self.weather.send_modify(|(_, resets)| *resets += 1);
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, broker: u16, weather: Arc<watch::Sender<Sky>>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((client, _)) = listener.accept() => {
                connections.spawn(relay(client, broker, weather.subscribe()));
            }
            // Those that ended are forgotten.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn relay(client: TcpStream, broker: u16, mut weather: watch::Receiver<Sky>) {
    // A broker that is down refuses; its client is turned away as well.
    let Ok(server) = TcpStream::connect(("127.0.0.1", broker)).await else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok();
        // Closing resets.
        stream.set_zero_linger().ok();
    }
    let resets = weather.borrow().1;
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let (up, down) = (weather.clone(), weather.clone());
    tokio::select! {
        () = pass(client_in, server_out, up, |weather| weather.requests_stuck) => {}
        () = pass(server_in, client_out, down, |weather| weather.responses_stuck) => {}
        _ = weather.wait_for(|(_, now)| *now != resets) => {}
    }
}

/// One way of a connection, until it ends.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Sky>,
    is_stuck: fn(&Weather) -> bool,
) {
    // What is on its way: so many pieces of at most 16 KiB.
    let (sender, mut pieces) = mpsc::channel::<(Instant, Vec<u8>)>(256);
    let latency = weather.clone();
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
            if weather.wait_for(|(weather, _)| !is_stuck(weather)).await.is_err()
                || to.write_all(&piece).await.is_err()
            {
                return;
            }
        }
    };
    tokio::join!(reading, writing);
}
