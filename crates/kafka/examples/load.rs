//! Puts load on a running pipeline, from clients that each wait for a reply before they send the
//! next request.
//!
//! ```sh
//! cargo run --release --example load -- 127.0.0.1:9092 requests replies texts.txt 16 5
//! ```
//!
//! sends the lines of `texts.txt` in turn as `{"text": ..}` from 16 clients for 5 seconds, after a
//! second of warm-up, and prints requests/s and the median, 95th and 99th percentile of the latency
//! in milliseconds. Replies are matched by the header `kafka_correlationId`, which the pipeline has
//! to send back.

use parking_lot::Mutex;
use std::time::Duration;

use anyhow::{Context as _, bail};
use forebay_kafka::{Options, Requester};
use futures::future::try_join_all;
use tokio::time::Instant;

const WARM_UP: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_mins(1);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let [brokers, requests, replies, texts, clients, seconds] = &*arguments else {
        bail!("usage: load BROKERS REQUESTS REPLIES TEXTS CLIENTS SECONDS");
    };
    let clients: usize = clients.parse().context("CLIENTS is a number")?;
    let seconds: f64 = seconds.parse().context("SECONDS is a number")?;
    let texts = std::fs::read_to_string(texts).context("cannot read the texts")?;
    let bodies: Vec<_> =
        texts.lines().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
    let requester = Requester::connect(brokers, requests, replies, &Options::default()).await?;

    let latencies = Mutex::new(Vec::new());
    let begin = Instant::now() + WARM_UP;
    let end = begin + Duration::from_secs_f64(seconds);
    let clients = (0..clients).map(|client| {
        let requester = &requester;
        let bodies = &bodies;
        let latencies = &latencies;
        async move {
            // Each client starts at another line, so that a batch has different texts.
            let mut number = client * 37;
            while Instant::now() < end {
                let sent = Instant::now();
                let body = bodies[number % bodies.len()].as_bytes();
                let reply = requester.request(None, body, PATIENCE).await?;
                let value = reply.value.context("a reply without a value")?;
                if value.starts_with(b"{\"error\"") {
                    bail!("{}", String::from_utf8_lossy(&value));
                }
                let answered = Instant::now();
                if begin < answered && answered <= end {
                    latencies.lock().push(answered - sent);
                }
                number += 1;
            }
            Ok(())
        }
    });
    try_join_all(clients).await?;
    requester.close().await;

    let mut latencies = latencies.into_inner();
    latencies.sort_unstable();
    let count = latencies.len();
    let millis = |percent: usize| {
        latencies.get(count * percent / 100).map_or(f64::NAN, |it| it.as_secs_f64() * 1e3)
    };
    #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
    let rate = count as f64 / seconds;
    println!("{rate:.0} {:.1} {:.1} {:.1}", millis(50), millis(95), millis(99));
    Ok(())
}
