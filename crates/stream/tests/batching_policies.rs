//! A simulation of one device under load with each batching policy: the figures behind the choice
//! of the adaptive window. `cargo test -p forebay-stream --test batching_policies -- --nocapture`
//! prints them.
//!
//! A call takes 3 ms and 2 us for each token, including padding. Requests come at random (a Poisson
//! process), with 40 tokens on average and at most 256. One simulated microsecond is a millisecond
//! of the paused clock, because a millisecond is the smallest step of that clock.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "simulated figures are small"
)]

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use forebay_stream::batching::{BatchLoad, CostModel, Shapes};
use forebay_stream::{AdaptiveWindow, Batch, BatchResult, Batches, Flow, MapBatch, Overflow, Pace};
use futures::stream::{self, StreamExt as _};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};

const MAX_SIZE: NonZeroUsize = NonZeroUsize::new(128).unwrap();
const MAX_TOKENS: u64 = 16_384;

#[derive(Clone, Copy)]
struct Request {
    came: Instant,
    tokens: u64,
}

fn micros(simulated: u64) -> Duration {
    Duration::from_millis(simulated)
}

fn load(batch: &[Request]) -> BatchLoad {
    batch.iter().map(|request| request.tokens).collect()
}

/// A device that computes one batch at a time.
struct Device {
    costs: Arc<CostModel>,
    busy: Mutex<()>,
    slots: NonZeroUsize,
}

impl MapBatch<Request> for Device {
    type Output = Request;

    async fn call(&self, batch: Batch<Request>) -> BatchResult<Request> {
        let _device = self.busy.lock().await;
        let load = load(&batch);
        let took = micros(3000 + 2 * Shapes::padded().elements(load));
        sleep(took).await;
        self.costs.observe(load, took);
        Ok(batch.iter().copied().map(Ok).collect())
    }

    fn pace(&self) -> Pace {
        Pace::new(self.slots)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Policy {
    /// Every batch waits for more requests for 10 ms.
    Window,
    /// The next batch is formed when the previous one starts on the device.
    Prefetch,
    /// One batch of all waiting requests when the device is free.
    Greedy,
    /// Like `Greedy`, with requests of similar lengths.
    LengthAware,
}

const POLICIES: [Policy; 4] =
    [Policy::Window, Policy::Prefetch, Policy::Greedy, Policy::LengthAware];

impl Policy {
    fn batches(self, requests: Flow<Request>, costs: &Arc<CostModel>) -> Batches<Request> {
        let limits =
            AdaptiveWindow { max_size: MAX_SIZE, max_wait: Duration::ZERO, max_cost: MAX_TOKENS };
        let buffered = |requests: Flow<Request>| {
            requests.buffer(NonZeroUsize::new(4096).unwrap(), Overflow::Wait)
        };
        match self {
            Self::Window => buffered(requests).partition(MAX_SIZE, Some(micros(10_000))),
            Self::Prefetch | Self::Greedy => {
                buffered(requests).adaptive_window(limits, |request| request.tokens)
            }
            Self::LengthAware => {
                let costs = Arc::clone(costs);
                requests.adaptive_window_by_length(
                    limits,
                    costs,
                    |request| request.tokens,
                    |_| Ok(None),
                )
            }
        }
    }
}

/// Returns how long requests took, in microseconds, in the order in which they were answered.
fn simulate(policy: Policy, per_second: u64, requests: usize) -> Vec<u128> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(async {
        let mut random = fastrand::Rng::with_seed(7);
        let mut exponential = move |mean: f64| -(1.0 - random.f64()).ln() * mean;
        let mut came = Instant::now();
        let arrivals: Vec<_> = (0..requests)
            .map(|_| {
                came += Duration::from_secs_f64(1e3 * exponential(1.0 / per_second as f64));
                let tokens = (3.0 + exponential(37.0)).min(256.0) as u64;
                Request { came: came + Duration::from_millis(1), tokens }
            })
            .collect();
        let arrivals = stream::iter(arrivals).then(|request| async move {
            sleep_until(request.came).await;
            request
        });
        let costs = Arc::new(CostModel::new(Shapes::padded()));
        let slots = NonZeroUsize::new(if policy == Policy::Prefetch { 2 } else { 1 }).unwrap();
        let device = Device { costs: Arc::clone(&costs), busy: Mutex::default(), slots };
        let answers = policy.batches(Flow::from_stream(arrivals), &costs).map_batch(device);
        answers.map(|request| request.came.elapsed().as_millis()).collect().await.unwrap()
    })
}

fn median(mut times: Vec<u128>) -> u128 {
    times.sort_unstable();
    times[times.len() / 2]
}

/// Returns the highest rate at which the queue does not grow, in steps of 200 requests a second.
fn highest_stable_rate(policy: Policy) -> u64 {
    let is_stable = |rate: &u64| {
        let times = simulate(policy, *rate, 4 * *rate as usize);
        let tail = times[times.len() * 3 / 4..].to_vec();
        median(tail) < 100_000
    };
    (5..50).map(|step| 200 * step).take_while(is_stable).last().unwrap_or(0)
}

#[test]
fn batching_late_and_by_length_has_the_lowest_latency_and_the_highest_throughput() {
    println!("{:<12} {:>14} {:>20}", "policy", "p50 at 1200/s", "highest stable rate");
    let found = POLICIES.map(|policy| {
        let p50 = median(simulate(policy, 1200, 12_000));
        let rate = highest_stable_rate(policy);
        println!("{:<12} {:>11.1} ms {rate:>18}/s", format!("{policy:?}"), p50 as f64 / 1e3);
        (p50, rate)
    });
    let [window, prefetch, greedy, length_aware] = found;
    assert!(window.0 > 2 * prefetch.0, "a wait on purpose delays every request");
    assert!(
        prefetch.0 * 10 > greedy.0 * 13,
        "a batch that is formed early misses the requests that come meanwhile"
    );
    assert!(
        length_aware.0 * 20 <= greedy.0 * 21,
        "choosing by length does not delay requests under low load"
    );
    let others = window.1.max(prefetch.1).max(greedy.1);
    assert!(length_aware.1 >= 2 * others, "the others spend their capacity on padding");
}
