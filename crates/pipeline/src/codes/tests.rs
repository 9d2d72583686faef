//! Checks that docs/errors.md lists the failure codes of all crates.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use forebay_stream::Code;

const PAGE: &str = include_str!("../../../../docs/errors.md");

const CRATES: [(&str, &[Code]); 5] = [
    ("stream", forebay_stream::codes::ALL),
    ("kafka", forebay_kafka::codes::ALL),
    ("http", forebay_http::codes::ALL),
    ("model", forebay_model::codes::ALL),
    ("pipeline", super::ALL),
];

fn all() -> impl Iterator<Item = Code> {
    CRATES.into_iter().flat_map(|(_, codes)| codes.iter().copied())
}

/// Returns the table that the page should have, sorted by code.
fn table() -> String {
    let rows: BTreeMap<_, _> = all().map(|code| (code.name(), code)).collect();
    let rows = rows.into_values().map(|code| {
        let passes = if code.is_transient() { " yes |" } else { " |" };
        format!("| `{}` | {} |{passes}\n", code.name(), code.meaning())
    });
    format!("| code | meaning | passes |\n|---|---|---|\n{}", rows.collect::<String>())
}

#[test]
fn the_page_lists_every_code_with_its_meaning() {
    let (_, codes) = PAGE.split_once("\n## Codes\n").unwrap();
    let shown: String = codes.split_inclusive('\n').filter(|line| line.starts_with('|')).collect();
    let expected = table();
    assert!(shown == expected, "docs/errors.md should have this table:\n\n{expected}");
}

#[test]
fn every_code_is_defined_once() {
    let mut names: Vec<_> = all().map(Code::name).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).collect();
    assert!(twice.is_empty(), "{twice:?}");
}

#[test]
fn every_constant_is_in_the_list_of_its_crate() {
    for (name, codes) in CRATES {
        let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let source = fs::read_to_string(crates.join(name).join("src/codes.rs")).unwrap();
        assert_eq!(source.matches(": Code =").count(), codes.len(), "{name}");
    }
}

#[test]
fn every_meaning_is_one_sentence_for_a_cell_of_the_table() {
    for code in all() {
        let (name, meaning) = (code.name(), code.meaning());
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert!(meaning.starts_with(|c: char| c.is_uppercase()), "{name}: {meaning}");
        assert!(meaning.ends_with('.') && !meaning.contains(". "), "{name}: {meaning}");
        assert!(!meaning.contains(['|', '\n']), "{name}: {meaning}");
    }
}
