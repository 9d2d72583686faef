//! A run: topics of its own, a load, workers, and the checks that go on beside them.

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

/// Partitions of requests and of replies.
pub(crate) const PARTITIONS: u32 = 4;

/// How long a worker may take to stop in order: its drain, and what a busy machine takes.
pub(crate) const STOP: Duration = Duration::from_secs(15);

/// From the last answer to the commit of the last offset. librdkafka waits for up to 10 s before it connects again, and
/// a member that lost its session for that has to join first.
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

/// What a scenario sets out from.
pub(crate) struct Plan {
    pub(crate) pipeline: Pipeline,
    pub(crate) duplicates: Duplicates,
    pub(crate) order: Order,
    pub(crate) patience: Duration,
    /// So many of a hundred requests.
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
        // In transactions every answer waits for those before it.
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
        // Where delivery is at least once nothing is aborted, so that all readers see the same.
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

    /// Starts a worker and waits until it takes requests.
    pub(crate) async fn start(&mut self, name: &str) -> Result<()> {
        self.launch(name)?;
        self.worker(name)?.await_ready().await
    }

    /// Starts a worker, without waiting.
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

    /// Kills a worker as a crash would, and notes what may be answered twice because of it.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<()> {
        let worker = self.workers.remove(name).context("a worker to kill")?;
        worker.kill().await?;
        self.kills += 1;
        self.expect_takeover().await
    }

    /// A worker is out of action without knowing it: what it holds may be answered by others as well.
    pub(crate) async fn expect_takeover(&mut self) -> Result<()> {
        let checks = self.checks();
        let committed = checks.committed().await?;
        checks.catch_up().await?;
        self.ledger.lock().killed(&committed, usize::try_from(self.pipeline.max_in_flight)?);
        Ok(())
    }

    /// Stops a worker by SIGTERM, and checks that it ends in time and in order.
    pub(crate) async fn stop(&mut self, name: &str) -> Result<Exit> {
        let mut worker = self.workers.remove(name).context("a worker to stop")?;
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

    /// Takes a worker out of the run, to do with as a scenario wants.
    pub(crate) fn take(&mut self, name: &str) -> Result<Worker> {
        self.workers.remove(name).context("a worker to take")
    }

    pub(crate) fn put_back(&mut self, worker: Worker) {
        self.workers.insert(worker.name.clone(), worker);
    }

    // Time.

    /// Waits, and ends the scenario if something turns out wrong meanwhile.
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

    /// Waits for a random time of so many milliseconds.
    pub(crate) async fn sleep_between(&mut self, millis: std::ops::Range<u64>) -> Result<()> {
        let millis = self.random.random_range(millis);
        self.sleep(Duration::from_millis(millis)).await
    }

    /// Waits until so many requests are answered that were not when this was called.
    pub(crate) async fn await_answers(&mut self, count: usize) -> Result<()> {
        let before = self.ledger.lock().figures.answered;
        self.wait_for("answers", |run| run.ledger.lock().figures.answered >= before + count).await
    }

    /// I5, now: nothing is committed that has no answer.
    pub(crate) async fn check_commits(&mut self) -> Result<()> {
        self.checks().check_commits(&mut Offsets::new()).await?;
        self.check()
    }

    /// Starts the checks' memory of commits anew.
    pub(crate) fn restart_checks(&mut self) {
        if let Some(checks) = self.checks.replace(tokio::spawn(self.checks().run())) {
            checks.abort();
        }
    }

    /// Waits until so many requests are answered in all.
    pub(crate) async fn await_total(&mut self, count: usize) -> Result<()> {
        self.wait_for("answers", |run| run.ledger.lock().figures.answered >= count).await
    }

    /// Waits until everything that was asked is answered. What makes this end is the checks' patience.
    pub(crate) async fn await_quiet(&mut self) -> Result<()> {
        self.wait_for("all answers", |run| run.ledger.lock().is_quiet()).await
    }

    async fn wait_for(&mut self, what: &str, done: impl Fn(&Self) -> bool) -> Result<()> {
        const LONGEST: Duration = Duration::from_mins(5);
        let deadline = Instant::now() + LONGEST;
        while !done(self) {
            self.check()?;
            if Instant::now() > deadline {
                return Err(Invariant::Progress
                    .broken(format!("{what}: not within {LONGEST:?}"))
                    .into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends the scenario if something is wrong by now.
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

    /// How far it is, in a few words.
    pub(crate) fn progress(&self) -> String {
        let ledger = self.ledger.lock();
        let Figures { requests, answered, duplicates, .. } = ledger.figures;
        format!("{requests} requests, {answered} answered, {duplicates} twice")
    }

    /// A line for the summary.
    pub(crate) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    // The end.

    /// Stops the load, waits for every answer, stops the workers in order, and checks all that can be checked then.
    pub(crate) async fn settle(mut self) -> Result<Summary> {
        self.load.stop().await?;
        self.await_quiet().await?;
        self.await_commits().await?;
        for name in self.running() {
            self.stop(&name).await?;
        }
        // Whatever would be answered twice has been by now.
        self.checks().catch_up().await?;
        self.check()?;
        let ledger = self.ledger.lock();
        let (missing, names) = ledger.unanswered();
        if missing > 0 {
            return Err(Invariant::NoLoss.broken(format!("{missing} requests: {names}")).into());
        }
        let (duplicates, allowance) = (ledger.figures.duplicates, ledger.allowance());
        if ledger.rules.duplicates == Duplicates::Bounded && duplicates > allowance {
            let text = format!("{duplicates} duplicates, and {allowance} could be in flight");
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

    /// I5, its end: everything answered gets committed.
    async fn await_commits(&mut self) -> Result<()> {
        let deadline = Instant::now() + COMMITTED;
        loop {
            self.check()?;
            let ends = self.ledger.lock().ends();
            // Brokers that have just come back may not know yet.
            let committed = self.checks().committed().await.unwrap_or_default();
            let late = ends.iter().find(|(partition, end)| {
                committed.get(partition).is_none_or(|committed| committed < end)
            });
            let Some((partition, end)) = late else { return Ok(()) };
            if Instant::now() > deadline {
                let text = format!(
                    "partition {partition}: {:?} is committed of {end}, {COMMITTED:?} after the last answer",
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
