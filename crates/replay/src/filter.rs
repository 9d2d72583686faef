//! `LetterFilter`: selects the dead letters to replay, by a jq expression.

use std::str::FromStr;
use std::time::SystemTime;

use bytes::Bytes;
use forebay_pipeline::{Json, Predicate};
use forebay_stream::Failure;

use crate::Letter;

/// A compiled jq expression over the metadata and value of a dead letter.
///
/// `.` is an object of `topic`, `partition`, `offset`, `code`, `stage`, `message`, `attempts`,
/// `time` (seconds since 1970, as in jq's `now`), `key` (a string), and `value` (the parsed JSON,
/// or a string if it is not JSON). Absent fields are null.
#[derive(Clone, Debug)]
pub struct LetterFilter(Predicate);

impl LetterFilter {
    /// Returns whether the filter selects the letter: whether the expression's result is anything
    /// but `false` and `null`.
    ///
    /// # Errors
    ///
    /// Fails with `jq_error` if the expression fails, and with `jq_results` if it does not give
    /// exactly one result.
    pub fn passes(&self, letter: &Letter) -> Result<bool, Failure> {
        self.0.holds(&describe(letter))
    }
}

impl FromStr for LetterFilter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

fn describe(letter: &Letter) -> Json {
    let about = &letter.about;
    let time = about.time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    let value =
        letter.value.as_ref().map(|value| Json::parse(value).unwrap_or_else(|_| text(value)));
    let partition = about.origin.partition.and_then(|partition| u64::try_from(partition).ok());
    let fields = [
        ("topic", Some(Json::text(&about.origin.source))),
        ("partition", partition.map(Json::from)),
        ("offset", Some(Json::from(about.origin.position))),
        ("code", Some(Json::text(&about.code))),
        ("stage", Some(Json::text(&about.stage))),
        ("message", Some(Json::text(&about.message))),
        ("attempts", Some(Json::from(u64::from(about.attempts)))),
        ("time", time.map(|time| Json::from(time.as_secs_f64()))),
        ("key", letter.key.as_ref().map(text)),
        ("value", value),
    ];
    let fields = fields.map(|(name, value)| (name.to_owned(), value.unwrap_or_default()));
    Json::object(fields)
}

fn text(bytes: &Bytes) -> Json {
    Json::text(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use bytes::Bytes;
    use forebay_kafka::DeadLetter;
    use forebay_stream::Origin;
    use proptest::prelude::*;

    use super::{LetterFilter, describe};
    use crate::Letter;

    fn letter(key: Option<&[u8]>, value: Option<&[u8]>) -> Letter {
        let origin =
            |source: &str| Origin { source: source.into(), partition: Some(3), position: 1042 };
        let copy = |bytes: Option<&[u8]>| bytes.map(Bytes::copy_from_slice);
        let about = DeadLetter {
            origin: origin("requests"),
            timestamp: None,
            stage: "score".to_owned(),
            code: "device_failed".to_owned(),
            message: "no memory".to_owned(),
            attempts: 3,
            time: Some(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500)),
        };
        let key = copy(key);
        let value = copy(value);
        Letter { about, key, value, headers: Vec::new(), at: origin("letters") }
    }

    #[test]
    fn an_expression_sees_the_metadata_and_value_of_a_letter() {
        assert_eq!(
            describe(&letter(Some(b"k\xff"), Some(b"{\"n\": 1}"))).to_string(),
            "{\"topic\":\"requests\",\"partition\":3,\"offset\":1042,\"code\":\"device_failed\",\
             \"stage\":\"score\",\"message\":\"no memory\",\"attempts\":3,\"time\":1.5,\
             \"key\":\"k\u{fffd}\",\"value\":{\"n\":1}}"
        );
        let bare = describe(&letter(None, Some(b"no json"))).to_string();
        assert!(bare.ends_with("\"key\":null,\"value\":\"no json\"}"), "{bare}");
    }

    #[test]
    fn an_expression_selects_letters() {
        let passes = |text: &str| {
            let filter: LetterFilter = text.parse().unwrap();
            filter.passes(&letter(None, Some(b"{\"n\": 1}")))
        };
        assert!(passes(".code | startswith(\"device\")").unwrap());
        assert!(!passes(".value.n > 1").unwrap());
        assert!(passes("now - .time > 3600").unwrap());
        assert_eq!(passes(".value.n.m").unwrap_err().code(), "jq_error");
        let error = ".value |".parse::<LetterFilter>().unwrap_err();
        assert_eq!(error, "not a jq expression: expected term at the end");
    }

    proptest! {
        #[test]
        fn fuzz_any_letter_is_described(key: Option<Vec<u8>>, value: Option<Vec<u8>>) {
            describe(&letter(key.as_deref(), value.as_deref()));
        }
    }
}
