//! `GroupOptions`: the options of a member of a consumer group, with defaults that depend on other
//! options, and the combinations that cannot work.

use std::time::Duration;

use rdkafka::ClientConfig;

use crate::{Error, Options};

const SESSION_TIMEOUT: &str = "session.timeout.ms";
const HEARTBEAT_INTERVAL: &str = "heartbeat.interval.ms";
const MAX_POLL_INTERVAL: &str = "max.poll.interval.ms";
const STRATEGY: &str = "partition.assignment.strategy";

/// Options that the brokers decide on if the group uses the protocol of KIP-848, and the reason.
const CLASSIC_ONLY: [(&str, &str); 4] = [
    (SESSION_TIMEOUT, "the brokers set it, as `group.consumer.session.timeout.ms`; leave it out"),
    (
        HEARTBEAT_INTERVAL,
        "the brokers set it, as `group.consumer.heartbeat.interval.ms`; leave it out",
    ),
    (STRATEGY, "the brokers assign the partitions; name a strategy in `group.remote.assignor`"),
    ("group.protocol.type", "there are no types of protocols; leave it out"),
];

/// The timeouts of a member of a consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct GroupOptions {
    /// How long the group keeps a member that sends no heartbeat, and how often the member sends
    /// one; `None` if the brokers decide (`group.protocol = consumer`).
    session: Option<Session>,
    /// The longest time between two polls, and the longest time that the group waits for a member
    /// in a rebalance.
    max_poll: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Session {
    timeout: Duration,
    heartbeat: Duration,
}

impl GroupOptions {
    /// Reads the timeouts from a user's options. A timeout that the user did not set follows those
    /// that the user did set.
    pub(super) fn of(options: &Options) -> Result<Self, Error> {
        let max_poll = millis(options, MAX_POLL_INTERVAL)?;
        if is_consumer_protocol(options) {
            for (option, reason) in CLASSIC_ONLY {
                if options.contains_key(option) {
                    let reason = format!("with `group.protocol` = \"consumer\", {reason}");
                    return Err(Error::Setting { setting: option, reason });
                }
            }
            return Ok(Self { session: None, max_poll: max_poll.unwrap_or(DEFAULT_MAX_POLL) });
        }
        let timeout = millis(options, SESSION_TIMEOUT)?;
        let heartbeat = millis(options, HEARTBEAT_INTERVAL)?;
        let (timeout, max_poll) = match (timeout, max_poll) {
            (Some(timeout), Some(max_poll)) if timeout > max_poll => {
                let reason = format!(
                    "{timeout:?} is more than {MAX_POLL_INTERVAL}, {max_poll:?}; lower it, or raise {MAX_POLL_INTERVAL}"
                );
                return Err(Error::Setting { setting: SESSION_TIMEOUT, reason });
            }
            (Some(timeout), max_poll) => {
                (timeout, max_poll.unwrap_or(DEFAULT_MAX_POLL.max(timeout)))
            }
            (None, max_poll) => {
                let max_poll = max_poll.unwrap_or(DEFAULT_MAX_POLL);
                (DEFAULT_SESSION.min(max_poll), max_poll)
            }
        };
        let heartbeat = heartbeat.unwrap_or(DEFAULT_HEARTBEAT.min(timeout / 3));
        if heartbeat >= timeout {
            let reason = format!(
                "{heartbeat:?} is not less than {SESSION_TIMEOUT}, {timeout:?}; a third of that is usual"
            );
            return Err(Error::Setting { setting: HEARTBEAT_INTERVAL, reason });
        }
        Ok(Self { session: Some(Session { timeout, heartbeat }), max_poll })
    }

    /// Gives `client` the options that follow others. The user's own are set already.
    pub(super) fn complete(self, client: &mut ClientConfig) {
        let mut set = |option, value: &str| {
            if client.get(option).is_none() {
                client.set(option, value);
            }
        };
        set(MAX_POLL_INTERVAL, &self.max_poll.as_millis().to_string());
        if let Some(Session { timeout, heartbeat }) = self.session {
            set(SESSION_TIMEOUT, &timeout.as_millis().to_string());
            set(HEARTBEAT_INTERVAL, &heartbeat.as_millis().to_string());
            set(STRATEGY, "cooperative-sticky");
        }
    }

    /// Returns the drain timeout to use, given the one that the user set.
    ///
    /// While partitions are drained, polls and heartbeats go on (see `source/handover.rs`), so the
    /// session timeout does not limit a drain. But in a rebalance the group waits for a member only
    /// as long as `max.poll.interval.ms`, and the flush and the commit at the end of a drain take
    /// time too, so a drain may take half of it.
    pub(super) fn drain_timeout(self, set: Option<Duration>) -> Result<Duration, Error> {
        const DEFAULT: Duration = Duration::from_secs(10);
        let Some(timeout) = set else { return Ok(DEFAULT.min(self.max_poll / 4)) };
        let limit = self.max_poll / 2;
        if timeout < limit {
            return Ok(timeout);
        }
        let reason = format!(
            "{timeout:?} is not less than {limit:?}, half of {MAX_POLL_INTERVAL}; lower it, or raise {MAX_POLL_INTERVAL}"
        );
        Err(Error::Setting { setting: "drain_timeout", reason })
    }

