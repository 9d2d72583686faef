//! Runs every operator of a pipeline file on lines, and compares the answers with those of a few
//! lines of Rust that do the same.

use parking_lot::Mutex;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::assemble::{Assembler, Taps};
use crate::counts::Counts;
use crate::lines::start;
use crate::plan::Plan;
use crate::record::Format;

/// Returns the answers of a pipeline with the given steps, on a paused clock. Errors are replaced
/// by their codes.
fn answers(steps: &str, values: &[Value]) -> Vec<Value> {
    let text = format!("[source.stdin]\n{steps}\n[sink.stdout]\n");
    let plan = Plan::parse(Path::new("test.toml"), &text, &|_| None);
    let plan = plan.unwrap_or_else(|error| panic!("{error}"));
    let input: Vec<String> = values.iter().map(Value::to_string).collect();
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().start_paused(true).build().unwrap().block_on(async {
        let reader = std::io::Cursor::new(input.join("\n").into_bytes());
        let source = start("stdin".to_owned(), "stdin".to_owned(), reader, Format::Json);
        let stop = CancellationToken::new();
        let running = source.start(stop.clone(), &Counts::default()).await.unwrap();
        let task = |model: &str| plan.stub(model);
        let counts = Counts::default();
        let taps = &mut Taps::new();
        let assembler = Assembler { plan: &plan, task: &task, counts: &counts, taps, stop: &stop };
        let flows = assembler.assemble(vec![running.records]);
        let seen = Arc::new(Mutex::new(Vec::new()));
        let runs = flows.answers.into_iter().map(|answers| {
            let seen = Arc::clone(&seen);
            answers.sink_fn(move |answer| seen.lock().push(answer.value)).run()
        });
        for ended in futures::future::join_all(runs).await {
            ended.unwrap();
        }
        let seen = seen.lock();
        seen.iter().map(|value| shown(serde_json::from_slice(value).unwrap())).collect()
    })
}

fn shown(value: Value) -> Value {
    value.pointer("/error/code").cloned().unwrap_or(value)
}

/// Returns the answers of a pipeline with one step.
fn step(operator: &str, values: &[Value]) -> Vec<Value> {
    answers(&format!("[[step]]\n{operator}\n"), values)
}

fn numbers(values: &[i64]) -> Vec<Value> {
    values.iter().copied().map(Value::from).collect()
}

fn lists(values: impl IntoIterator<Item = Vec<i64>>) -> Vec<Value> {
    values.into_iter().map(Value::from).collect()
}

