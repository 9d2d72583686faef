//! Checks that repeat while a scenario runs: commits, progress, transactions, memory, file
//! descriptors and threads.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::client::{Client, Offsets};
use crate::ledger::SharedLedger;
use crate::pipeline::Delivery;
use crate::proc::{self, Vitals};
use crate::violation::{Invariant, Tamper, Violation};

/// Time between two rounds of checks.
const EVERY: Duration = Duration::from_millis(700);

/// Longest time that a transaction may stay open. It is longer than the transaction timeout of
/// every pipeline of the suite, after which the brokers abort the transaction.
const TRANSACTION: Duration = Duration::from_secs(65);

/// Longest time from the commit of a transaction until a reader of committed records sees its
/// replies. The brokers end a transaction by writing a marker to each of its partitions, and the
/// reader sees the replies in a partition only after the marker. The markers are written one by
/// one, which takes seconds on a busy machine. A reply that is still missing after this time is
/// lost.
const MARKERS: Duration = Duration::from_secs(30);

/// The repeated checks of a run. They write violations to the ledger.
pub(crate) struct Checks {
    pub(crate) client: Arc<Client>,
    pub(crate) ledger: SharedLedger,
    pub(crate) group: String,
    pub(crate) requests: String,
    /// The topics of replies and of dead letters.
    pub(crate) answers: [Option<String>; 2],
    pub(crate) workers: Watched,
}

/// Samples of memory, file descriptors and threads of every worker of a run, by process id.
#[derive(Clone, Default)]
pub(crate) struct Watched(Arc<Mutex<HashMap<u32, Vec<Vitals>>>>);

impl Watched {
    pub(crate) fn add(&self, pid: u32) {
        self.0.lock().insert(pid, Vec::new());
    }

    fn sample(&self) {
        let mut all = self.0.lock();
        for (pid, samples) in all.iter_mut() {
            samples.extend(proc::vitals(*pid));
        }
    }

    /// Returns the largest resident memory of any worker, in MiB.
    pub(crate) fn most_memory(&self) -> u64 {
        let all = self.0.lock();
        all.values().flatten().map(|vitals| vitals.memory).max().unwrap_or(0) / 1024
    }

    /// Checks invariant I8 for every worker that has run long enough: its memory, file descriptors
    /// and threads do not grow.
    pub(crate) fn growth(&self, tamper: Option<Tamper>) -> Option<Violation> {
        let all = self.0.lock();
        all.iter().find_map(|(pid, samples)| {
            let mut samples = samples.clone();
            if tamper == Some(Tamper::Grow) {
                for (sample, more) in samples.iter_mut().zip(0..) {
                    sample.files += more;
                }
            }
            growth(&samples).map(|what| Invariant::Flat.broken(format!("process {pid}: {what}")))
        })
    }
}

/// Returns which resource of a process grew, if any. Compares the medians of the second and the
/// last quarter of its samples. The first quarter does not count, because caches and pools fill up
/// then.
fn growth(samples: &[Vitals]) -> Option<String> {
    const ENOUGH: usize = 80;
    if samples.len() < ENOUGH {
        return None;
    }
    let quarter = samples.len() / 4;
    let early = &samples[quarter..2 * quarter];
    let late = &samples[3 * quarter..];
    let compare = |what: &str, value: fn(&Vitals) -> u64, slack: fn(u64) -> u64| {
        let before = median(early, value);
        let after = median(late, value);
        (after > before + slack(before)).then(|| format!("{what} grew from {before} to {after}"))
    };
    compare("memory (KiB)", |vitals| vitals.memory, |before| before / 4 + 16 * 1024)
        .or_else(|| compare("file descriptors", |vitals| vitals.files, |_| 8))
        .or_else(|| compare("threads", |vitals| vitals.threads, |_| 8))
}

fn median(samples: &[Vitals], value: fn(&Vitals) -> u64) -> u64 {
    let mut values: Vec<_> = samples.iter().map(value).collect();
    values.sort_unstable();
    values[values.len() / 2]
}

impl Checks {
    pub(crate) async fn run(self) {
        let mut last = Offsets::new();
        for round in 0_u32.. {
            sleep(EVERY).await;
            self.workers.sample();
            self.check_progress();
            // An error means that brokers are down. The next round asks again.
            self.check_commits(&mut last).await.ok();
            if round % 8 == 0 {
                self.check_transactions().await.ok();
            }
        }
    }

    /// Checks invariant I7: no partition with unanswered requests waits for an answer for longer
    /// than `patience`.
    fn check_progress(&self) {
        let mut ledger = self.ledger.lock();
        let patience = ledger.rules.patience;
        if let Some((partition, wait)) = ledger.longest_wait().filter(|(_, wait)| *wait > patience)
        {
            let text = format!(
                "partition {partition} has had no answer for {wait:.1?}, while {} requests are open",
                ledger.open_count()
            );
            ledger.add(Invariant::Progress.broken(text));
        }
    }

