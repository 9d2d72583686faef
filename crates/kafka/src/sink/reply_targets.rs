//! `ReplyTargets`: finds the topic and partition of a reply.

use std::sync::Arc;
use std::time::Duration;

use forebay_stream::{Code, Failure, Meta};
use rdkafka::config::ClientConfig;
use rdkafka::error::RDKafkaErrorCode;

use super::topics::{Found, Topics};
use crate::reply_to::is_topic;
use crate::{ReplyTo, ReplyTopics, codes};

/// The stage at which failures of this module happen. A pipeline gives the same name to the step
/// before its sink.
pub(super) const STAGE: &str = "reply";

/// The topic and partition that a reply is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReplyTarget {
    pub(crate) topic: Arc<str>,
    /// Chosen by key if `None`.
    pub(crate) partition: Option<i32>,
    /// Whether the request named this target.
    pub(crate) asked: bool,
}

/// Finds the target that a request names.
pub(super) struct ReplyTargets {
    own: Arc<str>,
    reply_to: ReplyTo,
    topics: Topics,
}

impl ReplyTargets {
    pub(super) fn new(
        own: Arc<str>,
        reply_to: ReplyTo,
        client: ClientConfig,
        patience: Duration,
    ) -> Self {
        Self { own, reply_to, topics: Topics::new(client, patience) }
    }

    /// Returns the target of replies whose requests name no target.
    pub(super) fn own(&self) -> ReplyTarget {
        ReplyTarget { topic: Arc::clone(&self.own), partition: None, asked: false }
    }

    /// Returns the target of the reply to a request with this metadata. Asks the brokers about the
    /// topic unless their answer is cached.
    ///
    /// A header whose value is null names nothing. If several headers have the same name, the last
    /// one counts, as for Java's `lastHeader`.
    pub(super) async fn of(&mut self, meta: &Meta) -> Result<ReplyTarget, Failure> {
        let topic = meta.header(&self.reply_to.topic_header).map(|topic| self.topic(topic));
        let partition =
            meta.header(&self.reply_to.partition_header).map(|partition| self.partition(partition));
        if topic.is_none() && partition.is_none() {
            return Ok(self.own());
        }
        let topic = topic.transpose()?.unwrap_or_else(|| Arc::clone(&self.own));
        let partition = partition.transpose()?;
        if topic == self.own && partition.is_none() {
            return Ok(self.own());
        }
        let failure = |code, message: std::fmt::Arguments<'_>| Err(failure(code, message));
        match self.topics.find(&topic).await {
            Found::Partitions(count) => match partition.filter(|partition| *partition >= count) {
                None => Ok(ReplyTarget { topic, partition, asked: true }),
                Some(partition) => failure(
                    codes::INVALID_REPLY_PARTITION,
                    format_args!("{topic} has {count} partitions, and no partition {partition}"),
                ),
            },
            Found::Refused(code) => {
                let message = format_args!("no reply can be written to {topic}: {code}");
                failure(refused(code).unwrap_or(codes::DELIVERY_FAILED), message)
            }
            Found::NoAnswer(error) => failure(
                codes::DELIVERY_FAILED,
                format_args!("cannot find out whether the topic {topic} exists: {error}"),
            ),
        }
    }

    fn topic(&self, name: &[u8]) -> Result<Arc<str>, Failure> {
        let header = &self.reply_to.topic_header;
        let name = std::str::from_utf8(name).ok().filter(|name| is_topic(name.as_bytes()));
        let Some(name) = name else {
            let message = format_args!("the header {header} does not hold a topic's name");
            return Err(failure(codes::INVALID_REPLY_TOPIC, message));
        };
        if name == &*self.own {
            return Ok(Arc::clone(&self.own));
        }
        if self.reply_to.allows(name) {
            return Ok(name.into());
        }
        let why = match self.reply_to.topics {
            ReplyTopics::Listed(_) => "it is not among the `reply_topics` of the sink",
            ReplyTopics::Any => "it is internal, or holds requests",
        };
        let message = format_args!("replies are not written to {name}: {why}");
        Err(failure(codes::REPLY_TOPIC_NOT_ALLOWED, message))
    }

