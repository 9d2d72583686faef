//! Random expressions on random values: a result or a failure, and never a panic, not even one that is caught.
//!
//! Left out is what runs for ever, or in all memory, because it says so: `repeat`, `range` without an end, states that
//! double in a `reduce`, multiples of texts by large numbers. Files are written by the pipeline's owner.

use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use forebay_stream::Failure;
use proptest::prelude::*;

use super::Jq;
use crate::json::Json;

const LEAVES: &str = ". .a .b .[0] .[-1] .[] .. .a.b .[1:] 0 1 -1 2.5 1e-9 null true false \"\" \"ab\" \"é\" [] {} \
    $item nan empty error length keys values add any all floor sqrt tostring tonumber type sort unique reverse \
    flatten min max ascii_downcase ascii_upcase explode implode to_entries from_entries paths tojson fromjson \
    @base64 @base64d @json @html @uri @sh @text todate transpose first last utf8bytelength not halt env trim ltrim \
    rtrim abs round ceil significand logb frexp modf trunc isnan isinfinite isnormal fabs arrays objects scalars \
    iterables numbers strings nulls booleans debug gmtime test(\"a\") match(\"(a|b)*\";\"g\") capture(\"(?<x>a)\") \
    scan(\".\") sub(\"a\";\"b\") gsub(\"\";\"-\") split(\",\") splits(\"a\") join(\",\") ltrimstr(\"a\") \
    rtrimstr(\"b\") startswith(\"a\") endswith(\"b\") contains(\"a\") inside([]) index(\"a\") indices(1) \
    getpath([\"a\",0]) has(\"a\") has(0) in({}) splits(\"\") strptime(\"%Y\") strftime(\"%Y-%j\") bsearch(1) \
    limit(2;.[]) skip(1;.[]) nth(1;.[]) range(3) range(0;4;2) group_by(.a) unique_by(.) min_by(.a) max_by(.b) \
    sort_by(.a) with_entries(.) walk(.) pick(.a) del(.[0]) delpaths([[0]]) setpath([0];1) paths(type==\"number\") \
    splits(\"(\") ldexp(1;2) pow(.;2) log fma(1;2;3) error(null) ltrimstr(1)";

const TEMPLATES: [&str; 38] = [
    "L|R",
    "L,R",
    "(L)+(R)",
    "(L)-(R)",
    "(L)*(R)",
    "(L)/(R)",
    "(L)%(R)",
    "(L) and (R)",
    "(L)//(R)",
    "(L)==(R)",
    "(L)<(R)",
    "-(L)",
    "[L]",
    "[L,R]",
    "{a:(L),b:(R)}",
    "{(L):(R)}",
    "if L then R else . end",
    "try (L)",
    "try error(L) catch (R)",
    "(L)?",
    "reduce (L) as $x (0;$x|R)",
    "[foreach (L) as $x (0;$x|R;.)]",
    "(L) as $x|R",
    "(L) as [$x,{a:$y}]|R",
    ".[L]?",
    ".[L:R]?",
    "(.a)|=(L)",
    "(.[0])=(L)",
    "(.a)+=(L)",
    "map(L)",
    "select(L)",
    "first(L)",
    "[limit(3;L)]",
    "\"\\(L) \\(R)\"",
    "label $f|(L),break $f",
    "def f: L; f|R",
    "path(L)",
    "[paths(L)]",
];

fn expressions() -> impl Strategy<Value = String> {
    let leaf =
        prop::sample::select(LEAVES.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    leaf.prop_recursive(4, 12, 2, |inner| {
        (prop::sample::select(&TEMPLATES[..]), inner.clone(), inner).prop_map(
            |(template, left, right)| {
                template
                    .chars()
                    .map(|c| match c {
                        'L' => left.clone(),
                        'R' => right.clone(),
                        c => c.to_string(),
                    })
                    .collect()
            },
        )
    })
}

fn values() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "1",
        "-1",
        "2",
        "0.5",
        "-0.0",
        "1e-300",
        "\"\"",
        "\"a\"",
        "\"a,b\"",
        "\"é\\u0000\"",
        "\"[1]\"",
        "\"2015-03-05T23:51:47Z\"",
        "\"YQ==\"",
        "[]",
        "{}",
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4)
                .prop_map(|all| format!("[{}]", all.join(","))),
            (inner.clone(), inner).prop_map(|(a, b)| format!("{{\"a\":{a},\"b\":{b}}}")),
        ]
    })
}

/// Otherwise what is made of them would be refused before it could fail.
#[test]
fn fuzz_expressions_are_made_of_jq() {
    let leaves = LEAVES.split_whitespace().map(str::to_owned);
    let templates = TEMPLATES.iter().map(|template| template.replace(['L', 'R'], "."));
    for part in leaves.chain(templates) {
        if let Err(error) = Jq::compile(&part, &["$item"]) {
            panic!("{part}: {error}");
        }
    }
}

proptest! {
    #[test]
    fn fuzz_any_expression_gives_a_result_or_a_failure(
        expression in expressions(), inputs in prop::collection::vec(values(), 8),
    ) {
        let Ok(jq) = Jq::compile(&expression, &["$item"]) else { return Ok(()) };
        let jq = Arc::new(jq);
        for input in inputs {
            let json = Json::parse(input.as_bytes()).unwrap();
            // An expression may multiply its results without end, and nothing can interrupt it.
            let Some(result) = call_in_time(&jq, json) else { return Ok(()) };
            match result {
                Ok(result) => {
                    // Whatever it is, it has a form that can be sent.
                    let text = result.to_string();
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
                }
                Err(failure) => {
                    let known = ["jq_error", "jq_results"].contains(&failure.code());
                    prop_assert!(known && !failure.message().ends_with("jq itself failed"), "{} on {}", failure, input);
                }
            }
        }
    }

    #[test]
    fn fuzz_any_text_is_an_expression_or_not(
        text in prop_oneof![
            any::<String>(),
            "([.,|:;?$@()\\[\\]{}\"\\\\+*/=<>#é ]|a|1|as|if|then|end|def|reduce|import|__loc__|try|label){0,24}",
        ],
    ) {
        Jq::compile(&text, &["$item"]).ok();
    }

    #[test]
    fn fuzz_an_expression_with_bytes_changed_is_one_or_not(
        expression in expressions(), at: prop::sample::Index, other in "[ -~é]{0,2}",
    ) {
        let mut text: Vec<char> = expression.chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, other.chars());
        Jq::compile(&text.into_iter().collect::<String>(), &["$item"]).ok();
    }
}

/// The result of a call, or nothing if it takes too long; it then goes on until the process ends.
fn call_in_time(jq: &Arc<Jq>, json: Json) -> Option<Result<Json, Failure>> {
    let (send, receive) = mpsc::sync_channel(1);
    let jq = Arc::clone(jq);
    std::thread::spawn(move || send.send(jq.call(json.clone(), [json])));
    match receive.recv_timeout(Duration::from_secs(20)) {
        Ok(result) => Some(result),
        Err(RecvTimeoutError::Timeout) => None,
        Err(RecvTimeoutError::Disconnected) => panic!("the call panicked"),
    }
}
