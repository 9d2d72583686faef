//! The rounds of a comparison. A round runs every contender once, in changing order, so that load
//! on the machine affects all of them.

use std::num::NonZeroUsize;

use anyhow::ensure;

use crate::child::{self, Report};
use crate::job::{Contender, Job};
use crate::lone::Client;
use crate::table::{Spread, head, row, verdict};
use crate::topics::Topics;

/// Records per throughput run: at least five seconds for the slowest contender, and a backlog that
/// shows whether memory stays bounded.
const COUNT: usize = 1_000_000;
/// `max_in_flight` as a user would set it for throughput. It is less than `max_uncommitted`, so no
/// partition is ever paused because of the latter.
const TUNED: NonZeroUsize = NonZeroUsize::new(8192).expect("8192 is not zero");
const WARM_UP: usize = 50;
const LONE: usize = 500;

/// One line of a table of throughput.
struct Line {
    name: &'static str,
    contender: Contender,
    in_flight: Option<NonZeroUsize>,
    reports: Vec<Report>,
}

impl Line {
    fn new(name: &'static str, contender: Contender, in_flight: Option<NonZeroUsize>) -> Self {
        Self { name, contender, in_flight, reports: Vec::new() }
    }

    fn run(&mut self, bench: &mut Bench, requests: &str, count: usize) -> anyhow::Result<()> {
        self.reports.push(bench.run(self.contender, requests, count, self.in_flight)?);
        let Report { seconds, usage } = &self.reports[self.reports.len() - 1];
        eprintln!(
            "  {}: {seconds:.2} s, CPU {:.2} s, peak {} KiB",
            self.name, usage.cpu, usage.peak
        );
        Ok(())
    }

    fn seconds(&self) -> impl Iterator<Item = f64> {
        self.reports.iter().map(|report| report.seconds)
    }
}

pub(crate) fn compare(brokers: &str, rounds: usize) -> anyhow::Result<()> {
    let mut bench = Bench::new(brokers)?;
    eprintln!("writing {COUNT} requests");
    let requests = bench.topics.make()?;
    bench.topics.fill(&requests, COUNT)?;
    let mut once = [
        Line::new("bare loop", Contender::Bare, None),
        Line::new("Forebay", Contender::Forebay, Some(TUNED)),
        Line::new("Forebay, defaults", Contender::Forebay, None),
    ];
    let mut exactly = [
        Line::new("bare loop", Contender::BareTransactions, None),
        Line::new("Forebay", Contender::ForebayTransactions, Some(TUNED)),
        Line::new("Forebay, defaults", Contender::ForebayTransactions, None),
    ];
    bench.rounds(rounds, &requests, &mut [&mut once, &mut exactly])?;
    let (bare, forebay) = bench.lone(rounds)?;
    bench.topics.remove(&requests)?;

    println!("\nAt least once, {COUNT} records a run, {rounds} rounds");
    throughput(&once, 0.8);
    println!("\nExactly once, a transaction every 100 ms");
    throughput(&exactly, 0.6);
    println!("\nA lone request, {LONE} a round, ms");
    lone(&bare, &forebay);
    println!("\nForebay's memory in these runs, MiB");
    memory([("at least once", &once[1]), ("exactly once", &exactly[1])]);
    Ok(())
}

/// Measures parts of the pipeline: the source alone, source and sink, and the whole pipeline.
pub(crate) fn parts(brokers: &str, rounds: usize) -> anyhow::Result<()> {
    let mut bench = Bench::new(brokers)?;
    let requests = bench.topics.make()?;
    bench.topics.fill(&requests, COUNT)?;
    let mut parts = [
        Line::new("bare consumer", Contender::BareConsumer, None),
        Line::new("Forebay's source", Contender::ForebaySource, Some(TUNED)),
        Line::new("bare loop", Contender::Bare, None),
        Line::new("source and sink", Contender::ForebayEnds, Some(TUNED)),
        Line::new("whole pipeline", Contender::Forebay, Some(TUNED)),
        Line::new("bare loop, transactions", Contender::BareTransactions, None),
        Line::new("source and sink, transactions", Contender::ForebayEndsTransactions, Some(TUNED)),
        Line::new("whole pipeline, transactions", Contender::ForebayTransactions, Some(TUNED)),
    ];
    bench.rounds(rounds, &requests, &mut [&mut parts])?;
    bench.topics.remove(&requests)?;
    println!("\nParts, {COUNT} records, {rounds} rounds");
    throughput(&parts, 0.0);
    Ok(())
}

struct Bench {
    brokers: String,
    topics: Topics,
}

impl Bench {
    fn new(brokers: &str) -> anyhow::Result<Self> {
        Ok(Self { brokers: brokers.to_owned(), topics: Topics::new(brokers)? })
    }

    fn rounds(
        &mut self,
        rounds: usize,
        requests: &str,
        tables: &mut [&mut [Line]],
    ) -> anyhow::Result<()> {
        for round in 0..rounds {
            eprintln!("round {} of {rounds}", round + 1);
            for lines in &mut *tables {
                let first = round % lines.len();
                let (before, after) = lines.split_at_mut(first);
                for line in after.iter_mut().chain(before) {
                    line.run(self, requests, COUNT)?;
                }
            }
        }
        Ok(())
    }

