//! Continues the trace of a request in its reply, as W3C's Trace Context specifies.
//!
//! The header `traceparent` is `00-<trace id>-<parent id>-<flags>` in lower-case hexadecimal, of
//! 16, 8 and 1 bytes; see <https://www.w3.org/TR/trace-context/#traceparent-header>. `tracestate`
//! is passed on unchanged, because Forebay has no entry in it.

use std::hash::{BuildHasher as _, RandomState};

use forebay_stream::Header;

/// The header that names a trace and the span that sent a request. OpenTelemetry writes it to Kafka
/// in lower case.
pub(super) const TRACEPARENT: &str = "traceparent";

/// Generates the ids of the spans in which requests are answered.
pub(super) struct Spans {
    random: RandomState,
    made: u64,
}

impl Spans {
    pub(super) fn new() -> Self {
        Self { random: RandomState::new(), made: 0 }
    }

    /// Returns a random id that is not zero.
    fn next(&mut self) -> u64 {
        loop {
            self.made = self.made.wrapping_add(1);
            let id = self.random.hash_one(self.made);
            if id != 0 {
                return id;
            }
        }
    }

    /// Returns the `traceparent` of a reply to a request with these headers: the same trace and
    /// flags, and a new span id. Returns `None` if the request has no `traceparent`, several, or an
    /// invalid one; its headers are then passed on unchanged.
    pub(super) fn continued(&mut self, headers: &[Header]) -> Option<String> {
        let mut all = headers.iter().filter(|header| header.name == TRACEPARENT);
        let (Some(only), None) = (all.next(), all.next()) else { return None };
        let Traceparent { trace_id, parent_id, flags } = Traceparent::parse(only.value.as_ref()?)?;
        let span_id = format!("{:016x}", self.next());
        tracing::debug!(trace_id, parent_id, span_id, "a reply continues the trace of its request");
        Some(format!("00-{trace_id}-{span_id}-{flags:02x}"))
    }
}

/// The fields of a `traceparent`.
#[derive(Debug, PartialEq, Eq)]
struct Traceparent<'a> {
    trace_id: &'a str,
    parent_id: &'a str,
    flags: u8,
}

impl<'a> Traceparent<'a> {
    /// Reads version 00, and the known fields of later versions. Clears all flags except `sampled`
    /// and, in version 00, `random`, which says that the trace id is random. The specification
    /// requires unknown flags to be zero.
    fn parse(value: &'a [u8]) -> Option<Self> {
        const LENGTH: usize = 55;
        const SAMPLED: u8 = 1;
        const RANDOM: u8 = 2;
        let text = std::str::from_utf8(value).ok()?;
        let (known, rest) = text.split_at_checked(LENGTH)?;
        let mut parts = known.split('-');
        let mut part = |length| parts.next().filter(|part| is_hex(part, length));
        let version = part(2)?;
        let trace_id = part(32)?;
        let parent_id = part(16)?;
        let flags = part(2)?;
        let is_known = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_zero = |id: &str| id.bytes().all(|digit| digit == b'0');
        if !is_known || is_zero(trace_id) || is_zero(parent_id) {
            return None;
        }
        let meant = if version == "00" { SAMPLED | RANDOM } else { SAMPLED };
        let flags = u8::from_str_radix(flags, 16).ok()? & meant;
        Some(Self { trace_id, parent_id, flags })
    }
}

/// Whether `text` has `length` lower-case hexadecimal digits; upper case is invalid.
fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use forebay_stream::Header;
    use proptest::prelude::*;

    use super::{Spans, Traceparent};

    /// The example in the specification.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn continued(values: &[&str]) -> Option<String> {
        let header = |value: &&str| Header {
            name: "traceparent".to_owned(),
            value: Some(value.as_bytes().to_vec().into()),
        };
        Spans::new().continued(&values.iter().map(header).collect::<Vec<_>>())
    }

    fn flags(value: &str) -> Option<u8> {
        Traceparent::parse(value.as_bytes()).map(|parent| parent.flags)
    }

    #[test]
    fn a_reply_belongs_to_the_same_trace_and_has_a_new_span() {
        for flags in ["00", "01", "02", "03"] {
            let request = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
            let reply = continued(&[&request]).unwrap();
            let parent = Traceparent::parse(reply.as_bytes()).unwrap();
            assert_eq!(parent.trace_id, TRACE);
            assert_ne!(parent.parent_id, "b7ad6b7169203331");
            assert!(reply.ends_with(&format!("-{flags}")), "{reply}");
        }
    }

    #[test]
    fn span_ids_differ() {
        let mut spans = Spans::new();
        let ids: HashSet<u64> = (0..10_000).map(|_| spans.next()).collect();
        assert_eq!(ids.len(), 10_000);
        assert_ne!(Spans::new().next(), Spans::new().next(), "two sinks generate different ids");
    }

    #[test]
    fn an_invalid_traceparent_is_not_continued() {
        let invalid = [
            "",
            "00",
            &EXAMPLE[..54],
            &format!("{EXAMPLE}-"),
            &format!("{EXAMPLE}-what"),
            &format!(" {EXAMPLE}"),
            &format!("{EXAMPLE}\n"),
            &EXAMPLE.to_uppercase(),
            &EXAMPLE.replace('-', "_"),
            &EXAMPLE.replace("00-", "ff-"),
            &EXAMPLE.replace("00-", "0x-"),
            &EXAMPLE.replace(TRACE, &"0".repeat(32)),
            &EXAMPLE.replace(TRACE, &"g".repeat(32)),
            &EXAMPLE.replace("b7ad6b7169203331", &"0".repeat(16)),
            &EXAMPLE.replace("-01", "-.1"),
            &EXAMPLE.replace("-01", "--1"),
            &EXAMPLE.replace("0af7", "\u{20ac}7"),
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b71692033310-1",
        ];
        for value in invalid {
            assert_eq!(continued(&[value]), None, "{value:?}");
        }
        assert_eq!(continued(&[]), None);
        assert_eq!(continued(&[EXAMPLE, EXAMPLE]), None, "there must be exactly one");
    }

    #[test]
    fn a_later_version_is_continued_in_version_00() {
        let longer = format!("{}-more-to-come", EXAMPLE.replace("00-", "cc-"));
        for value in [EXAMPLE.replace("00-", "01-"), longer] {
            let reply = continued(&[&value]).unwrap();
            assert!(
                reply.starts_with(&format!("00-{TRACE}-")) && reply.ends_with("-01"),
                "{reply}"
            );
        }
        assert_eq!(continued(&[&EXAMPLE.replace("00-", "cc-").replace("-01", "-01.what")]), None);
    }

    #[test]
    fn unknown_flags_are_cleared() {
        assert_eq!(flags(&EXAMPLE.replace("-01", "-ff")), Some(3));
        assert_eq!(flags(&EXAMPLE.replace("00-", "cc-").replace("-01", "-ff")), Some(1));
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_read_or_refused(value: Vec<u8>) {
            Traceparent::parse(&value);
        }

        #[test]
        fn fuzz_any_almost_valid_traceparent_is_read_or_refused(value in "[0-9a-f]{2}-[0-9a-fA-F]{31,33}-[0-9a-f\u{20ac}]{15,17}-[0-9a-f]{1,3}") {
            Traceparent::parse(value.as_bytes());
        }
    }
}
