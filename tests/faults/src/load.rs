//! Requests, at a rate.

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

/// How often requests are sent; so many at once as the rate asks for.
const BEAT: Duration = Duration::from_millis(50);

const KEYS: u16 = 40;

/// Keys that the beat does not use: two producers have no order between them.
const FIRST_OTHER: u16 = 1000;

/// The longest that the brokers may take to confirm requests.
const PATIENCE: Duration = Duration::from_secs(140);

/// A producer of requests. Ends when dropped.
pub(crate) struct Load {
    client: Arc<Client>,
    ledger: SharedLedger,
    topic: String,
    rate: Arc<AtomicU32>,
    // Requests that the beat may still send.
    left: Arc<AtomicUsize>,
    // Commands that the client has not answered.
    unconfirmed: Arc<AtomicUsize>,
    beat: JoinHandle<()>,
}

impl Load {
    /// `malformed` of a hundred requests are.
    pub(crate) fn start(
        client: Arc<Client>,
        ledger: SharedLedger,
        topic: String,
        malformed: u32,
        mut random: ChaCha8Rng,
    ) -> Self {
        let (rate, unconfirmed) = (Arc::<AtomicU32>::default(), Arc::<AtomicUsize>::default());
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let beat = tokio::spawn({
            let (client, ledger, topic) = (Arc::clone(&client), ledger.clone(), topic.clone());
            let (rate, unconfirmed, left) =
                (Arc::clone(&rate), Arc::clone(&unconfirmed), Arc::clone(&left));
            async move {
                let mut beats = interval(BEAT);
                beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
                let mut due = 0.0;
                loop {
                    beats.tick().await;
                    due += f64::from(rate.load(Ordering::Relaxed)) * BEAT.as_secs_f64();
                    let mut records = Vec::new();
                    while due >= 1.0 {
                        due -= 1.0;
                        let take = |left: usize| left.checked_sub(1);
                        if left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_err() {
                            break;
                        }
                        let (key, kind) = draw(&mut random, malformed);
                        records.push(ledger.lock().ask(key, kind));
                    }
                    if !records.is_empty()
                        && send(&client, &ledger, &topic, &unconfirmed, records).await.is_err()
                    {
                        // The client is gone, which whoever waits for it finds out.
                        return;
                    }
                }
            }
        });
        Self { client, ledger, topic, rate, left, unconfirmed, beat }
    }

    /// So many requests a second from now on.
    pub(crate) fn rate(&self, per_second: u32) {
        self.rate.store(per_second, Ordering::Relaxed);
    }

    /// The beat sends so many requests more, and no others.
    pub(crate) fn exactly(&self, count: usize) {
        self.left.store(count, Ordering::Release);
    }

    /// Sends these requests now.
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

    /// Sends requests in one transaction, which is committed or aborted.
    pub(crate) async fn transact(&self, id: &str, count: u16, commit: bool) -> Result<()> {
        let records: Vec<_> = {
            let mut ledger = self.ledger.lock();
            let first = ledger.next_number();
            let ask = |n| ledger.ask(Some(FIRST_OTHER + n % KEYS), Kind::Good);
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

    /// Sends nothing more, and waits until the brokers have confirmed what was sent.
    pub(crate) async fn stop(&self) -> Result<()> {
        self.rate(0);
        sleep(2 * BEAT).await;
        let deadline = Instant::now() + PATIENCE;
        while self.unconfirmed.load(Ordering::Acquire) > 0 {
            anyhow::ensure!(Instant::now() < deadline, "the brokers do not confirm requests");
            sleep(BEAT).await;
        }
        Ok(())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.beat.abort();
    }
}

/// A few requests have no key, and so no order.
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
    unconfirmed.fetch_add(1, Ordering::AcqRel);
    let answer = client.send(json!({"op": "produce", "topic": topic, "records": records})).await?;
    let (ledger, unconfirmed) = (ledger.clone(), Arc::clone(unconfirmed));
    tokio::spawn(async move {
        if let Ok(answer) = answer.await {
            ledger.lock().produced(&answer);
        }
        unconfirmed.fetch_sub(1, Ordering::AcqRel);
    });
    Ok(())
}
