//! What a request looks like, and what its answer has to.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::{Value, json};

/// What is wrong with a request, if anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Good,
    /// A reply of so many bytes, which no broker takes.
    TooLarge,
    BrokenJson,
    NotUtf8,
    Null,
    WrongType,
}

impl Kind {
    /// The malformed ones that a scenario draws from.
    pub(crate) const MALFORMED: [Self; 4] =
        [Self::BrokenJson, Self::NotUtf8, Self::Null, Self::WrongType];

    /// The codes that an error reply may have; none where a result is expected.
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

const LARGE: u32 = 3_000_000;

/// The record of request `number`, as the client takes it.
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

/// The trace that a request belongs to; its answer has to as well, perhaps under another span.
fn trace(number: usize) -> String {
    format!("{:032x}", number + 1)
}

/// Which request an answer is for, if it is for one of `tag`'s.
pub(crate) fn number(tag: &str, answer: &Value) -> Option<usize> {
    answer["h"]["id"].as_str()?.strip_prefix(tag)?.parse().ok()
}

/// Whether an answer is an error reply.
pub(crate) fn is_error(answer: &Value) -> bool {
    !answer["h"]["forebay-error-code"].is_null() || is_dead_letter(answer)
}

/// Whether an answer is a dead letter.
pub(crate) fn is_dead_letter(answer: &Value) -> bool {
    !answer["h"]["forebay-dead-letter-code"].is_null()
}

/// As [`fault`], of a dead letter: the request as it was, and in headers where it lay and what was wrong with it.
pub(crate) fn fault_of_dead_letter(
    tag: &str,
    number: usize,
    key: Option<&str>,
    seq: u32,
    kind: Kind,
    place: Option<(i32, i64)>,
    letter: &Value,
) -> Option<String> {
    let request = record(tag, number, key, seq, kind);
    let headers = &letter["h"];
    // The reader takes text for UTF-8, which one kind is not.
    let same_value = kind == Kind::NotUtf8 || letter["v"] == request["v"];
    let same_headers = ["id", "kafka_correlationId", "traceparent"]
        .into_iter()
        .all(|name| headers[name] == request["h"][name]);
    let told = |name: &str| headers[format!("forebay-dead-letter-{name}")].as_str();
    // Where it lay is not known yet if the dead letter was faster than the confirmation of its request.
    let same_place = place.is_none_or(|(partition, offset)| {
        told("partition") == Some(&partition.to_string())
            && told("offset") == Some(&offset.to_string())
    });
    let right_code = told("code").is_some_and(|code| kind.codes().contains(&code));
    let right =
        letter["k"].as_str() == key && same_value && same_headers && same_place && right_code;
    (!right).then(|| {
        format!("{tag}{number} ({kind:?}, key {key:?}, at {place:?}): dead letter {letter}")
    })
}

/// Stands for an answer's key and value, whatever the tag.
pub(crate) fn digest(tag: &str, number: usize, answer: &Value) -> u64 {
    let value = answer["v"].as_str().unwrap_or_default().replace(tag, "");
    let mut hasher = DefaultHasher::new();
    (number, answer["k"].as_str(), value).hash(&mut hasher);
    hasher.finish()
}

/// What an answer has that it should not have, or the other way round.
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
    fn an_answer_that_fits_has_no_fault() {
        assert_eq!(fault("t-", 7, Some("k"), 3, Kind::Good, &answer()), None);
    }

    #[test]
    fn every_part_of_an_answer_is_looked_at() {
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