    /// Returns the transaction timeout to use, given the one that the user set.
    ///
    /// If a member crashes, the group gives its partitions to the next owner after the session
    /// timeout. The next owner cannot begin until the open transaction of the crashed member has
    /// ended, so a transaction should not outlast the session.
    pub(super) fn transaction_timeout(self, set: Option<Duration>) -> Result<Duration, Error> {
        const DEFAULT: Duration = Duration::from_secs(10);
        const SHORTEST: Duration = Duration::from_secs(1);
        let session = self.session.map_or(Duration::MAX, |session| session.timeout);
        let reason = match set {
            None => return Ok(DEFAULT.min(session).max(SHORTEST)),
            Some(timeout) if timeout >= session => {
                format!(
                    "{timeout:?} is not less than {SESSION_TIMEOUT}, {session:?}; lower it, or raise {SESSION_TIMEOUT}"
                )
            }
            Some(timeout) if timeout < SHORTEST => {
                format!("{timeout:?} is less than a second; raise it")
            }
            Some(timeout) => return Ok(timeout),
        };
        Err(Error::Setting { setting: "transactions.timeout", reason })
    }
}

/// librdkafka's own defaults.
const DEFAULT_SESSION: Duration = Duration::from_secs(45);
const DEFAULT_HEARTBEAT: Duration = Duration::from_secs(3);
const DEFAULT_MAX_POLL: Duration = Duration::from_mins(5);

/// Whether the group uses the protocol of KIP-848, in which the brokers assign the partitions.
fn is_consumer_protocol(options: &Options) -> bool {
    let protocol = options.get("group.protocol");
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("consumer"))
}

fn millis(options: &Options, option: &'static str) -> Result<Option<Duration>, Error> {
    let Some(value) = options.get(option) else { return Ok(None) };
    value.parse().map(|millis| Some(Duration::from_millis(millis))).map_err(|_| {
        let reason = format!("{value:?} is not a number of milliseconds, such as 6000");
        Error::Setting { setting: option, reason }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::GroupOptions;
    use crate::Options;

    const SECOND: Duration = Duration::from_secs(1);

    fn group_options(options: &[(&str, &str)]) -> Result<GroupOptions, String> {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let options = Options::from(options.collect::<std::collections::BTreeMap<_, _>>());
        GroupOptions::of(&options).map_err(|error| error.to_string())
    }

    fn completed(options: &[(&str, &str)]) -> [Option<String>; 4] {
        let mut client = rdkafka::ClientConfig::new();
        for (name, value) in options {
            client.set(*name, *value);
        }
        group_options(options).unwrap().complete(&mut client);
        [
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "max.poll.interval.ms",
            "partition.assignment.strategy",
        ]
        .map(|option| client.get(option).map(str::to_owned))
    }

    #[test]
    fn timeouts_that_are_not_set_follow_those_that_are() {
        let strategy = "cooperative-sticky";
        for (options, expected) in [
            (&[][..], ["45000", "3000", "300000", strategy]),
            (&[("session.timeout.ms", "6000")], ["6000", "2000", "300000", strategy]),
            (&[("session.timeout.ms", "600000")], ["600000", "3000", "600000", strategy]),
            (&[("max.poll.interval.ms", "30000")], ["30000", "3000", "30000", strategy]),
            (&[("heartbeat.interval.ms", "500")], ["45000", "500", "300000", strategy]),
            (&[("partition.assignment.strategy", "range")], ["45000", "3000", "300000", "range"]),
        ] {
            assert_eq!(
                completed(options),
                expected.map(|value| Some(value.to_owned())),
                "{options:?}"
            );
        }
        let six = group_options(&[("session.timeout.ms", "6000")]).unwrap();
        assert_eq!(six.drain_timeout(None).unwrap(), 10 * SECOND);
        assert_eq!(six.transaction_timeout(None).unwrap(), 6 * SECOND);
        let short = group_options(&[("max.poll.interval.ms", "8000")]).unwrap();
        assert_eq!(short.drain_timeout(None).unwrap(), 2 * SECOND);
    }

    #[test]
    fn timeouts_that_contradict_each_other_are_refused() {
        for (options, expected) in [
            (
                &[("session.timeout.ms", "20000"), ("max.poll.interval.ms", "10000")][..],
                "invalid session.timeout.ms: 20s is more than max.poll.interval.ms, 10s; lower it, or raise max.poll.interval.ms",
            ),
            (
                &[("session.timeout.ms", "6000"), ("heartbeat.interval.ms", "6000")],
                "invalid heartbeat.interval.ms: 6s is not less than session.timeout.ms, 6s; a third of that is usual",
            ),
            (
                &[("session.timeout.ms", "6s")],
                "invalid session.timeout.ms: \"6s\" is not a number of milliseconds, such as 6000",
            ),
        ] {
            assert_eq!(group_options(options).unwrap_err(), expected);
        }
        let member = group_options(&[("max.poll.interval.ms", "50000")]).unwrap();
        let error = member.drain_timeout(Some(25 * SECOND)).unwrap_err().to_string();
        assert_eq!(
            error,
            "invalid drain_timeout: 25s is not less than 25s, half of max.poll.interval.ms; lower it, or raise max.poll.interval.ms"
        );
        assert!(member.drain_timeout(Some(24 * SECOND)).is_ok());
        assert!(member.transaction_timeout(Some(45 * SECOND)).is_err());
        assert!(member.transaction_timeout(Some(SECOND / 2)).is_err());
    }

    #[test]
    fn the_consumer_protocol_has_no_defaults_of_the_classic_one_and_refuses_its_options() {
        let consumer = ("group.protocol", "consumer");
        assert_eq!(completed(&[consumer]), [None, None, Some("300000".to_owned()), None]);
        for option in [
            "session.timeout.ms",
            "heartbeat.interval.ms",
            "partition.assignment.strategy",
            "group.protocol.type",
        ] {
            let error = group_options(&[consumer, (option, "6000")]).unwrap_err();
            let expected = format!("invalid {option}: with `group.protocol` = \"consumer\", ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }
}
