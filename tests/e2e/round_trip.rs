//! Requests in one topic and replies in another: each reply has the key of its request, and equals
//! the output of the model.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use forebay_model::{DeviceChoice, TextModel, TextModelOptions};
use serde_json::{Value, json};

use crate::binary::{Service, forebay, root};
use crate::broker::Broker;
use crate::clients::{Reply, Request, lag, produce, read_replies};

const REQUESTS: usize = 1_000;
const PRODUCERS: usize = 8;

/// Returns a text of one to a hundred words, different for each number.
fn text(number: usize) -> String {
    const WORDS: [&str; 8] = ["a", "wonderful", "film", "dull", "and", "moving", "never", "boring"];
    let words =
        (0..=number % 100).map(|word| WORDS[(number * 7 + word * 3 + word / 5) % WORDS.len()]);
    format!("{number} {}", words.collect::<Vec<_>>().join(" "))
}

fn request(number: usize, value: Option<Vec<u8>>) -> Request {
    // Some requests share a key, some keys are not UTF-8, and some requests have no key.
    let key = match number % 10 {
        0 => None,
        1 => Some(vec![0xff, number.to_le_bytes()[0]]),
        _ => Some(format!("user-{}", number % 97).into_bytes()),
    };
    Request { id: format!("id-{number}"), key, value }
}

fn well_formed(number: usize) -> Request {
    let text = text(number);
    let value =
        if number.is_multiple_of(2) { json!({"text": text, "n": number}) } else { json!(text) };
    request(number, Some(value.to_string().into_bytes()))
}

/// Returns the model's output for each text, in batches of one and without the pipeline.
fn direct(numbers: impl Iterator<Item = usize>) -> HashMap<String, Value> {
    let mut options = TextModelOptions::new(root().join("models/sentiment"));
    options.device = DeviceChoice::Cpu;
    options.max_batch = NonZeroUsize::MIN;
    let mut model = TextModel::load(&options).unwrap();
    let answer = |number| {
        let output = model.answer(&[text(number)]).unwrap().remove(0).unwrap();
        (format!("id-{number}"), serde_json::to_value(output).unwrap())
    };
    numbers.map(answer).collect()
}

fn assert_same(reply: &Reply, direct: &Value) {
    assert_eq!(reply.value["label"], direct["label"], "{reply:?} {direct}");
    let score = |value: &Value| value["score"].as_f64().unwrap();
    assert!((score(&reply.value) - score(direct)).abs() < 1e-5, "{reply:?} {direct}");
}

/// Runs the pipeline and returns its replies by correlation id. Checks that every request has
/// exactly one reply, with the same key and headers.
fn answers(test: &str, requests: &[Request]) -> HashMap<String, Reply> {
    let broker = Broker::start(test);
    let service =
        Service::start(forebay().args(["run", "config/sentiment.toml"]).envs(broker.variables()));
    produce(&broker, requests, PRODUCERS);
    let replies = read_replies(&broker, requests);
    service.stop();
    assert_eq!(lag(&broker), 0, "every offset is committed after a stop by SIGTERM");

    let one = |request: &Request| {
        let [reply] = replies[&request.id].as_slice() else {
            panic!("not one reply: {:?}", replies[&request.id])
        };
        assert_eq!(reply.key, request.key);
        assert_eq!(reply.header("sender"), Some(b"\x00\xff".as_slice()));
        assert!(reply.headers.contains(&("nothing".to_owned(), None)), "{:?}", reply.headers);
        (request.id.clone(), reply.clone())
    };
    requests.iter().map(one).collect()
}

#[test]
fn a_thousand_requests_from_eight_producers_get_their_own_replies() {
    let requests: Vec<_> = (0..REQUESTS).map(well_formed).collect();
    let replies = answers("thousand", &requests);
    for (id, expected) in direct(0..REQUESTS) {
        assert_same(&replies[&id], &expected);
        assert_eq!(replies[&id].header("forebay-error-code"), None);
    }
}

#[test]
fn malformed_requests_get_errors_and_the_others_their_results() {
    let faults: [(Option<Vec<u8>>, &str); 10] = [
        (Some(b"{\"text\": \"cut o".to_vec()), "invalid_json"),
        (Some(b"\xff\xfe\x00".to_vec()), "invalid_json"),
        (Some(b"{\"txt\": \"a film\"}".to_vec()), "missing_field"),
        (Some(b"{\"text\": null}".to_vec()), "null_value"),
        (Some(b"{\"text\": 7}".to_vec()), "invalid_type"),
        (Some(b"[\"a film\"]".to_vec()), "invalid_type"),
        (Some(b"{\"text\": \"\"}".to_vec()), "empty_text"),
        (Some(Vec::new()), "empty_value"),
        (None, "null_value"),
        (Some(json!({"text": "a film ".repeat(2_000)}).to_string().into_bytes()), "text_too_long"),
    ];
    let fault = |number: usize| (number % 20 == 3).then(|| &faults[number / 20 % faults.len()]);
    let requests: Vec<_> = (0..REQUESTS)
        .map(|number| {
            fault(number)
                .map_or_else(|| well_formed(number), |(value, _)| request(number, value.clone()))
        })
        .collect();

    let replies = answers("malformed", &requests);
    let expected = direct((0..REQUESTS).filter(|number| fault(*number).is_none()));
    for number in 0..REQUESTS {
        let id = format!("id-{number}");
        let reply = &replies[&id];
        let Some((_, code)) = fault(number) else {
            assert_same(reply, &expected[&id]);
            continue;
        };
        assert_eq!(reply.code(), *code, "{reply:?}");
        assert_eq!(reply.header("forebay-error-code"), Some(code.as_bytes()));
        assert!(!reply.value["error"]["message"].as_str().unwrap().is_empty());
        assert!(!reply.value["error"]["stage"].as_str().unwrap().is_empty());
    }
}
