//! A closed-loop load: each client sends its next request when the last one is answered.

use parking_lot::Mutex;
use std::time::Duration;

use anyhow::Context as _;
use forebay_kafka::{Requester, Response};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use hdrhistogram::Histogram;
use tokio::time::Instant;

use crate::sentiment::LabelledText;

/// Longest wait for one reply.
const PATIENCE: Duration = Duration::from_mins(1);

/// The size of a load.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) requests: usize,
    /// Number of clients, each with one request in flight.
    pub(crate) concurrency: usize,
}

/// The measurements of a load.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) requests: usize,
    pub(crate) elapsed: Duration,
    /// Times from produce to reply, in microseconds.
    latencies: Histogram<u64>,
}

impl Measured {
    pub(crate) fn per_second(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "counts of requests are far below 2^52")]
        let requests = self.requests as f64;
        requests / self.elapsed.as_secs_f64()
    }

    pub(crate) fn latency(&self, quantile: f64) -> Duration {
        Duration::from_micros(self.latencies.value_at_quantile(quantile))
    }
}

/// Sends `load`, cycling through `texts`. `on_reply` gets each reply with its text and latency.
pub(crate) async fn run(
    requester: &Requester,
    load: Load,
    texts: &[LabelledText],
    on_reply: impl Fn(LabelledText, &Response, Duration),
) -> anyhow::Result<Measured> {
    let latencies = Mutex::new(Histogram::new(3).context("cannot create a histogram")?);
    let started = Instant::now();
    let requests = stream::iter(0..load.requests).map(|number| {
        let text = texts[number % texts.len()];
        let key = format!("client-{}", number % load.concurrency);
        let body = serde_json::json!({ "text": text.text }).to_string();
        let latencies = &latencies;
        let on_reply = &on_reply;
        async move {
            let sent = Instant::now();
            let response =
                requester.request(Some(key.as_bytes()), body.as_bytes(), PATIENCE).await?;
            let latency = sent.elapsed();
            let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
            latencies.lock().record(micros)?;
            on_reply(text, &response, latency);
            anyhow::Ok(())
        }
    });
    requests.buffer_unordered(load.concurrency).try_collect::<()>().await?;
    let latencies = latencies.into_inner();
    Ok(Measured { requests: load.requests, elapsed: started.elapsed(), latencies })
}
