//! `Outgoing`: where a reply goes, and the headers that it has there.

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

/// Where a reply goes, and what is changed of its request's headers.
pub(crate) struct Addressed {
    pub(crate) place: ReplyTarget,
    /// The reply's place in its request's trace.
    pub(crate) traceparent: Option<String>,
}

impl Outgoing {
    pub(crate) fn new(config: SinkConfig, client: ClientConfig) -> Self {
        let patience = config.delivery_timeout;
        let reply_targets =
            ReplyTargets::new(config.topic.into(), config.reply_to, client, patience);
        Self { reply_targets, spans: Spans::new() }
    }

    /// Finds the place that the request asks for; a failure where a result cannot go there. An error reply then goes to
    /// the sink's own topic.
    pub(crate) async fn address(
        &mut self,
        meta: &Meta,
        reply: &Reply,
    ) -> Result<Addressed, Failure> {
        if reply.kind == ReplyKind::Copy {
            return Ok(Addressed { place: self.reply_targets.own(), traceparent: None });
        }
        let place = match (self.reply_targets.of(meta).await, reply.kind) {
            (Ok(place), _) => place,
            (Err(failure), ReplyKind::Result) => return Err(failure),
            (Err(failure), _) => {
                tracing::debug!(%failure, "an error reply goes to the sink's own topic");
                self.reply_targets.own()
            }
        };
        Ok(self.at(place, meta))
    }

    /// The sink's own topic, whatever the request asks for.
    pub(crate) fn at_home(&mut self, meta: &Meta) -> Addressed {
        self.at(self.reply_targets.own(), meta)
    }

    fn at(&mut self, place: ReplyTarget, meta: &Meta) -> Addressed {
        Addressed { place, traceparent: self.spans.continued(&meta.headers) }
    }
}

/// The request's headers, its place in a trace replaced by that of the reply, then the reply's own; `None` where there
/// are none at all.
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

    /// Names as librdkafka can write them: it ends them at a null.
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
