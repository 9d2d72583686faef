//! `Record`: the input that a source hands out, before it is decoded.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use forebay_stream::{Event, Failure, Source};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::json::Json;

/// The form of the values that a source reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// JSON.
    #[default]
    Json,
    /// UTF-8 text, which becomes a JSON string.
    Text,
    /// Any bytes, which become a JSON string in Base64.
    Bytes,
}

/// An input as a source hands it out: undecoded bytes, or a value.
#[derive(Clone, Debug)]
pub(crate) enum Record {
    /// Undecoded bytes; `None` for a Kafka record without a value.
    Bytes(Option<Bytes>),
    Value(Json),
    /// An input that cannot be read. Its request gets the failure.
    Unreadable(Failure),
}

impl Record {
    /// Makes a record of a source's event, whose value is bytes.
    pub(crate) fn from_item<E>(item: Result<Event<Option<Bytes>>, E>) -> Result<Event<Self>, E> {
        item.map(|event| event.map(Self::Bytes))
    }

    /// Returns the input's bytes; a value is encoded.
    pub(crate) fn bytes(&self) -> Option<Bytes> {
        match self {
            Self::Bytes(bytes) => bytes.clone(),
            Self::Value(value) => Some(value.to_string().into()),
            Self::Unreadable(_) => None,
        }
    }

    /// Decodes the value. Each kind of unusable input has its own failure code.
    pub(crate) fn decode(self, format: Format) -> Result<Json, Failure> {
        const EXPECTED: &str = "send a JSON value such as {\"text\": \"...\"}";
        let bytes = match self {
            Self::Value(value) => return Ok(value),
            Self::Unreadable(failure) => return Err(failure),
            Self::Bytes(bytes) => bytes,
        };
        let null =
            || Failure::new(codes::NULL_VALUE, format_args!("the record has no value; {EXPECTED}"));
        let bytes = bytes.ok_or_else(null)?;
        match format {
            Format::Json if bytes.trim_ascii().is_empty() => {
                let message = format_args!("the value is empty; {EXPECTED}");
                Err(Failure::new(codes::EMPTY_VALUE, message))
            }
            Format::Json => Json::parse(&bytes),
            Format::Text => Json::from_utf8(&bytes),
            Format::Bytes => Ok(Json::text(&BASE64_STANDARD.encode(bytes))),
        }
    }
}

/// Adapts a source of JSON values to a source of records, and ends it when `stop` is cancelled.
pub(crate) struct Until<S> {
    pub(crate) source: S,
    pub(crate) stop: CancellationToken,
}

impl<S: Source<Json>> Source<Record> for Until<S> {
    type Error = S::Error;

    async fn next(&mut self) -> Result<Option<Event<Record>>, S::Error> {
        let next = self.stop.run_until_cancelled(self.source.next()).await;
        Ok(next.transpose()?.flatten().map(|event| event.map(Record::Value)))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Format, Record};

    fn code(bytes: Option<&[u8]>) -> String {
        code_of(bytes, Format::Json)
    }

    fn code_of(bytes: Option<&[u8]>, format: Format) -> String {
        let decoded = Record::Bytes(bytes.map(Bytes::copy_from_slice)).decode(format);
        decoded.map_or_else(|failure| failure.code().to_owned(), |value| value.to_string())
    }

    #[test]
    fn each_kind_of_unusable_record_has_its_own_code() {
        assert_eq!(code(None), "null_value");
        assert_eq!(code(Some(b" \n")), "empty_value");
        assert_eq!(code(Some(b"{\"text\": \"a")), "invalid_json");
        assert_eq!(code(Some(b"\"\xff\"")), "invalid_json");
        assert_eq!(code(Some(b"1 2")), "invalid_json");
        assert_eq!(code(Some(b"NaN")), "invalid_json");
        assert_eq!(code(Some(b"null")), "null", "null is a JSON value like any other");
    }

    #[test]
    fn text_and_bytes_become_strings() {
        assert_eq!(
            code_of(Some("caf\u{e9} \"1\"".as_bytes()), Format::Text),
            "\"caf\u{e9} \\\"1\\\"\""
        );
        assert_eq!(code_of(Some(b"\xef\xbb\xbfa"), Format::Text), "\"a\"", "a byte order mark");
        assert_eq!(code_of(Some(b" "), Format::Text), "\" \"");
        assert_eq!(code_of(Some(b""), Format::Text), "\"\"");
        assert_eq!(code_of(Some(b"\xff"), Format::Text), "invalid_encoding");
        assert_eq!(code_of(Some(b"\xff\xfea\0"), Format::Text), "invalid_encoding", "UTF-16");
        assert_eq!(code_of(Some(b"\xff\x00"), Format::Bytes), "\"/wA=\"");
        for format in [Format::Text, Format::Bytes] {
            assert_eq!(code_of(None, format), "null_value");
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_give_a_value_or_a_failure(bytes: Vec<u8>) {
            for format in [Format::Json, Format::Text, Format::Bytes] {
                code_of(Some(&bytes), format);
            }
        }

        #[test]
        fn deep_nesting_is_refused(depth in 129_usize..200_000) {
            prop_assert_eq!(code(Some("[".repeat(depth).as_bytes())), "invalid_json");
        }
    }
}
