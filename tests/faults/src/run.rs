//! A run of one scenario: its own topics, a load, workers, and the checks that run in the
//! background.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::checks::{Checks, Watched};
use crate::client::Offsets;
use crate::ledger::{Duplicates, Figures, Order, Rules, SharedLedger};
use crate::load::Load;
use crate::pipeline::{Delivery, Pipeline};
use crate::suite::Suite;
use crate::violation::{Invariant, Tamper};
use crate::worker::{Exit, Worker};

/// Number of partitions of the topics of requests, replies and dead letters.
pub(crate) const PARTITIONS: u32 = 4;

/// Longest time from SIGTERM to the end of a worker: its drain, plus a margin for a busy machine.
pub(crate) const STOP: Duration = Duration::from_secs(15);

/// Longest time from the last answer to the commit of the last offset. librdkafka waits up to 10 s
/// before it reconnects, and a member whose session expired meanwhile has to join the group first.
const COMMITTED: Duration = Duration::from_secs(30);

pub(crate) struct Run<'a> {
    pub(crate) suite: &'a Suite,
    pub(crate) random: ChaCha8Rng,
    pub(crate) pipeline: Pipeline,
    pub(crate) ledger: SharedLedger,
    pub(crate) load: Load,
    workers: BTreeMap<String, Worker>,
    watched: Watched,
    checks: Option<JoinHandle<()>>,
    starts: usize,
    kills: usize,
    notes: Vec<String>,
}

/// The settings of a run.
pub(crate) struct Plan {
    pub(crate) pipeline: Pipeline,
    pub(crate) duplicates: Duplicates,
    pub(crate) order: Order,
    pub(crate) patience: Duration,
    /// Percentage of malformed requests.
    pub(crate) malformed: u32,
}

impl Plan {
    pub(crate) fn new(suite: &Suite, name: &str) -> Self {
        Self {
            pipeline: Pipeline::new(suite.delivery, suite.cluster.addresses(), &suite.name(name)),
            duplicates: Duplicates::None,
            order: Order::Results,
            patience: Duration::from_secs(45),
            malformed: 3,
        }
    }
}

/// The outcome of a scenario that found nothing wrong.
pub(crate) struct Summary {
    pub(crate) figures: Figures,
    starts: usize,
    kills: usize,
    memory: u64,
    notes: Vec<String>,
}

impl<'a> Run<'a> {
    pub(crate) async fn open(suite: &'a Suite, plan: Plan, seed: u64) -> Result<Self> {
        let Plan { pipeline, duplicates, order, patience, malformed } = plan;
        let settings = json!({"min.insync.replicas": "2"});
        let mut topics = vec![pipeline.requests.as_str(), pipeline.replies.as_str()];
        topics.extend(pipeline.dead_letters.as_deref());
        suite.client.create(&topics, PARTITIONS, settings).await?;
        for topic in &topics {
            suite.await_topic(topic).await?;
        }
        // With exactly-once delivery, the answers to a partition's requests are written in the
        // order of the requests, so the order of error replies is checked too.
        let order = match (pipeline.delivery, order) {
            (Delivery::ExactlyOnce, Order::Results) if pipeline.dead_letters.is_none() => {
                Order::All
            }
            _ => order,
        };
        let rules = Rules {
            delivery: pipeline.delivery,
            duplicates,
            order,
            patience,
            tamper: suite.tamper,
        };
        let ledger = SharedLedger::new(format!("{}-", pipeline.group), rules);
        // With at-least-once delivery there are no transactions, and `read_committed` then shows
        // all records.
        for topic in &topics[1..] {
            let (reader, name) = (ledger.clone(), (*topic).to_owned());
            let read = move |line: &Value| reader.lock().read(&name, line);
            suite.client.follow(topic, "read_committed", read).await?;
        }
        let random = ChaCha8Rng::seed_from_u64(seed);
        let load = Load::start(
            suite.client.clone(),
            ledger.clone(),
            pipeline.requests.clone(),
            malformed,
            ChaCha8Rng::seed_from_u64(seed ^ 1),
        );
        let mut run = Self {
            suite,
            random,
            pipeline,
            ledger,
            load,
            workers: BTreeMap::new(),
            watched: Watched::default(),
            checks: None,
            starts: 0,
            kills: 0,
            notes: Vec::new(),
        };
        run.checks = Some(tokio::spawn(run.checks().run()));
        Ok(run)
    }

    fn checks(&self) -> Checks {
        Checks {
            client: self.suite.client.clone(),
            ledger: self.ledger.clone(),
            group: self.pipeline.group.clone(),
            requests: self.pipeline.requests.clone(),
            answers: [Some(self.pipeline.replies.clone()), self.pipeline.dead_letters.clone()],
            workers: self.watched.clone(),
        }
    }

