//! The format of requests, and the format that their answers must have.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

/// The kind of a request: good, or malformed in one of several ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// Its reply is larger than the brokers allow.
    TooLarge,
    BrokenJson,
    NotUtf8,
    Null,
    WrongType,
}

impl Kind {
    /// The malformed kinds that scenarios draw from.
    pub(crate) const MALFORMED: [Self; 4] =
        [Self::BrokenJson, Self::NotUtf8, Self::Null, Self::WrongType];

    /// Returns the error codes that the answer may have; none if a result is expected.
    fn codes(self) -> &'static [&'static str] {
        match self {
            Self::Good => &[],
            Self::TooLarge => &["reply_too_large", "delivery_failed"],
            Self::BrokenJson | Self::NotUtf8 => &["invalid_json"],
            Self::Null => &["null_value"],
            Self::WrongType => &["jq_error"],
        }
    }
}

/// Size of the padding of a reply that is too large, in bytes.
const LARGE: u32 = 3_000_000;

/// Returns the record of request `number`, for the client's `produce` command.
pub(crate) fn record(tag: &str, number: usize, key: Option<&str>, seq: u32, kind: Kind) -> Value {
    let id = format!("{tag}{number}");
    let mut value = json!({"id": id, "seq": seq, "n": number});
    let text = match kind {
        Kind::Good => Some(value.to_string()),
        Kind::TooLarge => {
            value["pad"] = LARGE.into();
            Some(value.to_string())
        }
        Kind::BrokenJson => Some(format!("{{\"id\": \"{id}\", ")),
        Kind::NotUtf8 => Some(format!("{{\"id\": \"{id}\", \"text\": \"\u{ff}\u{fe}\"}}")),
        Kind::Null => None,
        Kind::WrongType => {
            value["n"] = "seven".into();
            Some(value.to_string())
        }
    };
    json!({"i": number, "k": key, "v": text, "h": {
        "id": id,
        "kafka_correlationId": id,
        "traceparent": format!("00-{}-{:016x}-01", trace(number), number + 1),
    }})
}

/// Returns the trace id of a request. Its answer belongs to the same trace; the span id may differ.
fn trace(number: usize) -> String {
    format!("{:032x}", number + 1)
}

/// Returns the number of the request that an answer belongs to; `None` if its id lacks the prefix
/// `tag`.
pub(crate) fn number(tag: &str, answer: &Value) -> Option<usize> {
    answer["h"]["id"].as_str()?.strip_prefix(tag)?.parse().ok()
}

/// Returns whether an answer is an error reply or a dead letter.
pub(crate) fn is_error(answer: &Value) -> bool {
    !answer["h"]["forebay-error-code"].is_null() || is_dead_letter(answer)
}

/// Returns whether an answer is a dead letter.
pub(crate) fn is_dead_letter(answer: &Value) -> bool {
    !answer["h"]["forebay-dead-letter-code"].is_null()
}

/// Returns what is wrong with a dead letter, if anything. It must be the unchanged request, with
/// its origin and error code in headers.
pub(crate) fn fault_of_dead_letter(
    tag: &str,
    number: usize,
    key: Option<&str>,
    seq: u32,
    kind: Kind,
    origin: Option<(i32, i64)>,
    letter: &Value,
) -> Option<String> {
    let request = record(tag, number, key, seq, kind);
    let headers = &letter["h"];
    // The Java client decodes values as UTF-8, so the value of `NotUtf8` cannot be compared.
    let same_value = kind == Kind::NotUtf8 || letter["v"] == request["v"];
    let same_headers = ["id", "kafka_correlationId", "traceparent"]
        .into_iter()
        .all(|name| headers[name] == request["h"][name]);
    let header = |name: &str| headers[format!("forebay-dead-letter-{name}")].as_str();
    // The origin is unknown if the dead letter came before the confirmation of its request.
    let same_origin = origin.is_none_or(|(partition, offset)| {
        header("partition") == Some(&partition.to_string())
            && header("offset") == Some(&offset.to_string())
    });
    let right_code = header("code").is_some_and(|code| kind.codes().contains(&code));
    let right =
        letter["k"].as_str() == key && same_value && same_headers && same_origin && right_code;
    (!right).then(|| {
        format!("{tag}{number} ({kind:?}, key {key:?}, at {origin:?}): wrong dead letter {letter}")
    })
}

