//! Dead letters: requests that could not be answered, written unchanged, with the failure in
//! headers.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use forebay_stream::{Failure, Header, Meta, Origin};

use crate::sink::{Reply, ReplyKind};

/// The prefix of every header of a dead letter.
const PREFIX: &str = "forebay-dead-letter-";

/// The description of a dead letter. It is written in headers, which follow the request's own
/// headers. A header's name is `forebay-dead-letter-` followed by the name that is given below for
/// its field. All values are text: numbers in decimal, times in milliseconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// `topic`, `partition` and `offset`: where the request was read.
    pub origin: Origin,
    /// `timestamp`: the timestamp of the request.
    pub timestamp: Option<SystemTime>,
    /// `stage`: the step at which the request failed.
    pub stage: String,
    /// `code`: the kind of failure, such as `invalid_json`.
    pub code: String,
    /// `message`: a description of the failure, for people.
    pub message: String,
    /// `attempts`: how often the request was tried.
    pub attempts: u32,
    /// `time`: when the request was given up.
    pub time: Option<SystemTime>,
}

impl DeadLetter {
    /// Returns the reply that writes a failed request as a dead letter: its key, value and headers
    /// byte for byte, and the failure in further headers.
    #[must_use]
    pub fn of(meta: &Meta, value: Option<Bytes>, failure: &Failure) -> Reply {
        let Origin { source, partition, position } = &meta.origin;
        let headers = [
            ("topic", Some(source.to_string())),
            ("partition", partition.map(|partition| partition.to_string())),
            ("offset", Some(position.to_string())),
            ("timestamp", meta.timestamp.and_then(millis)),
            ("stage", Some(failure.stage().to_owned())),
            ("code", Some(failure.code().to_owned())),
            ("message", Some(failure.message().to_owned())),
            ("attempts", Some(failure.attempts().to_string())),
            ("time", millis(SystemTime::now())),
        ];
        let headers = headers.into_iter().filter_map(|(name, value)| {
            Some(Header { name: format!("{PREFIX}{name}"), value: Some(value?.into()) })
        });
        Reply { value, headers: headers.collect(), kind: ReplyKind::Copy }
    }

    /// Reads the description from a record's headers. Returns `None` if they are not those of a
    /// dead letter. If several headers have the same name the last counts, so a dead letter that
    /// was replayed and failed again describes its last failure.
    #[must_use]
    pub fn read(headers: &[Header]) -> Option<Self> {
        let find = |name: &str| {
            let mut named = headers.iter().rev();
            let header = named.find(|header| header.name.strip_prefix(PREFIX) == Some(name))?;
            std::str::from_utf8(header.value.as_ref()?).ok()
        };
        let time = |name| {
            let millis = Duration::from_millis(find(name)?.parse().ok()?);
            SystemTime::UNIX_EPOCH.checked_add(millis)
        };
        let text = |name| find(name).unwrap_or_default().to_owned();
        Some(Self {
            origin: Origin {
                source: find("topic")?.into(),
                partition: find("partition").and_then(|partition| partition.parse().ok()),
                position: find("offset")?.parse().ok()?,
            },
            timestamp: time("timestamp"),
            stage: text("stage"),
            code: find("code")?.to_owned(),
            message: text("message"),
            attempts: find("attempts").and_then(|attempts| attempts.parse().ok()).unwrap_or(1),
            time: time("time"),
        })
    }

    /// Returns the headers that the request itself had.
    #[must_use]
    pub fn original_headers(headers: Vec<Header>) -> Vec<Header> {
        headers.into_iter().filter(|header| !header.name.starts_with(PREFIX)).collect()
    }
}

fn millis(time: SystemTime) -> Option<String> {
    Some(time.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_millis().to_string())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use forebay_stream::{Failure, Header, Meta, Origin};
    use proptest::prelude::*;

    use super::DeadLetter;

    fn header(name: &str, value: &[u8]) -> Header {
        Header { name: name.to_owned(), value: Some(value.to_vec().into()) }
    }

    proptest! {
        #[test]
        fn fuzz_a_dead_letter_is_read_back_and_its_request_is_unchanged(
            topic in "[a-z]{1,9}", partition in 0..9_i32, position: u32, millis: u32, code in "[a-z_]{1,9}",
            message: String, value: Option<Vec<u8>>,
        ) {
            let timestamp = SystemTime::UNIX_EPOCH + Duration::from_millis(millis.into());
            let meta = Meta {
                origin: Origin { source: topic.into(), partition: Some(partition), position: position.into() },
                timestamp: Some(timestamp),
                headers: vec![header("id", b"\xff"), Header { name: "null".into(), value: None }],
                ..Meta::default()
            };
            let failure = Failure::new(code.clone(), &message).at("decode");
            let record = DeadLetter::of(&meta, value.clone().map(Into::into), &failure);
            let all: Vec<_> = meta.headers.iter().cloned().chain(record.headers).collect();
            let letter = DeadLetter::read(&all).unwrap();
            prop_assert_eq!(&letter.origin, &meta.origin);
            prop_assert_eq!((letter.timestamp, letter.attempts), (Some(timestamp), 1));
            prop_assert_eq!((letter.code, letter.message, letter.stage.as_str()), (code, message, "decode"));
            prop_assert!(letter.time.is_some());
            prop_assert_eq!(record.value.map(|value| value.to_vec()), value);
            prop_assert_eq!(DeadLetter::original_headers(all), meta.headers);
        }

        #[test]
        fn fuzz_dead_letter_headers_with_any_values_are_read_or_refused(values: [Option<Vec<u8>>; 9], numbers: [u64; 9], text: [bool; 9]) {
            let names =
                ["topic", "partition", "offset", "timestamp", "stage", "code", "message", "attempts", "time"];
            let values = values.into_iter().zip(numbers).zip(text).map(|((value, number), text)| {
                if text { Some(number.to_string().into_bytes()) } else { value }
            });
            let headers: Vec<_> = names.into_iter().zip(values).map(|(name, value)| Header {
                name: format!("forebay-dead-letter-{name}"), value: value.map(Into::into),
            }).collect();
            let utf8 = |number: usize| {
                headers[number].value.as_ref().is_some_and(|value| std::str::from_utf8(value).is_ok())
            };
            let whole = utf8(0) && utf8(5) && headers[2].value.as_ref().is_some_and(|value| {
                std::str::from_utf8(value).is_ok_and(|offset| offset.parse::<u64>().is_ok())
            });
            prop_assert_eq!(DeadLetter::read(&headers).is_some(), whole);
        }

        #[test]
        fn fuzz_any_headers_are_a_dead_letter_or_none(headers: Vec<(String, Option<Vec<u8>>)>) {
            let headers: Vec<_> = headers.into_iter().map(|(name, value)| Header {
                name: format!("forebay-dead-letter-{name}"), value: value.map(Into::into),
            }).collect();
            let _ = DeadLetter::read(&headers);
            prop_assert!(DeadLetter::original_headers(headers).is_empty());
        }
    }
}
