//! `Outgoing`: finds the topic and partition that a reply is written to, and builds its headers.

use forebay_stream::{Failure, Header, Meta};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header as RecordHeader, OwnedHeaders};

use super::reply_targets::{ReplyTarget, ReplyTargets};
use super::trace::{Spans, TRACEPARENT};
use super::{Reply, ReplyKind};
use crate::SinkConfig;

pub(crate) struct Outgoing {
    reply_targets: ReplyTargets,
    spans: Spans,
}

/// The target of a reply, and the change to its request's headers.
pub(crate) struct Addressed {
    pub(crate) target: ReplyTarget,
    /// The `traceparent` header of the reply, if the request has a valid one.
    pub(crate) traceparent: Option<String>,
}

impl Outgoing {
    pub(crate) fn new(config: SinkConfig, client: ClientConfig) -> Self {
        let patience = config.delivery_timeout;
        let reply_targets =
            ReplyTargets::new(config.topic.into(), config.reply_to, client, patience);
        Self { reply_targets, spans: Spans::new() }
    }

    /// Returns the target of a reply: the one that its request names, or the sink's own topic if
    /// the request names none or the reply is a copy. If the named target cannot be used, returns a
    /// failure for a result, and the sink's own topic for an error reply.
    pub(crate) async fn address(
        &mut self,
        meta: &Meta,
        reply: &Reply,
    ) -> Result<Addressed, Failure> {
        if reply.kind == ReplyKind::Copy {
            return Ok(Addressed { target: self.reply_targets.own(), traceparent: None });
        }
        let target = match (self.reply_targets.of(meta).await, reply.kind) {
            (Ok(target), _) => target,
            (Err(failure), ReplyKind::Result) => return Err(failure),
            (Err(failure), _) => {
                tracing::debug!(%failure, "an error reply goes to the sink's own topic, because the target that its request names cannot be used");
                self.reply_targets.own()
            }
        };
        Ok(self.at(target, meta))
    }

    /// Returns the sink's own topic as the target, whatever target the request names.
    pub(crate) fn to_own_topic(&mut self, meta: &Meta) -> Addressed {
        self.at(self.reply_targets.own(), meta)
    }

    fn at(&mut self, target: ReplyTarget, meta: &Meta) -> Addressed {
        Addressed { target, traceparent: self.spans.continued(&meta.headers) }
    }
}

/// Returns the request's headers, with `traceparent` replaced if one is given, followed by the
/// reply's own headers. Returns `None` if there are no headers.
pub(crate) fn headers(
    meta: &Meta,
    traceparent: Option<&str>,
    own: &[Header],
) -> Option<OwnedHeaders> {
    let count = meta.headers.len() + own.len();
    if count == 0 {
        return None;
    }
    let passed_on = meta.headers.iter().map(|header| match traceparent {
        Some(traceparent) if header.name == TRACEPARENT => {
            (&header.name, Some(traceparent.as_bytes()))
        }
        _ => (&header.name, header.value.as_deref()),
    });
    let own = own.iter().map(|header| (&header.name, header.value.as_deref()));
    let headers = OwnedHeaders::new_with_capacity(count);
    Some(
        passed_on
            .chain(own)
            .fold(headers, |headers, (key, value)| headers.insert(RecordHeader { key, value })),
    )
}

#[cfg(test)]
mod tests {
    use forebay_stream::{Header, Meta};
    use proptest::prelude::*;
    use rdkafka::message::Headers as _;

    use super::headers;
    use crate::sink::trace::{Spans, TRACEPARENT};

    /// Generates headers. Their names have no null character, because librdkafka ends a name there.
    fn any_headers() -> impl Strategy<Value = Vec<Header>> {
        let name = prop_oneof![
            "[^\0]{0,9}",
            Just(TRACEPARENT.to_owned()),
            "forebay-dead-letter-[a-z]{0,5}",
        ];
        let valid = "00-[0-9a-f]{31}1-[0-9a-f]{15}1-0[01]".prop_map(String::into_bytes);
        let value = prop::option::of(prop_oneof![any::<Vec<u8>>(), valid]);
        let header =
            (name, value).prop_map(|(name, value)| Header { name, value: value.map(Into::into) });
        prop::collection::vec(header, 0..8)
    }

    proptest! {
        #[test]
        fn fuzz_any_headers_are_passed_on(theirs in any_headers(), own in any_headers()) {
            let meta = Meta { headers: theirs.clone(), ..Meta::default() };
            let continued = Spans::new().continued(&meta.headers);
            let written = headers(&meta, continued.as_deref(), &own);
            let written: Vec<_> = written.iter().flat_map(|headers| headers.iter()).map(|header| Header {
                name: header.key.to_owned(),
                value: header.value.map(|value| value.to_vec().into()),
            }).collect();
            prop_assert_eq!(written.len(), theirs.len() + own.len());
            prop_assert_eq!(&written[theirs.len()..], &own);
            for (written, theirs) in written.iter().zip(&theirs) {
                prop_assert_eq!(&written.name, &theirs.name);
                let changed = written.value != theirs.value;
                prop_assert!(!changed || (theirs.name == TRACEPARENT && continued.is_some()));
            }
        }
    }
}