    /// Checks invariant I5: committed requests are answered, and no commit is taken back. `last`
    /// holds the committed offsets of the previous round, and gets those of this one.
    pub(crate) async fn check_commits(&self, last: &mut Offsets) -> Result<()> {
        let committed = self.committed().await?;
        for (partition, offset) in &committed {
            let before = last.insert(*partition, *offset);
            if before.is_some_and(|before| before > *offset) {
                let text = format!(
                    "partition {partition}: offset {offset} was committed after {}",
                    before.unwrap_or(0)
                );
                self.ledger.lock().add(Invariant::Commits.broken(text));
            }
        }
        self.catch_up().await?;
        let start = Instant::now();
        while let Some(violation) = self.unanswered_commit(&committed) {
            let exactly_once = self.ledger.lock().rules.delivery == Delivery::ExactlyOnce;
            if !exactly_once || start.elapsed() > MARKERS {
                self.ledger.lock().add(violation);
                return Ok(());
            }
            sleep(Duration::from_millis(200)).await;
        }
        if start.elapsed() > Duration::from_secs(1) {
            println!(
                "     the offsets of a transaction were visible {:.1?} before its answers",
                start.elapsed()
            );
        }
        Ok(())
    }

    fn unanswered_commit(&self, committed: &Offsets) -> Option<Violation> {
        let ledger = self.ledger.lock();
        committed.iter().find_map(|(partition, offset)| {
            let (open, id) = ledger.first_open(*partition).filter(|(open, _)| open < offset)?;
            let text = format!(
                "partition {partition}: offset {offset} is committed, but {id} at {open} has no answer"
            );
            Some(Invariant::Commits.broken(text))
        })
    }

    /// Returns the group's committed offsets, read by a client that is not a member of the group.
    pub(crate) async fn committed(&self) -> Result<Offsets> {
        let mut committed = self.client.committed(&self.group, &self.requests).await?;
        let (tamper, answered) = {
            let ledger = self.ledger.lock();
            (ledger.rules.tamper, ledger.figures.answered)
        };
        let shift = match tamper {
            Some(Tamper::Ahead) => 1000,
            Some(Tamper::Back) if answered >= 500 => -1000,
            _ => 0,
        };
        for offset in committed.values_mut() {
            *offset += shift;
        }
        if tamper == Some(Tamper::Stall) {
            // `Tamper::Stall` hides the answers to test the check of I7. If the commits were not
            // hidden too, the check of I5 would fail first.
            committed.clear();
        }
        Ok(committed)
    }

    /// Waits until the Java client has passed on all answers that are now in the topics of replies
    /// and dead letters.
    pub(crate) async fn catch_up(&self) -> Result<()> {
        for topic in self.answers.iter().flatten() {
            let ends = match self.client.ends(topic, "read_committed").await {
                // A deleted topic has no answers to wait for. After any other error there may be
                // some, so the error is returned.
                Err(error) if error.to_string().contains("UnknownTopicOrPartition") => continue,
                ends => ends?,
            };
            let deadline = Instant::now() + Duration::from_secs(30);
            while !self.ledger.lock().has_read(topic, &ends) {
                anyhow::ensure!(
                    Instant::now() < deadline,
                    "the Java client took more than 30 s to read the answers"
                );
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// Checks invariant I11: no transaction is open for longer than `TRANSACTION`.
    async fn check_transactions(&self) -> Result<()> {
        let millis = u64::try_from(TRANSACTION.as_millis())?;
        let answer = self.client.call(json!({"op": "transactions", "longer_than": millis})).await?;
        let mut open: Vec<_> =
            answer["open"].as_array().into_iter().flatten().map(ToString::to_string).collect();
        let mut ledger = self.ledger.lock();
        if ledger.rules.tamper == Some(Tamper::Transaction) {
            open.push("a falsified transaction".to_owned());
        }
        if !open.is_empty() {
            let text = format!("open for longer than {TRANSACTION:?}: {}", open.join(", "));
            ledger.add(Invariant::Transactions.broken(text));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Vitals, growth};

    fn life(grow: impl Fn(u64) -> Vitals) -> Vec<Vitals> {
        (0..200).map(grow).collect()
    }

    #[test]
    fn samples_that_only_fluctuate_do_not_count_as_growth() {
        let noisy =
            |at: u64| Vitals { memory: 50_000 + at % 7 * 1000, files: 30 + at % 3, threads: 20 };
        assert_eq!(growth(&life(noisy)), None);
        // Memory that is taken in the first quarter does not count.
        assert_eq!(growth(&life(|at| Vitals { memory: at.min(40) * 5000, ..noisy(at) })), None);
    }

    #[test]
    fn growth_of_memory_files_or_threads_is_reported() {
        for what in ["memory", "file", "threads"] {
            let vitals = growth(&life(|at| Vitals {
                memory: 50_000 + if what == "memory" { at * 400 } else { 0 },
                files: 30 + if what == "file" { at / 4 } else { 0 },
                threads: 20 + if what == "threads" { at / 4 } else { 0 },
            }));
            assert!(vitals.is_some_and(|text| text.starts_with(what)), "{what}");
        }
    }
}
