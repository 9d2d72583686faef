//! Compares the results of expressions with those of the real jq. `docs/operators.md` must list
//! every difference.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Jq;
use crate::json::Json;

/// Inputs, expressions, and the results of the real jq. Written by `tests/jq/generate.py`.
const CASES: &str = include_str!("../../tests/jq/cases.jsonl");

const PAGE: &str = include_str!("../../../../docs/operators.md");

/// Describes the results of the real jq: its only result, or that there is not exactly one, or that
/// there is an error (`None`).
fn shown(results: Option<&[String]>) -> String {
    match results {
        Some([result]) => result.clone(),
        Some(_) => "no result or several".to_owned(),
        None => "an error".to_owned(),
    }
}

/// Describes the results of Forebay in the same way.
fn of_forebay(expression: &str, input: &Json) -> String {
    match Jq::compile(expression, &[]).map(|jq| jq.of(input)) {
        Ok(Ok(result)) => match result.to_bytes() {
            Ok(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
            Err(_) => "an error".to_owned(),
        },
        Ok(Err(failure)) if failure.code() == "jq_results" => "no result or several".to_owned(),
        _ => "an error".to_owned(),
    }
}

/// Returns whether two texts are the same JSON, with numbers compared as floats.
fn is_same(left: &str, right: &str) -> bool {
    fn same(left: &Value, right: &Value) -> bool {
        match (left, right) {
            (Value::Number(left), Value::Number(right)) => left.as_f64() == right.as_f64(),
            (Value::Array(left), Value::Array(right)) => {
                left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same(l, r))
            }
            (Value::Object(left), Value::Object(right)) => {
                left.len() == right.len()
                    && left.iter().all(|(key, l)| right.get(key).is_some_and(|r| same(l, r)))
            }
            (left, right) => left == right,
        }
    }
    match (serde_json::from_str(left), serde_json::from_str(right)) {
        (Ok(left), Ok(right)) => same(&left, &right),
        _ => left == right,
    }
}

#[test]
fn docs_operators_md_lists_every_difference_from_jq() {
    let mut input = String::new();
    let mut count = 0;
    let mut differences = BTreeMap::new();
    for line in CASES.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        if let Some(text) = case["input"].as_str() {
            input = text.to_owned();
            continue;
        }
        count += 1;
        let expression = case["jq"].as_str().unwrap();
        let results: Option<Vec<String>> = serde_json::from_value(case["results"].clone()).unwrap();
        let jq = shown(results.as_deref());
        let forebay = of_forebay(expression, &Json::parse(input.as_bytes()).unwrap());
        if !is_same(&jq, &forebay) {
            let cell = |text: &str| text.replace('|', "\\|").replace('\n', "\\n");
            let row = format!("| `{}` | {} | {} |", cell(expression), cell(&jq), cell(&forebay));
            differences.insert(expression.to_owned(), row);
        }
    }
    assert!(PAGE.contains(&format!("{count} expressions are compared")), "{count}");
    let rows: Vec<_> = differences.into_values().collect();
    let listed: Vec<_> = PAGE
        .lines()
        .skip_while(|line| *line != "| expression | jq | Forebay |")
        .skip(2)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert_eq!(rows, listed, "docs/operators.md should list:\n{}", rows.join("\n"));
}
