//! Requests: the text that a value asks a text model about, each fault with a code of its own.

use forebay_stream::Failure;

use crate::json::Json;

/// The text of a request for a text model: a JSON string, or the field `text` of an object.
pub(crate) fn text(request: &Json) -> Result<String, Failure> {
    const EXPECTED: &str = "send {\"text\": \"...\"} or a JSON string";
    let field = match request.kind() {
        "an object" => Some(request.get("text").ok_or_else(|| {
            let message = format_args!("the request has no field \"text\"; {EXPECTED}");
            Failure::new("missing_field", message)
        })?),
        _ => None,
    };
    let text = field.as_ref().unwrap_or(request);
    match (text.as_str(), text.kind()) {
        (Some(text), _) if text.trim().is_empty() => {
            Err(Failure::new("empty_text", format_args!("the text is empty; {EXPECTED}")))
        }
        (Some(text), _) => Ok(text.to_owned()),
        (None, "null") => {
            Err(Failure::new("null_value", format_args!("the text is null; {EXPECTED}")))
        }
        (None, kind) => {
            Err(Failure::new("invalid_type", format_args!("the text is {kind}; {EXPECTED}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::text;
    use crate::json::Json;

    #[test]
    fn each_fault_has_a_code() {
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
}
