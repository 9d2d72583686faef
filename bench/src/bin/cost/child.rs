//! One contender's run: started by the parent, which reads its report.

use std::io::Read as _;
use std::num::NonZeroUsize;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};
use std::{io, thread};

use anyhow::{Context as _, ensure};

use crate::usage::{Usage, Watch};
use crate::{bare, forebay};

/// Who passes requests on as replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Contender {
    /// The bare loop, at least once.
    Bare,
    /// The bare loop in transactions.
    BareTransactions,
    /// The bare consumer, which drops what it reads and commits it.
    BareConsumer,
    /// Forebay's pipeline, at least once.
    Forebay,
    /// Forebay's pipeline in transactions.
    ForebayTransactions,
    /// Forebay's source and sink without anything between them, at least once.
    ForebayEnds,
    /// The same in transactions.
    ForebayEndsTransactions,
    /// Forebay's source alone, whose records are dropped and committed.
    ForebaySource,
}

impl Contender {
    const NAMES: [(Self, &str); 8] = [
        (Self::Bare, "bare"),
        (Self::BareTransactions, "bare-transactions"),
        (Self::BareConsumer, "bare-consumer"),
        (Self::Forebay, "forebay"),
        (Self::ForebayTransactions, "forebay-transactions"),
        (Self::ForebayEnds, "forebay-ends"),
        (Self::ForebayEndsTransactions, "forebay-ends-transactions"),
        (Self::ForebaySource, "forebay-source"),
    ];

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::NAMES.into_iter().find_map(|(one, of)| (of == name).then_some(one))
    }

    fn name(self) -> &'static str {
        Self::NAMES
            .into_iter()
            .find_map(|(one, of)| (one == self).then_some(of))
            .unwrap_or_default()
    }
}

/// What a contender has to do.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) brokers: String,
    /// The topic to read; the group is called as `replies`.
    pub(crate) requests: String,
    pub(crate) replies: String,
    /// It ends after so many, or when its standard input does.
    pub(crate) count: usize,
    /// Forebay's `max_in_flight`; its default where there is none.
    pub(crate) in_flight: Option<NonZeroUsize>,
}

/// From the first record that was read until everything was confirmed and committed and the group was left.
pub(crate) struct Stopwatch {
    started: Option<(Instant, Watch)>,
}

impl Stopwatch {
    pub(crate) const fn new() -> Self {
        Self { started: None }
    }

    /// A record was read.
    pub(crate) fn read(&mut self) {
        if self.started.is_none() {
            self.started = Some((Instant::now(), Watch::start()));
        }
    }

    fn stop(self) -> (Duration, Usage) {
        let stopped = self.started.map(|(since, watch)| (since.elapsed(), watch.stop()));
        stopped.unwrap_or_default()
    }
}

/// Runs a contender in this process, and prints its report.
pub(crate) fn run(contender: Contender, job: &Job) -> anyhow::Result<()> {
    let stopwatch = match contender {
        Contender::Bare => bare::at_least_once(job),
        Contender::BareTransactions => bare::exactly_once(job),
        Contender::BareConsumer => bare::consume(job),
        _ => forebay::run(contender, job),
    };
    let (elapsed, Usage { peak, quarters: [a, b, c, d], cpu }) = stopwatch?.stop();
    println!("{} {cpu} {peak} {a} {b} {c} {d}", elapsed.as_secs_f64());
    Ok(())
}

/// Calls `stop` when the parent has closed this process' standard input, or has gone.
pub(crate) fn on_end(stop: impl FnOnce() + Send + 'static) {
    thread::spawn(move || {
        io::stdin().read_to_end(&mut Vec::new()).ok();
        stop();
    });
}

/// A contender at work.
pub(crate) struct Running {
    child: Child,
    // What tells it to end.
    input: ChildStdin,
}

/// What a contender reported.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    pub(crate) seconds: f64,
    pub(crate) usage: Usage,
}

pub(crate) fn start(contender: Contender, job: &Job) -> anyhow::Result<Running> {
    let in_flight = job.in_flight.map_or_else(|| "default".to_owned(), |bound| bound.to_string());
    let mut child = Command::new(std::env::current_exe()?)
        .args([contender.name(), &job.requests, &job.replies, &job.count.to_string(), &in_flight])
        .env("KAFKA_BROKERS", &job.brokers)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let input = child.stdin.take().context("its standard input is piped")?;
    Ok(Running { child, input })
}

impl Running {
    /// Waits until it has done what it had to.
    pub(crate) fn wait(self) -> anyhow::Result<Report> {
        let Self { child, input } = self;
        Self::read(child.wait_with_output()?).inspect(|_| drop(input))
    }

    /// Has it end now.
    pub(crate) fn stop(self) -> anyhow::Result<Report> {
        let Self { child, input } = self;
        drop(input);
        Self::read(child.wait_with_output()?)
    }

    fn read(output: std::process::Output) -> anyhow::Result<Report> {
        ensure!(output.status.success(), "a contender failed: {}", output.status);
        let report = String::from_utf8(output.stdout)?;
        let mut fields = report.split_whitespace();
        let mut next = || fields.next().context("its report is too short");
        let (seconds, cpu) = (next()?.parse()?, next()?.parse()?);
        let mut kib = || anyhow::Ok(next()?.parse()?);
        let (peak, quarters) = (kib()?, [kib()?, kib()?, kib()?, kib()?]);
        Ok(Report { seconds, usage: Usage { peak, quarters, cpu } })
    }
}
