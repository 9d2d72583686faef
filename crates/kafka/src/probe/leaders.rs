//! Checks that the addresses which the brokers advertise answer.
//!
//! A client asks a bootstrap server for the brokers of the cluster, and then connects to the
//! addresses that those advertise. A broker in a container often advertises an address that only
//! other containers can reach.

use std::thread;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::{Prober, Topic};
use crate::Error;

/// How long the leaders have to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks each leader for the offsets of a partition that it leads. Fails if none answers, and warns
/// if some do not, because the other partitions can be used.
pub(super) fn check(
    prober: &Prober,
    name: &str,
    topic: &Topic,
    brokers: String,
) -> Result<(), Error> {
    let silent = silent(prober, name, topic);
    if silent.is_empty() {
        return Ok(());
    }
    prober.drain();
    let addresses = silent.iter().filter_map(|leader| topic.addresses.get(leader));
    let addresses: Vec<&str> = addresses.map(String::as_str).collect();
    let reasons = &prober.seen().reasons;
    let reason = addresses.iter().find_map(|address| reasons.get(*address));
    let reason = reason.filter(|reason| !reason.starts_with("Connection setup timed out"));
    let detail = reason.cloned().unwrap_or_else(|| format!("no answer within {TIMEOUT:?}"));
    let asked = topic.asked.clone();
    let advertised = addresses.join(", ");
    if silent.len() < topic.leaders.len() {
        tracing::warn!(
            topic = name,
            "{asked} advertises {advertised}, which does not answer: the partitions that it leads have to wait ({detail})"
        );
        return Ok(());
    }
    if addresses.contains(&asked.as_str()) {
        return Err(Error::Unreachable { brokers, timeout: TIMEOUT, detail });
    }
    Err(Error::Advertised { asked, advertised, detail })
}

/// Returns the ids of the leaders that do not answer.
fn silent(prober: &Prober, name: &str, topic: &Topic) -> Vec<i32> {
    thread::scope(|scope| {
        let asking: Vec<_> = topic
            .leaders
            .iter()
            .map(|(leader, partition)| {
                let asked = scope.spawn(|| {
                    prober
                        .client
                        .fetch_watermarks(name, *partition, TIMEOUT)
                        .is_err_and(|error| is_silence(&error))
                });
                (*leader, asked)
            })
            .collect();
        let silent = asking.into_iter().filter_map(|(leader, asked)| {
            // A thread that panicked tells nothing about the broker.
            asked.join().is_ok_and(|silent| silent).then_some(leader)
        });
        silent.collect()
    })
}

/// Whether the error means that the broker did not answer. Any other error is an answer.
fn is_silence(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::OperationTimedOut
                | RDKafkaErrorCode::RequestTimedOut
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::Resolve
        )
    )
}
