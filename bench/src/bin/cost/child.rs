//! The run of one contender in a child process, whose report the parent reads.

use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, ensure};

use crate::job::{Contender, Job};
use crate::usage::Usage;
use crate::{bare, forebay};

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

/// A running contender.
pub(crate) struct Running {
    child: Child,
    // Closing it tells the child to stop.
    input: ChildStdin,
}

/// The report of a contender.
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
    let input = child.stdin.take().context("standard input is not piped")?;
    Ok(Running { child, input })
}

impl Running {
    /// Waits until the contender has finished its job.
    pub(crate) fn wait(self) -> anyhow::Result<Report> {
        let Self { child, input } = self;
        Self::read(child.wait_with_output()?).inspect(|_| drop(input))
    }

    /// Stops the contender.
    pub(crate) fn stop(self) -> anyhow::Result<Report> {
        let Self { child, input } = self;
        drop(input);
        Self::read(child.wait_with_output()?)
    }

    fn read(output: std::process::Output) -> anyhow::Result<Report> {
        ensure!(output.status.success(), "a contender failed: {}", output.status);
        let report = String::from_utf8(output.stdout)?;
        let mut fields = report.split_whitespace();
        let mut next = || fields.next().context("the report of the contender is too short");
        let seconds = next()?.parse()?;
        let cpu = next()?.parse()?;
        let mut kib = || anyhow::Ok(next()?.parse()?);
        let peak = kib()?;
        let quarters = [kib()?, kib()?, kib()?, kib()?];
        Ok(Report { seconds, usage: Usage { peak, quarters, cpu } })
    }
}