    // Workers.

    /// Starts a worker and waits until it is ready for requests.
    pub(crate) async fn start(&mut self, name: &str) -> Result<()> {
        self.launch(name)?;
        self.worker(name)?.await_ready().await
    }

    /// Starts a worker without waiting until it is ready.
    pub(crate) fn launch(&mut self, name: &str) -> Result<()> {
        let text = self.pipeline.text(name);
        self.launch_text(name, &text)
    }

    pub(crate) fn launch_text(&mut self, name: &str, text: &str) -> Result<()> {
        self.starts += 1;
        let files = self.suite.logs.join(format!("{}-{}-{name}", self.pipeline.group, self.starts));
        let worker = Worker::start(&self.suite.forebay, name, &files, text)?;
        self.watched.add(worker.pid);
        self.workers.insert(name.to_owned(), worker);
        Ok(())
    }

    pub(crate) fn worker(&mut self, name: &str) -> Result<&mut Worker> {
        self.workers.get_mut(name).with_context(|| format!("no worker {name} is running"))
    }

    pub(crate) fn running(&self) -> Vec<String> {
        self.workers.keys().cloned().collect()
    }

    /// Kills a worker with SIGKILL, and notes which requests may be answered twice because of it.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<()> {
        let worker =
            self.workers.remove(name).with_context(|| format!("no worker {name} to kill"))?;
        worker.kill().await?;
        self.kills += 1;
        self.expect_takeover().await
    }

    /// Notes that other workers may take over: the requests in flight at a worker that was killed
    /// or frozen may be answered a second time.
    pub(crate) async fn expect_takeover(&mut self) -> Result<()> {
        let checks = self.checks();
        let committed = checks.committed().await?;
        checks.catch_up().await?;
        self.ledger.lock().take_over(&committed, usize::try_from(self.pipeline.max_in_flight)?);
        Ok(())
    }

    /// Stops a worker by SIGTERM, and checks that it ends in time with exit code 0.
    pub(crate) async fn stop(&mut self, name: &str) -> Result<Exit> {
        let mut worker =
            self.workers.remove(name).with_context(|| format!("no worker {name} to stop"))?;
        worker.signal("TERM").await?;
        let mut exit = worker.exit(STOP).await?;
        if self.suite.tamper == Some(Tamper::Exit) {
            exit.code = exit.code.map(|code| code + 1);
        }
        if exit.code != Some(0) {
            return Err(worker.broken(&format!("ended with {:?} on SIGTERM", exit.code)));
        }
        Ok(exit)
    }

    /// Takes a worker out of the run. The scenario owns it, and the run no longer checks that it
    /// lives.
    pub(crate) fn take(&mut self, name: &str) -> Result<Worker> {
        self.workers.remove(name).with_context(|| format!("no worker {name} to take"))
    }

    pub(crate) fn put_back(&mut self, worker: Worker) {
        self.workers.insert(worker.name.clone(), worker);
    }

    // Time.

    /// Sleeps for `duration`.
    ///
    /// # Errors
    ///
    /// If a check fails or a worker ends meanwhile.
    pub(crate) async fn sleep(&mut self, duration: Duration) -> Result<()> {
        let end = Instant::now() + duration;
        loop {
            self.check()?;
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            sleep(left.min(Duration::from_millis(100))).await;
        }
    }

    /// Sleeps for a random number of milliseconds in `millis`.
    pub(crate) async fn sleep_between(&mut self, millis: std::ops::Range<u64>) -> Result<()> {
        let millis = self.random.random_range(millis);
        self.sleep(Duration::from_millis(millis)).await
    }

    /// Waits until `count` more requests are answered than now.
    pub(crate) async fn await_answers(&mut self, count: usize) -> Result<()> {
        let before = self.ledger.lock().figures.answered;
        self.wait_for("more answers", |run| run.ledger.lock().figures.answered >= before + count)
            .await
    }

    /// Checks invariant I5 at once: no offset is committed before its request is answered.
    pub(crate) async fn check_commits(&mut self) -> Result<()> {
        self.checks().check_commits(&mut Offsets::new()).await?;
        self.check()
    }

    /// Restarts the checks, so that they forget the offsets that they saw committed.
    pub(crate) fn restart_checks(&mut self) {
        if let Some(checks) = self.checks.replace(tokio::spawn(self.checks().run())) {
            checks.abort();
        }
    }

    /// Waits until `count` requests are answered since the start of the run.
    pub(crate) async fn await_total(&mut self, count: usize) -> Result<()> {
        self.wait_for("answers", |run| run.ledger.lock().figures.answered >= count).await
    }

    /// Waits until every request is answered. If no answers come, the check of invariant I7 ends
    /// the wait.
    pub(crate) async fn await_quiet(&mut self) -> Result<()> {
        self.wait_for("answers to all requests", |run| run.ledger.lock().is_quiet()).await
    }

    async fn wait_for(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        const LONGEST: Duration = Duration::from_mins(5);
        let deadline = Instant::now() + LONGEST;
        while !done(self) {
            self.check()?;
            if Instant::now() > deadline {
                return Err(Invariant::Progress
                    .broken(format!("no {what} within {LONGEST:?}"))
                    .into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Returns an error if a check has found a violation, or if a worker has ended by itself.
    fn check(&mut self) -> Result<()> {
        if let Some(violation) = self.ledger.lock().violations().first() {
            return Err(violation.clone().into());
        }
        for worker in self.workers.values_mut() {
            if let Some(status) = worker.try_exit()? {
                return Err(worker.broken(&format!("ended by itself ({status})")));
            }
        }
        Ok(())
    }

    /// Returns the number of requests, answers and duplicates as text.
    pub(crate) fn progress(&self) -> String {
        let ledger = self.ledger.lock();
        let Figures { requests, answered, duplicates, .. } = ledger.figures;
        format!("{requests} requests, {answered} answered, {duplicates} twice")
    }

    /// Adds a note to the summary.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    // The end.

    /// Ends the run: stops the load, waits for every answer and commit, stops the workers, and
    /// makes the checks that need a complete run.
    pub(crate) async fn settle(mut self) -> Result<Summary> {
        self.load.stop().await?;
        self.await_quiet().await?;
        self.await_commits().await?;
        for name in self.running() {
            self.stop(&name).await?;
        }
        // The workers have ended, so no more duplicates can come after those read here.
        self.checks().catch_up().await?;
        self.check()?;
        let ledger = self.ledger.lock();
        let (missing, names) = ledger.unanswered();
        if missing > 0 {
            return Err(Invariant::NoLoss
                .broken(format!("{missing} requests have no answer: {names}"))
                .into());
        }
        let (duplicates, allowance) = (ledger.figures.duplicates, ledger.allowance());
        if ledger.rules.duplicates == Duplicates::Bounded && duplicates > allowance {
            let text = format!(
                "{duplicates} duplicates, but at most {allowance} requests were in flight or uncommitted"
            );
            return Err(Invariant::BoundedDuplicates.broken(text).into());
        }
        if let Some(violation) = self.watched.growth(self.suite.tamper) {
            return Err(violation.into());
        }
        let mut notes = std::mem::take(&mut self.notes);
        if let Some(reason) = &ledger.unconfirmed {
            notes.push(format!(
                "{} requests never confirmed ({reason})",
                ledger.figures.unconfirmed
            ));
        }
        if ledger.rules.duplicates == Duplicates::Bounded
            && self.pipeline.delivery == Delivery::AtLeastOnce
        {
            notes.push(format!("at most {allowance} duplicates"));
        }
        Ok(Summary {
            figures: ledger.figures,
            starts: self.starts,
            kills: self.kills,
            memory: self.watched.most_memory(),
            notes,
        })
    }

    /// Checks the last part of invariant I5: in the end, the offsets of all answered requests are
    /// committed.
    async fn await_commits(&mut self) -> Result<()> {
        let deadline = Instant::now() + COMMITTED;
        loop {
            self.check()?;
            let ends = self.ledger.lock().ends();
            // This fails if brokers have just restarted. The next round asks again.
            let committed = self.checks().committed().await.unwrap_or_default();
            let late = ends.iter().find(|(partition, end)| {
                committed.get(partition).is_none_or(|committed| committed < end)
            });
            let Some((partition, end)) = late else { return Ok(()) };
            if Instant::now() > deadline {
                let text = format!(
                    "partition {partition}: {:?} is committed instead of {end}, {COMMITTED:?} after the last answer",
                    committed.get(partition)
                );
                return Err(Invariant::Commits.broken(text).into());
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(checks) = self.checks.take() {
            checks.abort();
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { requests, answered, errors, duplicates, longest_silence, .. } = self.figures;
        write!(
            f,
            "{requests} requests, {answered} answered ({errors} errors), {duplicates} twice, {} starts, {} kills, \
             longest silence {:.1} s, {} MiB",
            self.starts,
            self.kills,
            longest_silence.as_secs_f64(),
            self.memory
        )?;
        self.notes.iter().try_for_each(|note| write!(f, ", {note}"))
    }
}
