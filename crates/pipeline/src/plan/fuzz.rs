//! Random pipeline files, most of them nearly valid, give a plan or a diagnostic that names the
//! file, and never a panic.

use std::path::Path;

use proptest::prelude::*;

use super::Plan;

/// The shipped files, and one with the settings that these do not have.
const FILES: [&str; 10] = [
    include_str!("../../../../config/dead-letters.toml"),
    include_str!("../../../../config/embed.toml"),
    include_str!("../../../../config/exactly-once.toml"),
    include_str!("../../../../config/files.toml"),
    include_str!("../../../../config/http.toml"),
    include_str!("../../../../config/lines.toml"),
    include_str!("../../../../config/one-by-one.toml"),
    include_str!("../../../../config/sentiment.toml"),
    include_str!("../../../../config/triage.toml"),
    concat!(
        "delivery = \"exactly_once\"\norder = \"key\"\n[source.kafka]\nbrokers = \"a:9092\"\ntopic = \"in\"\ngroup = \"g\"\n",
        "[[step]]\nname = \"é\"\nsplit = \".a\"\n[[step]]\nfrom = [\"é.true\", \"é.false\"]\nunion = {}\n",
        "[[step]]\nrate_limit = \"5ms\"\n[sink.kafka]\ntopic = \"out\"\n[transactions]\nid = \"x\"\n[on_failure]\n",
        "policy = { dead_letter = { topic = \"dead\", reply = true } }\nretry = { attempts = 3, backoff = \"1ms\" }\n",
        "breaker = { ratio = 0.5, of = 100 }\n",
    ),
];

/// Pieces that an editing mistake or a merge may leave in a file.
const PIECES: [&str; 40] = [
    "\"",
    "'",
    "\"\"\"",
    "[",
    "]",
    "[[",
    "]]",
    "{",
    "}",
    "=",
    ",",
    ".",
    "#",
    "\n",
    "\r\n",
    "\t",
    "\u{0}",
    "é",
    "\u{202e}",
    "-1",
    "0",
    "1e400",
    "9223372036854775807",
    "true",
    "inf",
    "\"0s\"",
    "\"99999999999999999999y\"",
    "${HOST}",
    "${",
    "$$",
    "${file:/}",
    "[[step]]\n",
    "map = \".\"\n",
    "from = \"stdin\"\n",
    "feedback = { capacity = 1 }\n",
    "name = \"a\"\n",
    "[sink.drop]\n",
    "[source.stdin]\n",
    "partition = { size = 2 }\n",
    "policy = \"stop\"\n",
];

#[derive(Clone, Debug)]
enum Change {
    Insert(usize),
    Delete(usize),
    Repeat(usize),
    Swap(prop::sample::Index),
    Replace(char),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..PIECES.len()).prop_map(Change::Insert),
        (1..20_usize).prop_map(Change::Delete),
        (1..60_usize).prop_map(Change::Repeat),
        any::<prop::sample::Index>().prop_map(Change::Swap),
        any::<char>().prop_map(Change::Replace),
    ]
}

fn changed(text: &str, changes: &[(prop::sample::Index, Change)]) -> String {
    let mut text: Vec<char> = text.chars().collect();
    for (at, change) in changes {
        let at = at.index(text.len() + 1);
        match change {
            Change::Insert(piece) => drop(text.splice(at..at, PIECES[*piece].chars())),
            Change::Delete(count) => drop(text.drain(at..text.len().min(at + count))),
            Change::Repeat(count) => {
                let part = text[at..text.len().min(at + count)].to_vec();
                drop(text.splice(at..at, part));
            }
            Change::Swap(other) => {
                let mut lines: Vec<String> =
                    text.iter().collect::<String>().lines().map(str::to_owned).collect();
                if !lines.is_empty() {
                    let one = at % lines.len();
                    let other = other.index(lines.len());
                    lines.swap(one, other);
                }
                text = lines.join("\n").chars().collect();
            }
            Change::Replace(other) => drop(text.splice(at..text.len().min(at + 1), [*other])),
        }
    }
    text.into_iter().collect()
}

