//! Extracts the text from a text model's request.

use std::fmt;

use forebay_stream::codes::MISSING_FIELD;
use forebay_stream::{Code, Failure};

use crate::codes;
use crate::jq::Jq;
use crate::json::Json;

/// Returns the text of a request: a JSON string, or the field `text` of an object. Each kind of
/// unusable request has its own failure code.
pub(crate) fn text(request: &Json) -> Result<String, Failure> {
    read(request, &"the request", &"the text", &"send {\"text\": \"...\"} or a JSON string")
}

/// Returns the text of `part`, the part of a request that the jq expression `input` has selected.
pub(crate) fn text_of_input(part: &Json, input: &Jq) -> Result<String, Failure> {
    let name = format_args!("the input `{input}`");
    read(part, &name, &name, &"it must give a string")
}

fn read(
    request: &Json,
    name: &dyn fmt::Display,
    text_name: &dyn fmt::Display,
    hint: &dyn fmt::Display,
) -> Result<String, Failure> {
    let field = match request.kind() {
        "an object" => Some(request.get("text").ok_or_else(|| {
            let message = format_args!("{name} has no field \"text\"; {hint}");
            Failure::new(MISSING_FIELD, message)
        })?),
        _ => None,
    };
    if let Some(pair) = request.get("text_pair").filter(|pair| pair.kind() != "null") {
        let message = format_args!(
            "{name} has a \"text_pair\" ({}), but models take single texts; leave it out, or join the texts",
            pair.kind()
        );
        return Err(Failure::new(codes::INVALID_VALUE, message));
    }
    let text = field.as_ref().unwrap_or(request);
    let unusable = |code: Code, kind: &str| {
        Err(Failure::new(code, format_args!("{text_name} is {kind}; {hint}")))
    };
    match (text.as_str(), text.kind()) {
        (Some(text), _) if text.trim().is_empty() => unusable(codes::EMPTY_TEXT, "empty"),
        (Some(text), _) => Ok(text.to_owned()),
        (None, "null") => unusable(codes::NULL_VALUE, "null"),
        (None, kind) => unusable(codes::INVALID_TYPE, kind),
    }
}

#[cfg(test)]
mod tests {
    use super::{text, text_of_input};
    use crate::jq::Jq;
    use crate::json::Json;

    #[test]
    fn each_kind_of_unusable_request_has_its_own_code() {
        let code = |request: &str| {
            let text = text(&Json::parse(request.as_bytes()).unwrap());
            text.map_or_else(|failure| failure.code().to_owned(), |text| format!("ok {text}"))
        };
        assert_eq!(code("{\"txt\": \"a\"}"), "missing_field");
        assert_eq!(code("{\"text\": null}"), "null_value");
        assert_eq!(code("null"), "null_value");
        assert_eq!(code("{\"text\": \" \"}"), "empty_text");
        assert_eq!(code("[\"a\"]"), "invalid_type");
        assert_eq!(code("{\"text\": \"a\", \"id\": 7}"), "ok a");
        assert_eq!(code("\"a\""), "ok a");
    }

    #[test]
    fn a_pair_of_texts_is_refused_instead_of_dropping_one_a8() {
        let read = |request: &str| text(&Json::parse(request.as_bytes()).unwrap());
        for pair in ["\"b\"", "\"\"", "[\"b\"]", "7", "false"] {
            let failure = read(&format!("{{\"text\": \"a\", \"text_pair\": {pair}}}")).unwrap_err();
            assert_eq!(failure.code(), "invalid_value", "{pair}");
            let message = failure.message();
            assert!(message.starts_with("the request has a \"text_pair\""), "{message}");
        }
        assert_eq!(read("{\"text\": \"a\", \"text_pair\": null}"), Ok("a".to_owned()));
        let input = Jq::compile(".part", &[]).unwrap();
        let part = Json::parse(b"{\"text\": \"a\", \"text_pair\": \"b\"}").unwrap();
        let failure = text_of_input(&part, &input).unwrap_err();
        assert!(
            failure.message().starts_with("the input `.part` has a \"text_pair\""),
            "{failure}"
        );
    }
}
