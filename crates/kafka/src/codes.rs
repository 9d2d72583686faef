//! The failure codes of replies that cannot be written.

use forebay_stream::Code;

/// A reply that was not written, for a reason without a code of its own. Transient after a timeout.
pub const DELIVERY_FAILED: Code = Code::new(
    "delivery_failed",
    "The brokers refused the reply, or did not confirm it within `delivery_timeout`; see the \
     message.",
)
.transient();

/// A header of the request that names a partition which cannot be used.
pub const INVALID_REPLY_PARTITION: Code = Code::new(
    "invalid_reply_partition",
    "The header with the reply's partition does not hold one, or the topic has no such partition; \
     correct the header.",
);

/// A header of the request that is not the name of a topic.
pub const INVALID_REPLY_TOPIC: Code = Code::new(
    "invalid_reply_topic",
    "The header with the reply's topic is not a valid name of a topic; correct the header.",
);

/// A reply that is larger than the client or its topic allows.
pub const REPLY_TOO_LARGE: Code = Code::new(
    "reply_too_large",
    "The reply is larger than the sink or its topic allows; raise `message.max.bytes` of the sink \
     and `max.message.bytes` of the topic, or make the results smaller.",
);

/// A header of the request that names a topic which does not exist.
pub const REPLY_TOPIC_MISSING: Code = Code::new(
    "reply_topic_missing",
    "The reply topic that the request names does not exist; create it, or name another one.",
);

/// A header of the request that names a topic which Forebay must not write to.
pub const REPLY_TOPIC_NOT_ALLOWED: Code = Code::new(
    "reply_topic_not_allowed",
    "Forebay may not write to the reply topic that the request names; add the topic to \
     `reply_topics`, or permit the write on the brokers.",
);

/// From a [`TransactionalSink`](crate::TransactionalSink), for a reply to several requests.
pub const SEVERAL_REQUESTS: Code = Code::new(
    "several_requests",
    "A reply was made of several requests, which exactly-once delivery does not support; give each \
     request its own reply, or use `at_least_once`.",
);

/// All codes of this crate.
pub const ALL: &[Code] = &[
    DELIVERY_FAILED,
    INVALID_REPLY_PARTITION,
    INVALID_REPLY_TOPIC,
    REPLY_TOO_LARGE,
    REPLY_TOPIC_MISSING,
    REPLY_TOPIC_NOT_ALLOWED,
    SEVERAL_REQUESTS,
];
