//! `ReplyTo`: the topics and partitions that requests may name for their replies.

use std::collections::BTreeSet;

use crate::Error;

/// The targets that requests may name for their replies, and the headers in which they name them.
///
/// The headers are those of Spring's `ReplyingKafkaTemplate`. They are passed on to the reply like
/// all others. The reply to a request that names no target goes to the sink's own topic, to the
/// partition of its key.
///
/// Anybody who may write to the requests topic can send requests, and replies are written with
/// Forebay's rights. Therefore a request may name the sink's own topic, and no others except those
/// that [`topics`](Self::topics) allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplyTo {
    /// The header with the topic's name, in UTF-8.
    pub topic_header: String,
    /// The header with the partition, as a big-endian integer of four bytes or in decimal digits.
    pub partition_header: String,
    /// The topics that a request may name besides the sink's own.
    pub topics: ReplyTopics,
    /// Topics that no reply is written to, even if `topics` allows them, such as the topic from
    /// which the pipeline reads its requests.
    pub never: BTreeSet<String>,
}

/// The topics that a request may name for its reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyTopics {
    /// The topics in this list.
    Listed(BTreeSet<String>),
    /// All topics except Kafka's internal ones, whose names begin with `__`.
    Any,
}

impl Default for ReplyTo {
    fn default() -> Self {
        Self {
            topic_header: "kafka_replyTopic".to_owned(),
            partition_header: "kafka_replyPartition".to_owned(),
            topics: ReplyTopics::Listed(BTreeSet::new()),
            never: BTreeSet::new(),
        }
    }
}

impl ReplyTo {
    pub(crate) fn allows(&self, topic: &str) -> bool {
        let allowed = match &self.topics {
            ReplyTopics::Listed(topics) => topics.contains(topic),
            ReplyTopics::Any => !topic.starts_with("__"),
        };
        allowed && !self.never.contains(topic)
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        let error = |setting, reason| Err(Error::Setting { setting, reason });
        for (setting, header) in [
            ("reply_topic_header", &self.topic_header),
            ("reply_partition_header", &self.partition_header),
        ] {
            if header.is_empty() || header.contains('\0') {
                return error(
                    setting,
                    "a header's name must not be empty or contain a null character".to_owned(),
                );
            }
        }
        if self.topic_header == self.partition_header {
            let reason = format!("{:?} is already the header with the topic", self.topic_header);
            return error("reply_partition_header", reason);
        }
        let ReplyTopics::Listed(topics) = &self.topics else { return Ok(()) };
        if let Some(topic) = topics.iter().find(|topic| !is_topic(topic.as_bytes())) {
            let reason = format!("{topic:?} cannot be a topic's name");
            return error("reply_topics", reason);
        }
        if let Some(topic) = topics.intersection(&self.never).next() {
            let reason = format!("{topic:?} is read: replies in it would be read as requests");
            return error("reply_topics", reason);
        }
        Ok(())
    }
}

/// Whether Kafka accepts this topic name, by the rules of its `Topic.validate`.
pub(crate) fn is_topic(name: &[u8]) -> bool {
    const LONGEST: usize = 249;
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    (1..=LONGEST).contains(&name.len()) && name.iter().all(legal) && name != b"." && name != b".."
}

#[cfg(test)]
mod tests {
    use super::{ReplyTo, ReplyTopics, is_topic};

    fn listed(topics: &[&str]) -> ReplyTo {
        let topics = topics.iter().map(|topic| (*topic).to_owned()).collect();
        ReplyTo { topics: ReplyTopics::Listed(topics), ..ReplyTo::default() }
    }

    #[test]
    fn only_listed_topics_are_allowed() {
        assert!(!ReplyTo::default().allows("a"));
        assert!(listed(&["a"]).allows("a"));
        assert!(!listed(&["a"]).allows("A"));
    }

    #[test]
    fn internal_topics_and_topics_that_are_read_are_never_allowed() {
        let mut any = ReplyTo { topics: ReplyTopics::Any, ..ReplyTo::default() };
        any.never.insert("requests".to_owned());
        assert!(any.allows("a"));
        assert!(!any.allows("__consumer_offsets"));
        assert!(!any.allows("requests"));
    }

    #[test]
    fn settings_that_cannot_work_are_rejected() {
        let error = |reply_to: ReplyTo| reply_to.validate().unwrap_err().to_string();
        let empty = ReplyTo { topic_header: String::new(), ..ReplyTo::default() };
        assert!(error(empty).starts_with("invalid reply_topic_header: "));
        let same = ReplyTo { partition_header: "kafka_replyTopic".into(), ..ReplyTo::default() };
        assert!(error(same).starts_with("invalid reply_partition_header: "));
        assert!(error(listed(&["a b"])).contains("\"a b\" cannot be a topic's name"));
        let mut read = listed(&["requests"]);
        read.never.insert("requests".to_owned());
        assert!(error(read).contains("would be read as requests"));
        assert!(listed(&["a", "b"]).validate().is_ok());
    }

    #[test]
    fn a_topic_name_is_valid_if_kafka_accepts_it() {
        for name in ["a", "A.b_c-9", "__consumer_offsets", &"x".repeat(249)] {
            assert!(is_topic(name.as_bytes()), "{name}");
        }
        let wrong = [&b""[..], b".", b"..", b"a b", b"a\0b", b"a/b", b"\xff", "\u{e4}".as_bytes()];
        for name in wrong {
            assert!(!is_topic(name), "{name:?}");
        }
        assert!(!is_topic("x".repeat(250).as_bytes()));
    }
}
