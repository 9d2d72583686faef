//! Hints for the mistakes that the parser finds, and its messages without the names of Rust types.

use std::ops::Range;

use toml::de::DeValue;

use crate::jq;

/// The general hint for a duration.
pub(super) const DURATION: &str = "write a number and a unit, such as \"5ms\" or \"2s\"";

/// Names that people know from other programs, and those of this one.
const OTHER_NAMES: [(&str, &str); 26] = [
    ("address", "listen"),
    ("batch_size", "max_size"),
    ("batch_size", "size"),
    ("bind", "listen"),
    ("bootstrap", "brokers"),
    ("bootstrap.servers", "brokers"),
    ("bootstrap_servers", "brokers"),
    ("broker", "brokers"),
    ("concurrency", "parallelism"),
    ("consumer_group", "group"),
    ("expression", "jq"),
    ("file", "path"),
    ("group.id", "group"),
    ("group_id", "group"),
    ("host", "listen"),
    ("max_batch_size", "max_size"),
    ("max_latency", "max_wait"),
    ("max_retries", "attempts"),
    ("port", "listen"),
    ("repo", "hub"),
    ("repository", "hub"),
    ("retries", "attempts"),
    ("servers", "brokers"),
    ("timeout", "max_wait"),
    ("topics", "topic"),
    ("workers", "parallelism"),
];

/// Rewrites a message of the parser. Returns the message and a hint.
pub(super) fn reworded(message: &str) -> (String, Option<String>) {
    if message.starts_with("wanted exactly 1 element") {
        let message = "there is more than one key here, or none".to_owned();
        return (message, Some("write exactly one key".to_owned()));
    }
    let hint = hint(message);
    let message = message
        .replace("unknown variant", "unknown name")
        .replace("a nonzero usize", "1 or more")
        .replace("a nonzero u32", "1 or more")
        .replace("a nonzero u64", "1 or more")
        .replace("expected usize", "expected a whole number from 0")
        .replace("expected u64", "expected a whole number from 0")
        .replace(" as i128", "")
        .replace(" as u128", "")
        .replace("wanted string or table", "a name is needed here, in quotes");
    (message, hint)
}

fn hint(message: &str) -> Option<String> {
    if let Some(error) = message.strip_prefix("not a jq expression: ") {
        return Some(jq::hint(error));
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        let (name, expected) = rest.split_once('`')?;
        return known_key(name, &expected.split('`').skip(1).step_by(2).collect::<Vec<_>>());
    }
    let (found, expected) = message.split_once(", expected ")?;
    let found = found.strip_prefix("invalid type: ").or(found.strip_prefix("invalid value: "))?;
    if expected == "a duration" {
        return Some(duration(found));
    }
    let text = found.strip_prefix("string \"").and_then(|text| text.strip_suffix('"'));
    match (text, expected) {
        (None, "a string") if found == "sequence" => Some(
            "write one text in quotes; brokers are separated by commas: \"a:9092,b:9092\"".into(),
        ),
        (None, "a string") => {
            let number = found.split('`').nth(1)?;
            Some(format!("put it in quotes: \"{number}\""))
        }
        (Some(text), "a sequence") => Some(format!("write a list: [\"{text}\"]")),
        (Some(text), _) => match DeValue::parse(text).ok()?.get_ref() {
            DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) => {
                Some(format!("leave out the quotes: {text}"))
            }
            _ => None,
        },
        (None, _) => None,
    }
}

/// Returns the hint for a duration without a unit.
fn duration(found: &str) -> String {
    let number = found.split(['`', '"']).nth(1).and_then(|number| number.parse::<u64>().ok());
    let Some(number) = number else { return DURATION.to_owned() };
    let millis = if number > 0 && number % 1000 == 0 {
        format!("{}s", number / 1000)
    } else {
        format!("{number}ms")
    };
    format!(
        "write a unit: \"{millis}\" for {number} milliseconds, \"{number}s\" for {number} seconds"
    )
}

fn known_key(name: &str, known: &[&str]) -> Option<String> {
    let other = OTHER_NAMES.iter().find(|(other, own)| *other == name && known.contains(own));
    let nearest = other.map(|(_, own)| *own).or_else(|| nearest(name, known));
    match nearest {
        Some(nearest) => Some(format!("did you mean `{nearest}`?")),
        None if known.contains(&"options") => Some(
            "the settings of librdkafka belong in `options`, such as `options = { \"session.timeout.ms\" = 6000 }`"
                .to_owned(),
        ),
        None => None,
    }
}

/// Returns the most similar known name, if one is similar.
pub(crate) fn nearest<'a>(name: &str, known: &[&'a str]) -> Option<&'a str> {
    let alike = |candidate: &&&str| strsim::damerau_levenshtein(name, candidate);
    known.iter().min_by_key(alike).filter(|nearest| alike(nearest) <= 2).copied()
}

/// Returns the hint for a text without quotes, which is not TOML.
pub(super) fn unquoted(text: &str, span: &Range<usize>) -> Option<String> {
    let start = text[..span.start].rfind('\n').map_or(0, |end| end + 1);
    let line = text[start..].lines().next()?;
    let before = line.get(..span.start - start).and_then(|before| before.rfind('='));
    let (left, right) = line.split_at(before.or_else(|| line.find('='))?);
    let right = right[1..].trim();
    // In an inline table the value ends before the next key.
    let value = if left.contains('{') { right.split([',', '}']).next()?.trim() } else { right };
    let key = left.rsplit(['{', ',']).next()?.trim();
    if key.is_empty()
        || value.is_empty()
        || value.starts_with(['"', '\'', '[', '{'])
        || DeValue::parse(value).is_ok()
    {
        return None;
    }
    let quote = if value.contains('"') { '\'' } else { '"' };
    Some(format!("a text is in quotes: {key} = {quote}{value}{quote}"))
}
