//! `Outgoing`: finds the topic and partition that a reply is written to, and builds its headers.

use std::sync::Arc;

use forebay_stream::{Failure, Header, Meta};
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header as RecordHeader, OwnedHeaders};

use super::reply_targets::{ReplyTarget, ReplyTargets};
use super::{Reply, ReplyKind};
use crate::{DropHeaders, SinkConfig};

pub(crate) struct Outgoing {
    reply_targets: ReplyTargets,
    drop: Arc<DropHeaders>,
}

/// The target of a reply, and the headers of its request that it does not get.
pub(crate) struct Addressed {
    pub(crate) target: ReplyTarget,
    /// `None` for a copy of the request, which keeps all headers.
    pub(crate) drop: Option<Arc<DropHeaders>>,
}

impl Outgoing {
    pub(crate) fn new(config: SinkConfig, client: ClientConfig) -> Self {
        let patience = config.delivery_timeout;
        let reply_targets =
            ReplyTargets::new(config.topic.into(), config.reply_to, client, patience);
        Self { reply_targets, drop: Arc::new(config.drop_headers) }
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
            return Ok(Addressed { target: self.reply_targets.own(), drop: None });
        }
        let target = match (self.reply_targets.of(meta).await, reply.kind) {
            (Ok(target), _) => target,
            (Err(failure), ReplyKind::Result) => return Err(failure),
            (Err(failure), _) => {
                tracing::debug!(%failure, "an error reply goes to the sink's own topic, because the target that its request names cannot be used");
                self.reply_targets.own()
            }
        };
        Ok(self.at(target))
    }

    /// Returns the sink's own topic as the target, whatever target the request names.
    pub(crate) fn to_own_topic(&self) -> Addressed {
        self.at(self.reply_targets.own())
    }

    fn at(&self, target: ReplyTarget) -> Addressed {
        Addressed { target, drop: Some(Arc::clone(&self.drop)) }
    }
}

/// Returns the request's headers without those to drop, followed by the reply's own headers. Returns
/// `None` if there are no headers.
pub(crate) fn headers(
    meta: &Meta,
    drop: Option<&DropHeaders>,
    own: &[Header],
) -> Option<OwnedHeaders> {
    let is_kept = |header: &&Header| drop.is_none_or(|drop| !drop.contains(&header.name));
    let mut headers = meta.headers.iter().filter(is_kept).chain(own).peekable();
    headers.peek()?;
    let capacity = meta.headers.len() + own.len();
    Some(headers.fold(OwnedHeaders::new_with_capacity(capacity), |headers, header| {
        headers.insert(RecordHeader { key: &header.name, value: header.value.as_deref() })
    }))
}

#[cfg(test)]
mod tests {
    use forebay_stream::{Header, Meta};
    use proptest::prelude::*;
    use rdkafka::message::Headers as _;

    use super::headers;
    use crate::DropHeaders;

    /// Generates headers. Their names have no null character, because librdkafka ends a name there.
    fn any_headers() -> impl Strategy<Value = Vec<Header>> {
        let name = prop_oneof![
            "[^\0]{0,9}",
            Just("traceparent".to_owned()),
            Just("__TypeId__".to_owned()),
            "(forebay|ce)[-_][a-z]{0,5}",
        ];
        let value = prop::option::of(any::<Vec<u8>>());
        let header =
            (name, value).prop_map(|(name, value)| Header { name, value: value.map(Into::into) });
        prop::collection::vec(header, 0..8)
    }

    fn written(meta: &Meta, drop: Option<&DropHeaders>, own: &[Header]) -> Vec<Header> {
        let headers = headers(meta, drop, own);
        let headers = headers.iter().flat_map(|headers| headers.iter()).map(|header| Header {
            name: header.key.to_owned(),
            value: header.value.map(|value| value.to_vec().into()),
        });
        headers.collect()
    }

    proptest! {
        #[test]
        fn fuzz_headers_are_passed_on_byte_for_byte_or_dropped(
            theirs in any_headers(), own in any_headers(),
        ) {
            let meta = Meta { headers: theirs.clone(), ..Meta::default() };
            prop_assert_eq!(written(&meta, None, &own), [&theirs[..], &own[..]].concat());
            let drop = DropHeaders::default();
            let kept: Vec<_> = theirs.into_iter().filter(|header| !drop.contains(&header.name)).collect();
            prop_assert_eq!(written(&meta, Some(&drop), &own), [&kept[..], &own[..]].concat());
        }
    }
}
