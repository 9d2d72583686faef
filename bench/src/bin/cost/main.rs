//! Compares Forebay with a bare loop of librdkafka's consumer and producer with the same settings.
//! `bench/cost.sh` runs it.
//!
//! Every contender is a separate process, which is this program with other arguments, so that its
//! memory and CPU time are measured alone.

mod bare;
mod child;
mod compare;
mod forebay;
mod job;
mod lone;
mod settings;
mod table;
mod topics;
mod usage;

use std::num::NonZeroUsize;

use anyhow::{Context as _, bail};

use crate::job::{Contender, Job};

fn main() -> anyhow::Result<()> {
    let brokers = std::env::var("KAFKA_BROKERS").context("KAFKA_BROKERS must name the brokers")?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["compare", rounds] => compare::compare(&brokers, rounds.parse()?),
        ["parts", rounds] => compare::parts(&brokers, rounds.parse()?),
        // Creates a topic with requests, to run one contender with a profiler.
        ["topic", count] => {
            let mut topics = topics::Topics::new(&brokers)?;
            let topic = topics.make()?;
            topics.fill(&topic, count.parse()?)?;
            println!("{topic}");
            Ok(())
        }
        [contender, requests, replies, count, in_flight] => {
            let contender = Contender::named(contender).context("unknown contender")?;
            let in_flight = match in_flight {
                "default" => None,
                number => Some(number.parse::<NonZeroUsize>()?),
            };
            let requests = requests.to_owned();
            let replies = replies.to_owned();
            let job = Job { brokers, requests, replies, count: count.parse()?, in_flight };
            child::run(contender, &job)
        }
        _ => bail!(
            "usage: cost compare|parts ROUNDS, cost topic COUNT, cost CONTENDER REQUESTS REPLIES COUNT IN_FLIGHT|default"
        ),
    }
}
