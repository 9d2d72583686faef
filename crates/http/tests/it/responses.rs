//! Tests that the outcome of an event determines the response.

use forebay_stream::Failure;
use serde_json::{Value, json};

use crate::support::{error_reply, open, reply};

#[tokio::test]
async fn a_request_that_is_done_without_a_reply_gets_no_content() {
    let response = open().await.answer(&[]).await;
    assert_eq!((response.status, response.body.as_str()), (204, ""));
}

#[tokio::test]
async fn a_single_reply_is_the_body() {
    let response = open().await.answer(&[reply(r#"{"label":"good"}"#)]).await;
    assert_eq!((response.status, response.body.as_str()), (200, r#"{"label":"good"}"#));
    assert_eq!(response.header("content-type"), Some("application/json"));
}

#[tokio::test]
async fn several_replies_become_lines_of_the_body_in_the_order_sent() {
    let response = open().await.answer(&[reply("2"), reply("{\n\"a\": 1\r\n}"), reply("3")]).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.body, "2\n{ \"a\": 1  }\n3\n");
    assert_eq!(response.header("content-type"), Some("application/x-ndjson"));
}

#[tokio::test]
async fn an_error_among_the_replies_makes_the_status_422() {
    let mut open = open().await;
    let response = open.answer(&[error_reply("{}")]).await;
    assert_eq!((response.status, response.body.as_str()), (422, "{}"));
    let response = open.answer(&[reply("1"), error_reply("{}"), reply("2")]).await;
    assert_eq!((response.status, response.body.as_str()), (422, "1\n{}\n2\n"));
}

#[tokio::test]
async fn a_failed_request_gets_its_failure_instead_of_its_replies() {
    let mut open = open().await;
    let response = open.post("{}");
    let event = open.next().await;
    let answer = event.derive(reply("1"));
    forebay_stream::Sink::send(&mut open.replies, answer).await.unwrap();
    event.receipt.fail(Failure::new("invalid_json", "a \"quote\"").at("decode"));

    let response = response.await.unwrap();
    assert_eq!(response.status, 422);
    assert_eq!(response.header("content-type"), Some("application/json"));
    let error = json!({"code": "invalid_json", "message": "a \"quote\"", "stage": "decode"});
    let body: Value = serde_json::from_str(&response.body).unwrap();
    assert_eq!(body, json!({ "error": error }));
}

#[tokio::test]
async fn an_abandoned_request_gets_503_with_retry_after() {
    let mut open = open().await;
    let response = open.post("{}");
    drop(open.next().await);
    let response = response.await.unwrap();
    assert_eq!((response.status, response.code().as_str()), (503, "unavailable"));
    assert_eq!(response.header("retry-after"), Some("1"));
}