/// Returns a hash of an answer's request number, key and value, which does not depend on `tag`.
pub(crate) fn digest(tag: &str, number: usize, answer: &Value) -> u64 {
    let value = answer["v"].as_str().unwrap_or_default().replace(tag, "");
    let mut hasher = DefaultHasher::new();
    (number, answer["k"].as_str(), value).hash(&mut hasher);
    hasher.finish()
}

/// Returns what is wrong with a result or an error reply, if anything.
pub(crate) fn fault(
    tag: &str,
    number: usize,
    key: Option<&str>,
    seq: u32,
    kind: Kind,
    answer: &Value,
) -> Option<String> {
    let id = format!("{tag}{number}");
    let headers = &answer["h"];
    if answer["k"].as_str() != key {
        return Some(format!("{id}: key {} instead of {key:?}", answer["k"]));
    }
    if answer["home"].is_i64() && answer["home"] != answer["p"] {
        return Some(format!("{id}: in partition {} instead of {}", answer["p"], answer["home"]));
    }
    if headers["kafka_correlationId"] != id.as_str() {
        return Some(format!("{id}: correlation id {}", headers["kafka_correlationId"]));
    }
    if headers["traceparent"].as_str().and_then(|header| header.split('-').nth(1))
        != Some(&trace(number))
    {
        return Some(format!("{id}: traceparent {}", headers["traceparent"]));
    }
    let value: Value = match serde_json::from_str(answer["v"].as_str().unwrap_or_default()) {
        Ok(value) => value,
        Err(error) => return Some(format!("{id}: {error} in {}", answer["v"])),
    };
    let code = headers["forebay-error-code"].as_str();
    let expected = json!({"id": id, "seq": seq, "n": number, "twice": 2 * number});
    match (kind.codes(), code) {
        ([], None) if value == expected => None,
        (codes, Some(code)) if codes.contains(&code) && value["error"]["code"] == code => None,
        _ => Some(format!("{id} ({kind:?}, key {key:?}): answered by {value} {code:?}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Kind, fault, record};

    fn answer() -> Value {
        let mut answer = record("t-", 7, Some("k"), 3, Kind::Good);
        answer["v"] = json!({"id": "t-7", "seq": 3, "n": 7, "twice": 14}).to_string().into();
        answer["p"] = 2.into();
        answer["home"] = 2.into();
        answer
    }

    #[test]
    fn the_right_answer_has_no_fault() {
        assert_eq!(fault("t-", 7, Some("k"), 3, Kind::Good, &answer()), None);
    }

    #[test]
    fn a_wrong_part_of_an_answer_is_a_fault() {
        for (pointer, wrong) in [
            ("/k", json!("other")),
            ("/p", json!(1)),
            ("/h/kafka_correlationId", json!("t-8")),
            ("/h/traceparent", json!("00-00000000000000000000000000000001-0000000000000001-01")),
            ("/v", json!("{\"id\": \"t-7\", \"seq\": 3, \"n\": 7, \"twice\": 16}")),
            ("/v", Value::Null),
            ("/h/forebay-error-code", json!("internal")),
        ] {
            let mut answer = answer();
            match answer.pointer_mut(pointer) {
                Some(part) => *part = wrong,
                None => answer["h"]["forebay-error-code"] = wrong,
            }
            assert!(fault("t-", 7, Some("k"), 3, Kind::Good, &answer).is_some(), "{pointer}");
        }
        assert!(
            fault("t-", 7, Some("k"), 3, Kind::Null, &answer()).is_some(),
            "a result for a null"
        );
    }
}