/// Parses the text, and checks that an error names the file.
fn check(text: &str) {
    let lookup = |name: &str| (name == "HOST").then(|| "kafka".to_owned());
    match Plan::parse(Path::new("pipeline.toml"), text, &lookup) {
        // Every plan can be drawn.
        Ok(plan) => assert!(!plan.graph().nodes().is_empty()),
        Err(error) => {
            let error = error.to_string();
            assert!(error.contains("pipeline.toml") && error.starts_with("error: "), "{error}");
        }
    }
}

/// Replaces some of the numbers in a text, also those in strings and names.
fn with_huge_numbers(text: &str, places: &[prop::sample::Index], huge: &str) -> String {
    let is_digit = |at: usize| text.as_bytes()[at].is_ascii_digit();
    let starts: Vec<usize> =
        (0..text.len()).filter(|&at| is_digit(at) && (at == 0 || !is_digit(at - 1))).collect();
    let mut chosen: Vec<usize> = match starts.as_slice() {
        [] => Vec::new(),
        starts => places.iter().map(|place| starts[place.index(starts.len())]).collect(),
    };
    chosen.sort_unstable();
    chosen.dedup();
    let mut changed = text.to_owned();
    for at in chosen.into_iter().rev() {
        let digits = changed[at..].bytes().take_while(u8::is_ascii_digit).count();
        changed.replace_range(at..at + digits, huge);
    }
    changed
}

/// A file with the numbers that the shipped files do not have.
const NUMBERS: &str = "[source.interval]\nevery = \"1ms\"\ncount = 2\n[[step]]\nbuffer = 3\n[[step]]\ndelay = { by = \"1ms\", capacity = 2 }\n\
    [[step]]\nsliding_window = { size = 2, step = 1 }\n[[step]]\nflatten = {}\n[[step]]\nunique = { capacity = 2 }\n\
    [[step]]\nslice = { start = 1, end = 5, step = 2 }\n[[step]]\nrate_limit = { interval = \"1ms\", burst = 2 }\n\
    [[step]]\nmap_async = { jq = \".\", parallelism = 2 }\n[[step]]\ntap = 2\n[[step]]\nfrequencies = { capacity = 3 }\n\
    [[step]]\nname = \"b\"\nbranch = { capacity = 2 }\n[[step]]\nfrom = [\"b\", \"b\"]\nzip = { capacity = 2 }\n\
    [[step]]\nadaptive_window = { max_size = 3, max_wait = \"1ms\", max_tokens = 5 }\n[[step]]\nmap_batch = { model = \"m\" }\n\
    [[step]]\npartition_unique = 2\n[sink.drop]\n[model.m]\npath = \"m\"\nreplicas = 1\nthreads = 2\nmax_tokens = 3\n\
    dimensions = 4\ntop_k = 2\n";

#[test]
fn the_file_with_the_other_numbers_is_valid_d4() {
    if let Err(error) = Plan::parse(Path::new("numbers.toml"), NUMBERS, &|_| None) {
        panic!("{error}");
    }
}

proptest! {
    #[test]
    fn fuzz_huge_numbers_are_a_plan_or_an_error_d4(
        file in prop::sample::select(FILES.iter().copied().chain([NUMBERS]).collect::<Vec<_>>()),
        places in prop::collection::vec(any::<prop::sample::Index>(), 1..4),
        huge in prop::sample::select(vec![
            "9223372036854775807", "10000000", "100000", "4294967296", "18446744073709551615", "-9223372036854775808",
            "99999999999999999999999999999999999999999999", "0",
        ]),
    ) {
        check(&with_huge_numbers(file, &places, huge));
    }

    #[test]
    fn fuzz_any_text_is_a_plan_or_an_error(text: String) {
        check(&text);
    }

    #[test]
    fn fuzz_a_changed_file_is_a_plan_or_an_error(
        file in prop::sample::select(&FILES[..]),
        changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4),
    ) {
        check(&changed(file, &changes));
    }

    #[test]
    fn fuzz_random_pieces_are_a_plan_or_an_error(pieces in prop::collection::vec(prop::sample::select(&PIECES[..]), 0..24)) {
        check(&pieces.concat());
    }
}
