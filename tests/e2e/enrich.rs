//! Enrichment: the reply is the request with a model's result added.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::binary::{Service, forebay, output};
use crate::broker::Broker;
use crate::clients::{Reply, Request, lag, produce, produce_with, read_replies};
use crate::replay::records;

/// A pipeline with two models, one after the other, each with its own window.
const TWO_MODELS: &str = r#"
[source.kafka]
brokers = "${KAFKA_BROKERS}"
topic = "${REQUESTS_TOPIC}"
group = "${CONSUMER_GROUP}"
[[step]]
adaptive_window = { max_size = 64 }
[[step]]
map_batch = { model = "first", input = ".review.title", output = ".review.title_sentiment" }
[[step]]
timed_window = { interval = "5ms", max_size = 16 }
[[step]]
map_batch = { model = "second", input = ".review.sentences", output = '.["per sentence"]' }
[sink.kafka]
topic = "${REPLIES_TOPIC}"
[model.first]
path = "models/sentiment"
device = "cpu"
[model.second]
path = "models/sentiment"
device = "cpu"
"#;

/// Returns a record that many JSON parsers do not keep unchanged: it has an integer of more than 64
/// bits, decimals in unusual notation, and unsorted fields.
fn review(number: usize, body: &str) -> String {
    format!(
        r#"{{"z":{number},"id":18446744073709551617,"stars":4.50,"review":{{"body":"{body}","lang":"日本"}},"a":null,"\u00fc":[1e2]}}"#
    )
}

/// Returns the start of the reply to `review`: all fields of the request, and the name of the field
/// that is added after them.
fn untouched(number: usize, body: &str) -> String {
    let review = review(number, body).replace("\\u00fc", "ü");
    format!("{},\"sentiment\":", review.strip_suffix('}').unwrap())
}

fn request(number: usize, value: String) -> Request {
    let key = Some(format!("user-{}", number % 7).into_bytes());
    Request { id: format!("id-{number}"), key, value: Some(value.into_bytes()) }
}

fn body(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "a wonderful film" } else { "dull and far too long" }
}

fn label(number: usize) -> &'static str {
    if number.is_multiple_of(2) { "positive" } else { "negative" }
}

fn only<'a>(replies: &'a HashMap<String, Vec<Reply>>, request: &Request) -> &'a Reply {
    let [reply] = replies[&request.id].as_slice() else {
        panic!("not one reply: {:?}", replies[&request.id])
    };
    assert_eq!(reply.key, request.key);
    assert_eq!(reply.header("sender"), Some(b"\x00\xff".as_slice()));
    reply
}

#[test]
fn every_reply_is_its_request_with_the_sentiment_added_at_the_end() {
    let broker = Broker::start("enrich");
    let service =
        Service::start(forebay().args(["run", "config/enrich.toml"]).envs(broker.variables()));
    let mut requests: Vec<_> =
        (0..300).map(|number| request(number, review(number, body(number)))).collect();
    requests[7].value = Some(b"{\"review\": {\"stars\": 1}}".to_vec());
    requests[8].value = Some(b"{\"review\": {\"body\": \"cut o".to_vec());
    requests[9].value = Some(b"{\"review\": \"a wonderful film\"}".to_vec());
    produce(&broker, &requests, 4);
    let replies = read_replies(&broker, &requests);
    service.stop();
    assert_eq!(lag(&broker), 0);

    for (number, request) in requests.iter().enumerate() {
        let reply = only(&replies, request);
        let code = match number {
            7 => "null_value",
            8 => "invalid_json",
            9 => "jq_error",
            _ => {
                let sentiment = reply.raw.strip_prefix(&untouched(number, body(number)));
                let sentiment = sentiment.unwrap_or_else(|| panic!("{}", reply.raw));
                let prefix = format!("{{\"label\":\"{}\",\"score\":", label(number));
                assert!(sentiment.starts_with(&prefix), "{}", reply.raw);
                continue;
            }
        };
        assert_eq!(reply.code(), code, "{reply:?}");
        assert_eq!(reply.header("forebay-error-code"), Some(code.as_bytes()));
    }
}

#[test]
fn two_models_add_a_result_and_an_array_of_results_to_one_record() {
    let broker = Broker::start("two-models");
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TWO_MODELS).unwrap();
    let mut command = forebay();
    let service = Service::start(command.arg("run").arg(file.path()).envs(broker.variables()));
    let value = |number: usize| {
        let (body, other) = (body(number), body(number + 1));
        format!(r#"{{"review":{{"title":"{body}","sentences":["{other}","{body}"]}}}}"#)
    };
    let requests: Vec<_> = (0..100).map(|number| request(number, value(number))).collect();
    produce(&broker, &requests, 2);
    let replies = read_replies(&broker, &requests);
    service.stop();
    for (number, request) in requests.iter().enumerate() {
        let reply = &only(&replies, request).value;
        assert_eq!(reply["review"]["title_sentiment"]["label"], label(number), "{reply}");
        assert_eq!(reply["per sentence"][0]["label"], label(number + 1), "{reply}");
        assert_eq!(reply["per sentence"][1]["label"], label(number), "{reply}");
        assert_eq!(reply["per sentence"].as_array().unwrap().len(), 2);
    }
}

