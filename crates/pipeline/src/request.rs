//! Requests: bytes in, JSON values out, each fault with a code of its own.

use bytes::Bytes;
use forebay_stream::Failure;
use serde_json::Value;

/// Parses a record's value.
pub(crate) fn decode(value: Option<&Bytes>) -> Result<Value, Failure> {
    let bytes = value.ok_or_else(|| {
        Failure::new(
            "null_value",
            "the record has no value; send a JSON value such as {\"text\": \"...\"}",
        )
    })?;
    if bytes.trim_ascii().is_empty() {
        return Err(Failure::new(
            "empty_value",
            "the value is empty; send a JSON value such as {\"text\": \"...\"}",
        ));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        Failure::new("invalid_json", format_args!("the value is not JSON: {error}"))
    })
}

/// The text of a request for a text model: a JSON string, or the field `text` of an object.
pub(crate) fn text(request: &Value) -> Result<String, Failure> {
    const EXPECTED: &str = "send {\"text\": \"...\"} or a JSON string";
    let text = match request {
        Value::Object(fields) => fields.get("text").ok_or_else(|| {
            Failure::new(
                "missing_field",
                format_args!("the request has no field \"text\"; {EXPECTED}"),
            )
        })?,
        other => other,
    };
    match text {
        Value::String(text) if text.trim().is_empty() => {
            Err(Failure::new("empty_text", format_args!("the text is empty; {EXPECTED}")))
        }
        Value::String(text) => Ok(text.clone()),
        Value::Null => {
            Err(Failure::new("null_value", format_args!("the text is null; {EXPECTED}")))
        }
        other => {
            let kind = kind(other);
            Err(Failure::new("invalid_type", format_args!("the text is {kind}; {EXPECTED}")))
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{decode, text};

    fn code(bytes: Option<&[u8]>) -> String {
        let value = bytes.map(Bytes::copy_from_slice);
        let request = decode(value.as_ref()).and_then(|request| text(&request));
        request.map_or_else(|failure| failure.code().to_owned(), |text| format!("ok {text}"))
    }

    #[test]
    fn each_fault_has_a_code() {
        assert_eq!(code(None), "null_value");
        assert_eq!(code(Some(b" \n")), "empty_value");
        assert_eq!(code(Some(b"{\"text\": \"a")), "invalid_json");
        assert_eq!(code(Some(b"\"\xff\"")), "invalid_json");
        assert_eq!(code(Some(b"{\"txt\": \"a\"}")), "missing_field");
        assert_eq!(code(Some(b"{\"text\": null}")), "null_value");
        assert_eq!(code(Some(b"null")), "null_value");
        assert_eq!(code(Some(b"{\"text\": \" \"}")), "empty_text");
        assert_eq!(code(Some(b"[\"a\"]")), "invalid_type");
        assert_eq!(code(Some(b"{\"text\": \"a\", \"id\": 7}")), "ok a");
        assert_eq!(code(Some(b"\"a\"")), "ok a");
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_text_or_a_failure(bytes: Vec<u8>) {
            code(Some(&bytes));
        }

        #[test]
        fn deep_nesting_is_refused_rather_than_followed(depth in 1_usize..200_000) {
            code(Some("[".repeat(depth).as_bytes()));
        }
    }
}
