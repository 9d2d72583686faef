//! `Connections`: what a client reports about its connections, as one log line for each change.
//!
//! While a broker is away, librdkafka reports every attempt to connect, each of them twice, for each
//! client and each role of the broker, and does not say when the broker is back. Here the first
//! failure is a line, and the end of the failures is another one, for all clients of the process
//! together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rdkafka::Statistics;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use tokio::time::Instant;

/// The brokers to which clients of this process have no connection although they need one.
static AWAY: Mutex<BTreeMap<String, Away>> = Mutex::new(BTreeMap::new());

/// A broker that is away.
struct Away {
    since: Instant,
    /// Number of clients that need a connection and have none.
    clients: usize,
}

/// The connections of one client. Its context passes log lines and statistics on to this.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    // The addresses of the brokers that are away.
    away: Mutex<BTreeSet<String>>,
    // Whether the client knows the brokers of the cluster, and no longer only bootstrap servers.
    knows_cluster: AtomicBool,
}

impl Connections {
    /// Lets a client report statistics, from which [`update_from`](Self::update_from) learns that a
    /// broker is back.
    pub(crate) fn report(client: &mut ClientConfig) {
        const INTERVAL: (&str, &str) = ("statistics.interval.ms", "1000");
        if client.get(INTERVAL.0).is_none() {
            client.set(INTERVAL.0, INTERVAL.1);
        }
    }

    /// Handles a log line of the client.
    pub(crate) fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        match facility {
            "FAIL" if (level as i32) <= RDKafkaLogLevel::Error as i32 => self.failed(message),
            // Connections that a broker closes because they are idle, and requests without an
            // answer: if the broker is away, a failure to connect follows.
            "FAIL" | "REQTMOUT" => {}
            _ => return crate::log::line(level, facility, message),
        }
        crate::log::line(RDKafkaLogLevel::Debug, facility, message);
    }

    /// Handles the client's statistics, which tell what state each broker is in. They are read only
    /// if there is something to find out.
    pub(crate) fn update_from(&self, json: &[u8]) {
        if self.needs_update()
            && let Some(statistics) = statistics(json)
        {
            self.update(&statistics);
        }
    }

    /// Like [`update_from`](Self::update_from), for statistics that are read already.
    pub(crate) fn update(&self, statistics: &Statistics) {
        let brokers = || statistics.brokers.values();
        if brokers().any(|broker| broker.nodeid >= 0 && is_up(&broker.state)) {
            // Pairs with the load in `failed`.
            self.knows_cluster.store(true, Ordering::Release);
        }
        let any_up = brokers().any(|broker| is_up(&broker.state));
        self.away.lock().retain(|address| {
            let same = || brokers().filter(|broker| broker.nodename == *address);
            if same().any(|broker| is_up(&broker.state)) {
                back(address);
                return false;
            }
            // `INIT` is the state of a broker that the client does not need.
            let is_needed = same().any(|broker| broker.state != "INIT");
            if any_up && !is_needed {
                unneeded(address);
                return false;
            }
            true
        });
    }

    /// Whether [`update`](Self::update) has something to find out.
    pub(crate) fn needs_update(&self) -> bool {
        // Pairs with the store in `update`.
        !self.knows_cluster.load(Ordering::Acquire) || !self.away.lock().is_empty()
    }

    /// Notes that a connection failed.
    fn failed(&self, message: &str) {
        let Some(Failure { address, is_bootstrap, reason }) = Failure::read(message) else {
            return;
        };
        // Pairs with the store in `update`. Bootstrap servers are asked in vain whenever all
        // brokers are away, under addresses that may differ from those of the brokers.
        if is_bootstrap && self.knows_cluster.load(Ordering::Acquire) {
            return;
        }
        if self.away.lock().insert(address.to_owned()) {
            lost(address, reason);
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        for address in &*self.away.lock() {
            forget(address);
        }
    }
}

fn is_up(state: &str) -> bool {
    matches!(state, "UP" | "REAUTH")
}

