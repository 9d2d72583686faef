//! `Answer`: the result or the error for one request.

use bytes::Bytes;
use forebay_kafka::{Reply, ReplyKind};
use forebay_stream::{Failure, Header};
use serde_json::json;

use crate::json::Json;

/// The header of an error reply that holds the failure's code.
pub(crate) const ERROR_CODE_HEADER: &str = "forebay-error-code";

/// The pipeline's outcome for one request, encoded as a sink writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Answer {
    /// JSON without a newline. An error is `{"error": {"code": .., "message": .., "stage": ..}}`.
    pub value: Bytes,
    /// The failure's code, if the answer is an error.
    pub error: Option<String>,
}

impl Answer {
    pub(crate) fn result(value: &Json) -> Result<Self, Failure> {
        Ok(Self { value: value.to_bytes()?, error: None })
    }

    pub(crate) fn is_error(&self) -> bool {
        self.error.is_some()
    }

    pub(crate) fn failure(failure: &Failure) -> Self {
        let code = failure.code();
        let message = failure.message();
        let stage = failure.stage();
        let value = json!({"error": {"code": code, "message": message, "stage": stage}});
        Self { value: value.to_string().into(), error: Some(code.to_owned()) }
    }
}

/// Describes a failure as a JSON object, which `on_error` puts beside the fallback.
pub(crate) fn error(failure: &Failure) -> Json {
    let field = |name: &str, text: &str| (name.to_owned(), Json::text(text));
    Json::object([field("code", failure.code()), field("message", failure.message())])
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        let header =
            |code: String| Header { name: ERROR_CODE_HEADER.to_owned(), value: Some(code.into()) };
        let kind = if answer.error.is_some() { ReplyKind::Error } else { ReplyKind::Result };
        let headers = answer.error.map(header).into_iter().collect();
        Self { value: Some(answer.value), headers, kind }
    }
}

#[cfg(test)]
mod tests {
    use forebay_kafka::{Reply, ReplyKind};
    use forebay_stream::Failure;

    use super::Answer;

    #[test]
    fn an_error_reply_describes_the_failure_in_its_value_and_a_header() {
        let reply =
            Reply::from(Answer::failure(&Failure::new("invalid_json", "a \"quote\"").at("decode")));
        assert_eq!(
            reply.value.as_deref(),
            Some(
                br#"{"error":{"code":"invalid_json","message":"a \"quote\"","stage":"decode"}}"#
                    .as_slice()
            )
        );
        let header = &reply.headers[0];
        assert_eq!(
            (header.name.as_str(), header.value.as_deref()),
            ("forebay-error-code", Some(&b"invalid_json"[..]))
        );
        assert_eq!(
            reply.kind,
            ReplyKind::Error,
            "the sink has to recognise an error reply, to write it to its own topic if the topic that the request names cannot be used"
        );
        let result = Answer { value: "1".into(), error: None };
        assert_eq!(Reply::from(result).kind, ReplyKind::Result);
    }
}