    /// Runs a contender on `count` records, and checks the number of records in the topic of
    /// replies. With transactions, it includes their markers.
    fn run(
        &mut self,
        contender: Contender,
        requests: &str,
        count: usize,
        in_flight: Option<NonZeroUsize>,
    ) -> anyhow::Result<Report> {
        let replies = self.topics.make()?;
        let report =
            child::start(contender, &self.job(requests, &replies, count, in_flight))?.wait()?;
        let written = self.topics.size(&replies)?;
        match contender {
            Contender::Bare | Contender::Forebay | Contender::ForebayEnds => {
                ensure!(written == count, "{contender:?} wrote {written} replies, not {count}");
            }
            Contender::BareConsumer | Contender::ForebaySource => {}
            _ => ensure!(written > count, "{contender:?} wrote {written} replies and markers"),
        }
        self.topics.remove(&replies)?;
        Ok(report)
    }

    fn job(
        &self,
        requests: &str,
        replies: &str,
        count: usize,
        in_flight: Option<NonZeroUsize>,
    ) -> Job {
        let brokers = self.brokers.clone();
        let requests = requests.to_owned();
        let replies = replies.to_owned();
        Job { brokers, requests, replies, count, in_flight }
    }

    /// Sends single requests to the bare loop and to Forebay in turn, while both run. Returns the
    /// latencies of both by round, in milliseconds.
    fn lone(&mut self, rounds: usize) -> anyhow::Result<(Vec<Vec<f64>>, Vec<Vec<f64>>)> {
        eprintln!("lone requests");
        let mut running = Vec::new();
        let mut clients = Vec::new();
        for contender in [Contender::Bare, Contender::Forebay] {
            let requests = self.topics.make()?;
            let replies = self.topics.make()?;
            let job = self.job(&requests, &replies, usize::MAX, None);
            running.push(child::start(contender, &job)?);
            clients.push(Client::new(&self.brokers, &requests, &replies)?);
        }
        let mut rounds: Vec<[Vec<f64>; 2]> =
            (0..rounds).map(|_| [const { Vec::new() }; 2]).collect();
        for _ in 0..WARM_UP {
            for client in &mut clients {
                client.ask()?;
            }
        }
        for round in &mut rounds {
            for _ in 0..LONE {
                for (client, took) in clients.iter_mut().zip(&mut *round) {
                    took.push(client.ask()?.as_secs_f64() * 1000.0);
                }
            }
        }
        for running in running {
            running.stop()?;
        }
        Ok(rounds.into_iter().map(|[bare, forebay]| (bare, forebay)).unzip())
    }
}

fn throughput(lines: &[Line], target: f64) {
    head(
        "contender | max_in_flight | records/s | spread | ratio | spread | ratio of the fastest | target | CPU µs/record | peak MiB | steady MiB",
    );
    let count = f64::from(u32::try_from(COUNT).unwrap_or(u32::MAX));
    let bare: Vec<f64> = lines[0].seconds().collect();
    for line in lines {
        let rate = Spread::of(line.seconds().map(|seconds| count / seconds));
        let ratio = Spread::of(line.seconds().zip(&bare).map(|(seconds, bare)| bare / seconds));
        // Other load on the machine has disturbed the fastest round of each contender least.
        let fastest = Spread::of(bare.iter().copied()).lowest / Spread::of(line.seconds()).lowest;
        let cpu = Spread::of(line.reports.iter().map(|one| one.usage.cpu * 1e6 / count)).median;
        let peak = Spread::of(line.reports.iter().map(|one| mib(one.usage.peak))).highest;
        let steady = Spread::of(line.reports.iter().map(|one| mib(one.usage.quarters[3]))).median;
        let in_flight = line.in_flight.map_or_else(String::new, |bound| bound.to_string());
        let met = match line.contender {
            Contender::Forebay | Contender::ForebayTransactions if target > 0.0 => {
                format!("{target}: {}", verdict(ratio.median >= target))
            }
            _ => String::new(),
        };
        row(&[
            &line.name,
            &in_flight,
            &rate.cells(0),
            &ratio.cells(2),
            &format_args!("{fastest:.2}"),
            &met,
            &format_args!("{cpu:.1}"),
            &format_args!("{peak:.0}"),
            &format_args!("{steady:.0}"),
        ]);
    }
}

fn lone(bare: &[Vec<f64>], forebay: &[Vec<f64>]) {
    head("contender | median | spread | p99 | spread");
    let median = |took: &Vec<f64>| Spread::of(took.iter().copied()).median;
    for (name, rounds) in [("bare loop", bare), ("Forebay", forebay)] {
        let medians = Spread::of(rounds.iter().map(median));
        let highest = Spread::of(rounds.iter().map(percentile_99));
        row(&[&name, &medians.cells(2), &highest.cells(2)]);
    }
    let more = bare.iter().zip(forebay).map(|(bare, forebay)| median(forebay) - median(bare));
    let more = Spread::of(more);
    println!(
        "\ndifference of medians: {:.2} ms (target 1: {})",
        more.median,
        verdict(more.median <= 1.0)
    );
}

fn memory(lines: [(&str, &Line); 2]) {
    head("delivery | peak | first quarter | second | third | last | target");
    for (delivery, line) in lines {
        let usages = || line.reports.iter().map(|report| &report.usage);
        let peak = Spread::of(usages().map(|usage| mib(usage.peak))).highest;
        let quarter =
            |number: usize| Spread::of(usages().map(|usage| mib(usage.quarters[number]))).median;
        let [a, b, c, d] = [0, 1, 2, 3].map(|number| format!("{:.1}", quarter(number)));
        let met = verdict(quarter(3) < 64.0);
        row(&[&delivery, &format_args!("{peak:.1}"), &a, &b, &c, &d, &format_args!("64: {met}")]);
    }
}

fn mib(kib: u64) -> f64 {
    f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1024.0
}

fn percentile_99(took: &Vec<f64>) -> f64 {
    let mut took = took.clone();
    took.sort_unstable_by(f64::total_cmp);
    took.get(took.len() * 99 / 100).copied().unwrap_or(f64::NAN)
}