fn lost(broker: &str, reason: &str) {
    let mut away = AWAY.lock();
    let known = away.entry(broker.to_owned());
    let known = known.or_insert_with(|| Away { since: Instant::now(), clients: 0 });
    known.clients += 1;
    if known.clients == 1 {
        tracing::warn!(broker, reason, "no connection to a broker, it is tried again");
    }
}

fn back(broker: &str) {
    if let Some(since) = forget(broker) {
        let after = since.elapsed();
        tracing::info!(broker, ?after, "connected to the broker again");
    }
}

/// Notes that a client does without the broker, because others lead its partitions.
fn unneeded(broker: &str) {
    if forget(broker).is_some() {
        tracing::info!(broker, "the broker is not needed any more, other brokers took over");
    }
}

/// Removes a client from the count. If it was the last one, returns since when the broker was away.
fn forget(broker: &str) -> Option<Instant> {
    let mut away = AWAY.lock();
    let known = away.get_mut(broker)?;
    known.clients -= 1;
    let since = known.since;
    (known.clients == 0).then(|| away.remove(broker)).map(|_| since)
}

/// A connection that failed, as librdkafka logs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure<'a> {
    /// Host and port.
    pub(crate) address: &'a str,
    /// Whether it is a connection to a bootstrap server, whose broker is not known yet.
    pub(crate) is_bootstrap: bool,
    pub(crate) reason: &'a str,
}

impl<'a> Failure<'a> {
    /// Reads lines such as
    /// `[thrd:b:9092/1]: b:9092/1: Connect to b failed: Connection refused (after 0ms in state CONNECT)`
    /// and `[thrd:GroupCoordinator]: GroupCoordinator: b:9092: Connect to ..`.
    pub(crate) fn read(message: &'a str) -> Option<Self> {
        let message = message.split_once("]: ").map_or(message, |(_, rest)| rest);
        let (name, rest) = message.split_once(": ")?;
        let (name, rest) = if name.contains(':') { (name, rest) } else { rest.split_once(": ")? };
        let address = address(name)?;
        let is_bootstrap = name.ends_with("/bootstrap");
        let reason = rest.rsplit_once(" (after ").map_or(rest, |(reason, _)| reason);
        Some(Self { address, is_bootstrap, reason })
    }
}

/// Returns host and port from librdkafka's name of a broker, such as `ssl://kafka:9093/bootstrap`.
pub(crate) fn address(name: &str) -> Option<&str> {
    let name = name.split_once("://").map_or(name, |(_, rest)| rest);
    let address = name.split('/').next()?;
    let (_, port) = address.rsplit_once(':')?;
    port.parse::<u16>().is_ok().then_some(address)
}

/// Reads statistics as librdkafka emits them.
pub(crate) fn statistics(json: &[u8]) -> Option<Statistics> {
    let read = serde_json::from_slice(json);
    read.inspect_err(|error| tracing::debug!(%error, "statistics cannot be read")).ok()
}

#[cfg(test)]
mod tests {
    use super::Failure;

    #[test]
    fn the_address_of_a_failed_connection_is_found_in_the_log_line() {
        let refused = "Connect to ipv4#127.0.0.1:9092 failed: Connection refused";
        let after = "(after 0ms in state CONNECT, 1 identical error(s) suppressed)";
        for (name, address, is_bootstrap) in [
            ("127.0.0.1:9092/1", "127.0.0.1:9092", false),
            ("kafka:9092/bootstrap", "kafka:9092", true),
            ("GroupCoordinator: kafka:9092", "kafka:9092", false),
            ("sasl_ssl://kafka:9093/bootstrap", "kafka:9093", true),
            ("ssl://[::1]:9093/2", "[::1]:9093", false),
        ] {
            let line = format!("[thrd:{name}]: {name}: {refused} {after}");
            let expected = Failure { address, is_bootstrap, reason: refused };
            assert_eq!(Failure::read(&line), Some(expected));
        }
        assert_eq!(Failure::read("[thrd:app]: something else: happened"), None);
    }
}
