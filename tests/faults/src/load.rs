//! A producer that sends requests at a given rate.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Result;
use rand::Rng as _;
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::client::Client;
use crate::ledger::SharedLedger;
use crate::request_format::Kind;

/// Time between two batches of requests. The rate determines the size of a batch.
const TICK: Duration = Duration::from_millis(50);

const KEYS: u16 = 40;

/// First key of the requests in transactions. All other requests have smaller keys, because a
/// separate producer sends them, and the records of two producers have no defined order.
const FIRST_TRANSACTION_KEY: u16 = 1000;

/// Longest time for the brokers to confirm requests.
const PATIENCE: Duration = Duration::from_secs(140);

/// A producer of requests. Its ticker is a task that sends a batch of them every `TICK`. Dropping
/// this value stops the ticker.
pub(crate) struct Load {
    client: Arc<Client>,
    ledger: SharedLedger,
    topic: String,
    rate: Arc<AtomicU32>,
    // Number of requests that the ticker may still send.
    left: Arc<AtomicUsize>,
    // Number of `produce` commands that the client has not answered yet.
    unconfirmed: Arc<AtomicUsize>,
    ticker: JoinHandle<()>,
}

impl Load {
    /// Starts the ticker at rate 0. `malformed` is the percentage of malformed requests.
    pub(crate) fn start(
        client: Arc<Client>,
        ledger: SharedLedger,
        topic: String,
        malformed: u32,
        mut random: ChaCha8Rng,
    ) -> Self {
        let rate = Arc::<AtomicU32>::default();
        let unconfirmed = Arc::<AtomicUsize>::default();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let ticker = tokio::spawn({
            let client = Arc::clone(&client);
            let ledger = ledger.clone();
            let topic = topic.clone();
            let rate = Arc::clone(&rate);
            let unconfirmed = Arc::clone(&unconfirmed);
            let left = Arc::clone(&left);
            async move {
                let mut ticks = interval(TICK);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut due = 0.0;
                loop {
                    ticks.tick().await;
                    due += f64::from(rate.load(Ordering::Relaxed)) * TICK.as_secs_f64();
                    let mut records = Vec::new();
                    while due >= 1.0 {
                        due -= 1.0;
                        let take = |left: usize| left.checked_sub(1);
                        // Pairs with the `Release` store in `exactly`.
                        if left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
                            break;
                        }
                        let (key, kind) = draw(&mut random, malformed);
                        records.push(ledger.lock().ask(key, kind));
                    }
                    if !records.is_empty()
                        && send(&client, &ledger, &topic, &unconfirmed, records).await.is_err()
                    {
                        // The client has ended, and the scenario gets the error from its own calls
                        // of the client.
                        return;
                    }
                }
            }
        });
        Self { client, ledger, topic, rate, left, unconfirmed, ticker }
    }

    /// Sets the rate, in requests per second.
    pub(crate) fn rate(&self, per_second: u32) {
        self.rate.store(per_second, Ordering::Relaxed);
    }

    /// Lets the ticker send `count` more requests and then none.
    pub(crate) fn exactly(&self, count: usize) {
        // Pairs with the `Acquire` of `fetch_update` in the ticker.
        self.left.store(count, Ordering::Release);
    }

    /// Sends requests with these keys and kinds at once, in addition to those of the ticker.
    pub(crate) async fn send(
        &self,
        kinds: impl IntoIterator<Item = (Option<u16>, Kind)>,
    ) -> Result<()> {
        let records: Vec<_> = {
            let mut ledger = self.ledger.lock();
            kinds.into_iter().map(|(key, kind)| ledger.ask(key, kind)).collect()
        };
        send(&self.client, &self.ledger, &self.topic, &self.unconfirmed, records).await
    }

    /// Sends `count` requests in one transaction of the producer `id`, and commits or aborts it.
    pub(crate) async fn transact(&self, id: &str, count: u16, commit: bool) -> Result<()> {
        let records: Vec<_> = {
            let mut ledger = self.ledger.lock();
            let first = ledger.next_number();
            let ask = |n| ledger.ask(Some(FIRST_TRANSACTION_KEY + n % KEYS), Kind::Good);
            let records = (0..count).map(ask).collect();
            if !commit {
                ledger.abort_from(first);
            }
            records
        };
        let command = json!({
            "op": "produce_transaction", "id": id, "topic": self.topic, "records": records,
            "commit": commit,
        });
        let answer = self.client.call(command).await?;
        self.ledger.lock().produced(&answer);
        Ok(())
    }

    /// Sets the rate to 0, and waits until the brokers have confirmed all requests.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.rate(0);
        sleep(2 * TICK).await;
        let deadline = Instant::now() + PATIENCE;
        // Pairs with the `fetch_sub` in `send`: at 0, the ledger knows every confirmation.
        while self.unconfirmed.load(Ordering::Acquire) > 0 {
            anyhow::ensure!(
                Instant::now() < deadline,
                "the brokers did not confirm all requests within {PATIENCE:?}"
            );
            sleep(TICK).await;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.ticker.abort();
    }
}

/// Draws the key and kind of a request. One in 50 has no key, so its position among the answers is
/// not checked.
fn draw(random: &mut ChaCha8Rng, malformed: u32) -> (Option<u16>, Kind) {
    let key = (!random.random_ratio(1, 50)).then(|| random.random_range(0..KEYS));
    let kind = if random.random_range(0..100) < malformed {
        Kind::MALFORMED[random.random_range(0..Kind::MALFORMED.len())]
    } else {
        Kind::Good
    };
    (key, kind)
}

async fn send(
    client: &Client,
    ledger: &SharedLedger,
    topic: &str,
    unconfirmed: &Arc<AtomicUsize>,
    records: Vec<Value>,
) -> Result<()> {
    // Both updates of `unconfirmed` pair with the `Acquire` load in `Load::stop`.
    unconfirmed.fetch_add(1, Ordering::AcqRel);
    let answer = client.send(json!({"op": "produce", "topic": topic, "records": records})).await?;
    let ledger = ledger.clone();
    let unconfirmed = Arc::clone(unconfirmed);
    tokio::spawn(async move {
        if let Ok(answer) = answer.await {
            ledger.lock().produced(&answer);
        }
        unconfirmed.fetch_sub(1, Ordering::AcqRel);
    });
    Ok(())
}