#[test]
fn exactly_once_replies_keep_the_order_of_each_key_while_failed_requests_become_dead_letters() {
    let broker = Broker::start("enrich-once");
    if !broker.has_transactions() {
        return;
    }
    let letters = broker.topic("letters");
    let text = std::fs::read_to_string(crate::binary::root().join("config/enrich.toml")).unwrap();
    let text = text.replace("name = \"enrich\"", "delivery = \"exactly_once\"\norder = \"key\"");
    let file = NamedTempFile::new().unwrap();
    let policy =
        format!("[on_failure]\npolicy = {{ dead_letter = {{ topic = \"{letters}\" }} }}\n");
    std::fs::write(file.path(), text + &policy).unwrap();
    let mut command = forebay();
    let service = Service::start(command.arg("run").arg(file.path()).envs(broker.variables()));
    let mut requests: Vec<_> =
        (0..200).map(|number| request(number, review(number, body(number)))).collect();
    let bad = r#"{"review":  {"body": 5}, "id": 1.0}"#;
    let failed: Vec<_> = (0..200).filter(|number| number % 50 == 3).collect();
    for &number in &failed {
        requests[number].value = Some(bad.as_bytes().to_vec());
    }
    produce(&broker, &requests, 1);
    let answered: Vec<_> = requests
        .iter()
        .enumerate()
        .filter(|(number, _)| !failed.contains(number))
        .map(|(_, request)| request.clone())
        .collect();
    let replies = read_replies(&broker, &answered);
    let dead = records(&broker, &letters, failed.len());
    service.stop();
    assert_eq!(lag(&broker), 0);

    let mut last: HashMap<Option<Vec<u8>>, (i32, i64, u64)> = HashMap::new();
    for request in &answered {
        let reply = only(&replies, request);
        let number = reply.value["z"].as_u64().unwrap();
        let place = (reply.partition, reply.offset, number);
        if let Some(before) = last.insert(request.key.clone(), place) {
            assert_eq!(before.0, place.0, "one key, one partition");
            assert!(before.1 < place.1 && before.2 < number, "{before:?} {place:?}");
        }
    }
    let dead: Vec<_> = dead.into_iter().map(|(_, _, value, _)| value.unwrap()).collect();
    assert_eq!(dead, vec![bad.as_bytes().to_vec(); failed.len()]);
}

#[test]
fn with_on_error_a_failed_object_gets_the_fallback_and_other_failures_get_error_replies() {
    let broker = Broker::start("enrich-default");
    let text = std::fs::read_to_string(crate::binary::root().join("config/enrich.toml")).unwrap();
    let text = text.replace(
        "output = \".sentiment\" }\n",
        "output = \".sentiment\", on_error = { value = { label = \"unknown\" } } }\n",
    );
    assert!(text.contains("= { value = { label = \"unknown\" } } }\n"));
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = forebay();
    let service = Service::start(command.arg("run").arg(file.path()).envs(broker.variables()));
    let long = "a film ".repeat(2_000);
    let requests = [
        request(0, review(0, body(0))),
        request(1, r#"{"id":1,"review":{"body":""}}"#.to_owned()),
        request(2, review(2, &long)),
        request(3, "[]".to_owned()),
    ];
    produce(&broker, &requests, 1);
    let late = [request(4, review(4, body(4)))];
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    produce_with(&broker, &late, &[("forebay-deadline-ms", (now - 1).to_string().as_bytes())]);
    let all: Vec<_> = requests.iter().chain(&late).cloned().collect();
    let replies = read_replies(&broker, &all);
    service.stop();

    let reply = |number: usize| only(&replies, &all[number]);
    assert_eq!(reply(0).value["sentiment"]["label"], "positive");
    assert_eq!(
        reply(1).raw,
        r#"{"id":1,"review":{"body":""},"sentiment":{"label":"unknown"},"sentiment_error":{"code":"empty_text","message":"the input `.review.body` is empty; it must give a string"}}"#
    );
    assert_eq!(reply(1).header("forebay-error-code"), None, "the record is passed on");
    assert_eq!(reply(2).value["sentiment"], serde_json::json!({"label": "unknown"}));
    assert_eq!(reply(2).value["sentiment_error"]["code"], "text_too_long");
    assert_eq!(reply(3).code(), "invalid_type", "a fallback cannot be put into an array");
    assert_eq!(reply(4).code(), "deadline_exceeded");
}

#[test]
fn a_line_of_standard_input_is_enriched_like_a_kafka_record() {
    let mut command = forebay();
    command.args(["run", "--stdio", "config/enrich.toml"]).env("DEVICE", "cpu");
    let output = output(&mut command, &format!("{}\n", review(0, body(0))));
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(line.starts_with(&untouched(0, body(0))), "{line}");
    let sentiment = &serde_json::from_str::<Value>(&line).unwrap()["sentiment"];
    assert_eq!(sentiment["label"], "positive");
}
