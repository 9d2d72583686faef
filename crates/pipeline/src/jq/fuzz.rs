//! Random expressions on random values give a result or a failure. They never panic, not even with
//! a panic that `Jq::call` catches and reports as "jq itself failed".
//!
//! Expressions that can run for ever or use up all memory are left out: `repeat`, `range` without
//! an end, states that double in a `reduce`, and strings multiplied by large numbers. The program
//! does not guard against such expressions, because they can only come from the pipeline's file,
//! whose author is trusted.

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

/// The pieces must compile, because an expression that does not compile is never run by the other
/// tests.
#[test]
fn fuzz_every_piece_of_an_expression_compiles() {
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
            // Some random combinations still run for ever. They cannot be interrupted, so the case
            // is given up after a time limit.
            let Some(result) = call_in_time(&jq, json) else { return Ok(()) };
            match result {
                Ok(result) => {
                    // Every result can be written as JSON, unless a number in it is not finite.
                    match result.to_bytes() {
                        Ok(bytes) => {
                            let parsed = serde_json::from_slice::<serde_json::Value>(&bytes);
                            // serde_json refuses numbers beyond the range of floats, which
                            // expressions keep as text.
                            let is_json = match &parsed {
                                Ok(_) => true,
                                Err(error) => error.to_string().contains("out of range"),
                            };
                            prop_assert!(is_json, "{}", result);
                        }
                        Err(failure) => prop_assert_eq!(failure.code(), "not_finite"),
                    }
                }
                Err(failure) => {
                    let known = ["jq_error", "jq_results"].contains(&failure.code());
                    prop_assert!(known && !failure.message().ends_with("jq itself failed"), "{} on {}", failure, input);
                }
            }
        }
    }

    #[test]
    fn fuzz_any_text_compiles_or_is_refused(
        text in prop_oneof![
            any::<String>(),
            "([.,|:;?$@()\\[\\]{}\"\\\\+*/=<>#é ]|a|1|as|if|then|end|def|reduce|import|__loc__|try|label){0,24}",
        ],
    ) {
        Jq::compile(&text, &["$item"]).ok();
    }

    #[test]
    fn fuzz_a_changed_expression_compiles_or_is_refused(
        expression in expressions(), at: prop::sample::Index, other in "[ -~é]{0,2}",
    ) {
        let mut text: Vec<char> = expression.chars().collect();
        let at = at.index(text.len());
        text.splice(at..=at, other.chars());
        Jq::compile(&text.into_iter().collect::<String>(), &["$item"]).ok();
    }
}

/// Each of these takes a fraction of a second. If an update copied the object or array that it
/// changes, each would take minutes.
#[test]
fn an_update_in_a_loop_does_not_copy_the_state() {
    for expression in [
        "reduce range(.) as $x ({}; .[$x | tostring] = 1) | length",
        "reduce range(.) as $x ({}; .a.b[$x | tostring] += 1) | .a.b | length",
        "[range(.)] | INDEX(.) | length",
    ] {
        let jq = Arc::new(Jq::compile(expression, &["$item"]).unwrap());
        let result = call_in_time(&jq, Json::from(30_000_usize));
        let result = result.unwrap_or_else(|| panic!("`{expression}` copies"));
        assert_eq!(result.unwrap().to_string(), "30000", "{expression}");
    }
}

/// Returns the result of a call, or `None` if it takes too long. The call's thread then runs on
/// until the process ends.
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