/// Numbers, mixed with strings and nulls.
fn mixed() -> impl Strategy<Value = Vec<Value>> {
    let value = prop_oneof![
        6 => (-20_i64..20).prop_map(Value::from),
        1 => "[a-c]{0,2}".prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    prop::collection::vec(value, 0..40)
}

proptest! {
    #[test]
    fn map_answers_each_value_in_order(values in mixed()) {
        let expected: Vec<Value> = values
            .iter()
            .map(|value| value.as_i64().map_or(json!("jq_error"), |number| json!(number % 7)))
            .collect();
        prop_assert_eq!(step("map = \". % 7\"", &values), expected);
    }

    #[test]
    fn filter_and_remove_pass_opposite_values(values in mixed()) {
        let kept = |keep: bool| -> Vec<Value> {
            let passes = |value: &&Value| match value.as_i64() {
                Some(number) => (number > 3) == keep,
                None => true,
            };
            let show = |value: &Value| if value.is_i64() { value.clone() } else { json!("jq_error") };
            values.iter().filter(passes).map(show).collect()
        };
        let expression = "if type == \\\"number\\\" then . > 3 else error(\\\"no\\\") end";
        prop_assert_eq!(step(&format!("filter = \"{expression}\""), &values), kept(true));
        prop_assert_eq!(step(&format!("remove = \"{expression}\""), &values), kept(false));
    }

    #[test]
    fn accumulate_keeps_its_state_when_a_step_fails(values in mixed()) {
        let mut sum = 0;
        let expected: Vec<Value> = values
            .iter()
            .map(|value| match value.as_i64() {
                Some(number) => { sum += number; json!(sum) }
                // null is the neutral element of jq's addition.
                None if value.is_null() => json!(sum),
                None => json!("jq_error"),
            })
            .collect();
        prop_assert_eq!(step("accumulate = { init = 0, step = \". + $item\" }", &values), expected);
    }

    #[test]
    fn scan_gives_a_result_beside_the_state(values: Vec<i32>) {
        let values: Vec<i64> = values.into_iter().map(i64::from).collect();
        let before = std::iter::once(0).chain(values.iter().copied());
        let expected: Vec<i64> = values.iter().zip(before).map(|(value, before)| value - before).collect();
        let seen = step("scan = { init = 0, step = \"[$item, $item - .]\" }", &numbers(&values));
        prop_assert_eq!(seen, numbers(&expected));
    }

    #[test]
    fn slice_selects_the_same_values_as_in_python(values: Vec<i64>, start in 0_usize..9, end in prop::option::of(0_usize..30), by in 1_usize..4) {
        let settings = match end {
            Some(end) => format!("start = {start}, end = {end}, step = {by}"),
            None => format!("start = {start}, step = {by}"),
        };
        let end = end.unwrap_or(usize::MAX).min(values.len());
        let expected: Vec<i64> = values[..end].iter().copied().skip(start).step_by(by).collect();
        prop_assert_eq!(step(&format!("slice = {{ {settings} }}"), &numbers(&values)), numbers(&expected));
    }

    #[test]
    fn partition_fills_batches_and_flushes_the_rest(values: Vec<i64>, size in 1_usize..7) {
        let expected = lists(values.chunks(size).map(<[i64]>::to_vec));
        prop_assert_eq!(step(&format!("partition = {size}"), &numbers(&values)), expected.clone());
        prop_assert_eq!(step(&format!("partition = {{ size = {size} }}"), &numbers(&values)), expected);
        let flat = format!("partition = {size}\n[[step]]\nflatten = {{}}");
        prop_assert_eq!(step(&flat, &numbers(&values)), numbers(&values));
        let sums = format!("partition = {size}\n[[step]]\nfold = {{ init = 0, step = \"[., $item] | max\" }}");
        let largest: Vec<i64> =
            values.chunks(size).map(|chunk| chunk.iter().copied().fold(0, i64::max)).collect();
        prop_assert_eq!(step(&sums, &numbers(&values)), numbers(&largest));
        let lengths = format!("partition = {size}\n[[step]]\nlen = {{}}");
        let expected: Vec<Value> = values.chunks(size).map(|chunk| json!(chunk.len())).collect();
        prop_assert_eq!(step(&lengths, &numbers(&values)), expected);
    }

    #[test]
    fn partition_by_key_holds_any_number_of_keys(values in prop::collection::vec(0_i64..9000, 0..9000)) {
        let mut groups: Vec<(i64, Vec<i64>)> = Vec::new();
        let mut full = Vec::new();
        for &value in &values {
            let key = value % 5000;
            match groups.iter().position(|(known, _)| *known == key) {
                Some(at) => {
                    let (_, mut group) = groups.remove(at);
                    group.push(value);
                    full.push(group);
                }
                None => groups.push((key, vec![value])),
            }
        }
        full.extend(groups.into_iter().map(|(_, group)| group));
        let seen = step("partition = { size = 2, key = \". % 5000\" }", &numbers(&values));
        prop_assert_eq!(seen, lists(full));
    }

    #[test]
    fn sliding_windows_overlap_and_can_be_partial(values: Vec<i64>, size in 1_usize..6) {
        let full = lists(values.windows(size).map(<[i64]>::to_vec));
        let settings = format!("sliding_window = {{ size = {size}, partial = false }}");
        prop_assert_eq!(step(&settings, &numbers(&values)), full);
        let grown = (1..=values.len()).map(|end| values[end.saturating_sub(size)..end].to_vec());
        prop_assert_eq!(step(&format!("sliding_window = {size}"), &numbers(&values)), lists(grown));
    }

    #[test]
    fn unique_windows_keep_one_of_each_key(values in prop::collection::vec(0_i64..12, 0..40), size in 1_usize..5, last: bool) {
        let mut expected = vec![Vec::<i64>::new()];
        for &value in &values {
            let batch = expected.last_mut().unwrap();
            match batch.iter().position(|known| known % 4 == value % 4) {
                Some(_) if !last => continue,
                Some(at) => _ = batch.remove(at),
                None => {}
            }
            batch.push(value);
            if batch.len() == size { expected.push(Vec::new()); }
        }
        expected.retain(|batch| !batch.is_empty());
        let keep = if last { "last" } else { "first" };
        let settings = format!("size = {size}, key = \". % 4\", keep = \"{keep}\"");
        let seen = step(&format!("partition_unique = {{ {settings} }}"), &numbers(&values));
        prop_assert_eq!(seen, lists(expected));
    }

    #[test]
    fn frequencies_counts_each_value(values in prop::collection::vec("[a-c]", 0..20)) {
        let mut counts = serde_json::Map::new();
        let expected: Vec<Value> = values
            .iter()
            .map(|value| {
                let count = counts.get(value).and_then(Value::as_i64).unwrap_or_default();
                counts.insert(value.clone(), json!(count + 1));
                Value::from(counts.clone())
            })
            .collect();
        let values: Vec<Value> = values.into_iter().map(Value::from).collect();
        prop_assert_eq!(step("frequencies = {}", &values), expected);
    }

    #[test]
    fn map_async_keeps_the_order_and_map_async_unordered_keeps_the_values(values: Vec<i64>, parallelism in 1_usize..9) {
        let settings = format!("{{ jq = \"[.]\", parallelism = {parallelism} }}");
        let expected = lists(values.iter().map(|value| vec![*value]));
        prop_assert_eq!(step(&format!("map_async = {settings}"), &numbers(&values)), expected.clone());
        let mut seen: Vec<String> = step(&format!("map_async_unordered = {settings}"), &numbers(&values))
            .iter().map(Value::to_string).collect();
        let mut expected: Vec<String> = expected.iter().map(Value::to_string).collect();
        seen.sort();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn a_value_that_fails_in_map_batch_does_not_fail_its_batch(values in mixed(), size in 1_usize..9) {
        let steps = format!("[[step]]\npartition = {size}\n[[step]]\nmap_batch = \"map(. * 2 - 1)\"\n");
        let expected: Vec<Value> = values
            .iter()
            .map(|value| value.as_i64().map_or(json!("jq_error"), |number| json!(number * 2 - 1)))
            .collect();
        prop_assert_eq!(answers(&steps, &values), expected);
    }

    #[test]
    fn branches_and_joins_lose_nothing(values: Vec<i64>) {
        let steps = "
            [[step]]
            name = \"double\"
            map = \"[., 2]\"
            [[step]]
            from = [\"double\", \"stdin\", \"double\"]
            zip = { literals = [\"x\"] }";
        let expected: Vec<Value> = values.iter().map(|v| json!([[v, 2], v, [v, 2], "x"])).collect();
        prop_assert_eq!(answers(steps, &numbers(&values)), expected);

        let steps = "
            [[step]]
            name = \"odd\"
            split = \". % 2 != 0\"
            [[step]]
            name = \"marked\"
            from = \"odd.true\"
            map = \"[.]\"
            [[step]]
            from = [\"marked\", \"odd.false\"]
            union = {}";
        let mut seen: Vec<String> = answers(steps, &numbers(&values)).iter().map(Value::to_string).collect();
        let marked = |v: &i64| if v % 2 != 0 { json!([v]) } else { json!(v) };
        let mut expected: Vec<String> = values.iter().map(marked).map(|v| v.to_string()).collect();
        seen.sort();
        expected.sort();
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn every_value_leaves_the_loop(values in prop::collection::vec(1_i64..300, 0..30), capacity in 1_usize..9) {
        // The loop counts the steps of a number's Collatz sequence down to 1. The window after the
        // loop gathers the counts.
        let steps = format!("
            [[step]]
            map = \"{{start: ., at: ., steps: 0}}\"
            name = \"begin\"
            [[step]]
            from = [\"begin\", \"again\"]
            union = {{}}
            [[step]]
            name = \"over\"
            split = \".at == 1\"
            [[step]]
            name = \"next\"
            from = \"over.false\"
            map = \".steps += 1 | .at = (if .at % 2 == 0 then .at / 2 else .at * 3 + 1 end)\"
            [[step]]
            name = \"again\"
            feedback = {{ capacity = {capacity} }}
            from = \"next\"
            [[step]]
            from = \"over.true\"
            map = \"[.start, .steps]\"
            [[step]]
            partition = 1000");
        let steps_of = |mut at: i64| {
            let mut steps = 0;
            while at != 1 {
                at = if at % 2 == 0 { at / 2 } else { at * 3 + 1 };
                steps += 1;
            }
            steps
        };
        let mut expected: Vec<Vec<i64>> = values.iter().map(|v| vec![*v, steps_of(*v)]).collect();
        let mut seen: Vec<Vec<i64>> = answers(&steps, &numbers(&values))
            .into_iter()
            .flat_map(|list| serde_json::from_value::<Vec<Vec<i64>>>(list).unwrap())
            .collect();
        expected.sort();
        seen.sort();
        prop_assert_eq!(seen, expected);
    }
}

#[test]
fn an_operator_on_arrays_takes_batches_as_arrays() {
    let values = numbers(&[3, 1, 2, 5]);
    assert_eq!(
        answers("[[step]]\npartition = 2\n[[step]]\nmap = \"add\"", &values),
        [json!(4), json!(7)]
    );
    let pairs = answers("[[step]]\npartition = 2\n[[step]]\npartition = 2", &values);
    assert_eq!(pairs, [json!([[3, 1], [2, 5]])]);
    let starred =
        "[[step]]\npartition = 2\n[[step]]\nstarmap = { args = [\"x\", \"y\"], jq = \"$x * $y\" }";
    assert_eq!(answers(starred, &numbers(&[3, 4, 5])), [json!(12), json!("wrong_length")]);
}

#[test]
fn flatten_fold_and_len_take_arrays_too() {
    let values = [json!([1, 2]), json!([]), json!(7), json!(["a"])];
    assert_eq!(
        step("flatten = {}", &values),
        [json!(1), json!(2), json!("invalid_type"), json!("a")]
    );
    assert_eq!(step("len = {}", &values), [json!(2), json!(0), json!("invalid_type"), json!(1)]);
    let fold = "fold = { init = [], step = \"[$item] + .\" }";
    assert_eq!(
        step(fold, &values),
        [json!([2, 1]), json!([]), json!("invalid_type"), json!(["a"])]
    );
}

#[test]
fn pluck_takes_json_pointers_and_reports_missing_fields() {
    let values = [json!({"a": {"b/c": [5, 6]}}), json!({"a": 1})];
    assert_eq!(step("pluck = \"/a/b~1c/1\"", &values), [json!(6), json!("missing_field")]);
    assert_eq!(step("pluck = [\"/a\", \"\"]", &values[1..]), [json!([1, {"a": 1}])]);
    let lenient = "pluck = { path = [\"/a\", \"/z\"], missing = \"null\" }";
    assert_eq!(step(lenient, &values[1..]), [json!([1, null])]);
    let lenient = "pluck = { path = \"/z\", missing = \"null\" }";
    assert_eq!(step(lenient, &values[1..]), [json!(null)]);
}

#[test]
fn unique_forgets_the_least_recently_seen_key() {
    let values = numbers(&[1, 2, 1, 2, 1, 2, 3, 2, 1, 2, 3, 2]);
    assert_eq!(step("unique = { capacity = 2 }", &values), numbers(&[1, 2, 3, 1, 3]));
    let keyed = [json!({"id": 1, "n": 0}), json!({"id": 1, "n": 1}), json!(5)];
    assert_eq!(step("unique = { key = \".id\" }", &keyed), [keyed[0].clone(), json!("jq_error")]);
    let equal = [json!(1), json!(1.0), json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1})];
    assert_eq!(step("unique = {}", &equal), [json!(1), json!({"a": 1, "b": 2})]);
}

#[test]
fn operators_that_only_pass_values_on_do_not_change_them() {
    let values = numbers(&[1, 2, 3]);
    for operator in [
        "buffer = 2",
        "buffer = { size = 2, overflow = \"wait\" }",
        "delay = \"5s\"",
        "delay = { by = \"5s\", capacity = 1 }",
        "rate_limit = \"50ms\"",
        "rate_limit = { interval = \"1h\", burst = 2 }",
        "detach = {}",
        "inspect = \".nothing.there\"",
        "tap = 2",
        "branch = {}",
    ] {
        assert_eq!(step(operator, &values), values, "{operator}");
    }
}

#[test]
fn frequencies_count_a_string_and_a_number_with_the_same_text_separately() {
    let seen = step("frequencies = {}", &[json!(1), json!("1"), json!("a"), json!(null)]);
    assert_eq!(seen[3], json!({"1": 1, "\"1\"": 1, "a": 1, "null": 1}));
}

#[test]
fn a_step_that_takes_from_a_loop_may_come_before_the_loop_in_the_file() {
    let steps = "
        [[step]]
        from = \"over.true\"
        map = \"[.]\"
        [[step]]
        name = \"out\"
        partition = 9
        [[step]]
        name = \"in\"
        from = [\"stdin\", \"again\"]
        union = {}
        [[step]]
        name = \"over\"
        split = \". > 9\"
        [[step]]
        name = \"next\"
        from = \"over.false\"
        map = \". * 3\"
        [[step]]
        name = \"again\"
        feedback = {}
        [[step]]
        from = \"out\"
        map = \"sort\"";
    assert_eq!(answers(steps, &numbers(&[1, 2, 5])), [json!([[15], [18], [27]])]);
}

#[test]
fn empty_windows_are_emitted_if_emit_empty_is_set() {
    let late =
        "delay = \"25s\"\n[[step]]\ntimed_window = { interval = \"10s\", emit_empty = true }";
    assert_eq!(step(late, &numbers(&[1])), [json!([]), json!([]), json!([1])]);
}

#[test]
fn timed_and_adaptive_windows_gather_the_values_that_have_arrived() {
    let values = numbers(&[1, 2, 1, 3]);
    assert_eq!(step("timed_window = \"1s\"", &values), [json!([1, 2, 1, 3])]);
    let halves = "timed_window = { interval = \"1s\", max_size = 2, emit_empty = true }";
    assert_eq!(step(halves, &values), [json!([1, 2]), json!([1, 3])]);
    let unique = "timed_window_unique = { interval = \"1s\", keep = \"last\" }";
    assert_eq!(step(unique, &values), [json!([2, 1, 3])]);
    assert_eq!(step("adaptive_window = { max_size = 3 }", &values), [json!([1, 2, 1]), json!([3])]);
    let costly = "adaptive_window = { max_wait = \"1s\", cost = \".\", max_cost = 3 }";
    assert_eq!(step(costly, &values), [json!([1, 2]), json!([1]), json!([3])]);
    let wrong = "adaptive_window = { cost = \". - 2\", max_cost = 3 }";
    let seen = step(wrong, &values);
    assert_eq!(seen, [json!("invalid_cost"), json!([2, 3]), json!("invalid_cost")]);
}

#[test]
fn collect_gathers_every_value_with_and_without_signals() {
    assert_eq!(step("collect = {}", &numbers(&[1, 2, 3])), [json!([1, 2, 3])]);
    let steps = "
        [[step]]
        name = \"full\"
        split = \". == \\\"flush\\\"\"
        [[step]]
        from = \"full.false\"
        collect = { flush = \"full.true\" }";
    let values = [json!(1), json!(2), json!("flush"), json!(3)];
    let seen = answers(steps, &values);
    let all: Vec<Value> = seen.iter().flat_map(|list| list.as_array().unwrap().clone()).collect();
    assert_eq!(all, [json!(1), json!(2), json!(3)]);
}

#[test]
fn combine_latest_and_zip_latest_keep_the_order_of_from() {
    // The three flows get their values at the same instant, so the order in which they reach the
    // step is unspecified.
    let steps = "
        [[step]]
        name = \"a\"
        map = \"[., \\\"a\\\"]\"
        [[step]]
        name = \"b\"
        from = \"stdin\"
        map = \"[., \\\"b\\\"]\"
        [[step]]
        from = [\"a\", \"b\", \"stdin\"]
        combine_latest = { emit_on = [\"b\"] }";
    let seen = answers(steps, &numbers(&[1, 2, 3]));
    assert!(!seen.is_empty() && seen.len() <= 3);
    for array in &seen {
        let members = array.as_array().unwrap();
        assert_eq!((&members[0][1], &members[1][1]), (&json!("a"), &json!("b")), "{array}");
        assert!(members[2].is_i64(), "{array}");
    }
    let steps = "
        [[step]]
        name = \"a\"
        map = \".\"
        [[step]]
        from = [\"a\", \"stdin\"]
        zip_latest = {}";
    let first: Vec<Value> =
        answers(steps, &numbers(&[1, 2, 3])).iter().map(|pair| pair[0].clone()).collect();
    assert_eq!(first, numbers(&[1, 2, 3]), "every value of the first source, once and in order");
}

#[test]
fn a_loop_that_multiplies_its_values_fails_those_beyond_its_capacity() {
    let steps = "
        [[step]]
        from = [\"stdin\", \"again\"]
        union = {}
        [[step]]
        map = \"[. + 1, . + 1]\"
        [[step]]
        flatten = {}
        [[step]]
        name = \"over\"
        split = \". > 6\"
        [[step]]
        name = \"again\"
        from = \"over.false\"
        feedback = { capacity = 2 }
        [[step]]
        from = \"over.true\"
        map = \".\"";
    let seen = answers(steps, &numbers(&[0]));
    assert!(seen.contains(&json!("feedback_full")) && seen.len() < 64, "{seen:?}");
}

#[test]
fn a_value_that_no_step_lets_out_of_its_loop_fails_e5() {
    let steps = "
        [[step]]
        from = [\"stdin\", \"again\"]
        union = {}
        [[step]]
        name = \"over\"
        split = \". > 5\"
        [[step]]
        from = \"over.false\"
        map = \".\"
        [[step]]
        name = \"again\"
        feedback = { capacity = 2, max_turns = 100 }
        [[step]]
        from = \"over.true\"
        map = \".\"";
    let mut seen = answers(steps, &numbers(&[9, 1, 8, 2, 7]));
    seen.sort_by_key(Value::to_string);
    let turns = || json!("feedback_turns");
    assert_eq!(seen, [turns(), turns(), json!(7), json!(8), json!(9)]);
}

#[test]
fn a_signal_takes_the_values_before_it_when_both_come_from_one_source_e3() {
    let steps = "
        [[step]]
        name = \"values\"
        filter = \". != 0\"
        [[step]]
        name = \"ticks\"
        from = \"stdin\"
        filter = \". == 0\"
        [[step]]
        from = \"values\"
        collect = { flush = \"ticks\" }";
    let seen = answers(steps, &numbers(&[1, 2, 0, 3, 0]));
    assert_eq!(seen, [json!([1, 2]), json!([3])]);
}

#[test]
fn no_error_is_lost_while_an_earlier_value_waits_for_its_answer() {
    // The first value is not answered before the end. More failures than the buffer holds follow
    // it.
    let mut values = vec![json!(0)];
    values.extend((0..10_000).map(|_| json!("x")));
    let seen = step("partition = { size = 2, key = \". % 1\" }", &values);
    assert_eq!(seen.len(), values.len());
    assert_eq!(seen.iter().filter(|value| **value == json!([0])).count(), 1);
}