    fn partition(&self, bytes: &[u8]) -> Result<i32, Failure> {
        partition(bytes).filter(|partition| *partition >= 0).ok_or_else(|| {
            let message = format_args!(
                "the header {} does not hold a partition: a big-endian integer of four bytes, or decimal digits",
                self.reply_to.partition_header
            );
            failure(codes::INVALID_REPLY_PARTITION, message)
        })
    }
}

/// Reads a partition: Spring writes four bytes, big-endian, and `NestJS` decimal digits. Four bytes that
/// are all digits are read as digits, because as an integer they would exceed 800 million.
fn partition(bytes: &[u8]) -> Option<i32> {
    if !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit) {
        return std::str::from_utf8(bytes).ok()?.parse().ok();
    }
    bytes.try_into().ok().map(i32::from_be_bytes)
}

fn failure(code: Code, message: std::fmt::Arguments<'_>) -> Failure {
    Failure::new(code, message).at(STAGE)
}

/// Returns the failure code for a reply that the brokers refused, if they did so because of the
/// target that its request named.
pub(super) fn refused(code: RDKafkaErrorCode) -> Option<Code> {
    match code {
        RDKafkaErrorCode::UnknownTopic
        | RDKafkaErrorCode::UnknownTopicOrPartition
        | RDKafkaErrorCode::InvalidTopic => Some(codes::REPLY_TOPIC_MISSING),
        RDKafkaErrorCode::UnknownPartition => Some(codes::INVALID_REPLY_PARTITION),
        RDKafkaErrorCode::TopicAuthorizationFailed => Some(codes::REPLY_TOPIC_NOT_ALLOWED),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rdkafka::config::ClientConfig;

    use super::ReplyTargets;
    use crate::reply_to::is_topic;
    use crate::{ReplyTo, ReplyTopics};

    fn reply_targets(topics: ReplyTopics) -> ReplyTargets {
        let reply_to = ReplyTo { topics, never: ["in".to_owned()].into(), ..ReplyTo::default() };
        ReplyTargets::new("out".into(), reply_to, ClientConfig::new(), Duration::ZERO)
    }

    proptest! {
        #[test]
        fn fuzz_any_reply_topic_is_accepted_or_refused(
            name in prop_oneof![any::<Vec<u8>>(), "[a-z._-]{0,4}|__.*|in|out|b".prop_map(String::into_bytes)],
        ) {
            let listed = reply_targets(ReplyTopics::Listed(["b".to_owned()].into())).topic(&name);
            prop_assert_eq!(listed.is_ok(), name == b"b" || name == b"out");
            let any = reply_targets(ReplyTopics::Any).topic(&name);
            prop_assert_eq!(any.is_ok(), is_topic(&name) && name != b"in" && !name.starts_with(b"__"));
            let codes = ["invalid_reply_topic", "reply_topic_not_allowed"];
            prop_assert!(any.err().is_none_or(|failure| codes.contains(&failure.code())));
        }

        #[test]
        fn fuzz_any_reply_partition_is_read_or_refused(
            bytes in prop_oneof![
                any::<Vec<u8>>(),
                any::<[u8; 4]>().prop_map(Vec::from),
                "[0-9]{0,12}".prop_map(String::into_bytes),
            ],
        ) {
            let digits = std::str::from_utf8(&bytes).ok();
            let digits = digits.filter(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()));
            let expected = match digits {
                Some(digits) => digits.parse().ok(),
                None => <[u8; 4]>::try_from(&*bytes).ok().map(i32::from_be_bytes),
            };
            let found = reply_targets(ReplyTopics::Any).partition(&bytes).ok();
            prop_assert_eq!(found, expected.filter(|partition| *partition >= 0));
        }
    }
}
