//! Checks that `docs/operators.md` agrees with the operators in the code.

use std::collections::BTreeSet;
use std::path::Path;

use toml::de::DeTable;

use super::{BUILT_IN, Operator};
use crate::plan::Plan;

const PAGE: &str = include_str!("../../../../docs/operators.md");

/// Returns the cells of the operators' tables: name, Streamz, description, Rust, TOML.
fn rows() -> Vec<Vec<String>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| "));
    let cells = rows.map(|line| {
        // A bar within a cell is written `\|`.
        let line = line.replace("\\|", "\u{0}");
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().replace('\u{0}', "|")).collect::<Vec<_>>()
    });
    cells.filter(|cells| cells.len() == 5 && cells[0] != "operator").collect()
}

/// Returns the texts between backquotes.
fn code(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns whether the operator takes several flows.
fn is_join(name: &str, example: &str) -> bool {
    let Some((_, parse)) = BUILT_IN.iter().find(|(known, _)| *known == name) else { return false };
    let settings = DeTable::parse(example).unwrap().into_inner().remove(name).unwrap();
    matches!(parse(settings), Ok(Operator::Join(_)))
}

#[test]
fn every_operator_of_a_pipeline_file_has_a_row_whose_examples_parse() {
    let mut shown = BTreeSet::new();
    for row in rows() {
        for example in code(&row[4]) {
            let Some((name, _)) = example.split_once(" = ") else { continue };
            if name == "from" {
                continue;
            }
            shown.insert(name.to_owned());
            let joins = is_join(name, example);
            let step = match name {
                "split" => format!(
                    "name = \"NAME\"\n{example}\n[[step]]\nfrom = [\"NAME.true\", \"NAME.false\"]\nunion = {{}}"
                ),
                "feedback" => format!(
                    "from = [\"stdin\", \"back\"]\nunion = {{}}\n[[step]]\nname = \"way\"\nsplit = \".\"\n\
                     [[step]]\nname = \"back\"\nfrom = \"way.true\"\n{example}\n[[step]]\nfrom = \"way.false\"\nmap = \".\""
                ),
                "collect" => format!(
                    "name = \"a\"\nsplit = \".\"\n[[step]]\nname = \"ticks\"\nfrom = \"a.true\"\nmap = \".\"\n\
                     [[step]]\nfrom = \"a.false\"\n{example}"
                ),
                "map_batch" => format!("partition = 3\n[[step]]\n{example}"),
                _ if joins => format!(
                    "name = \"a\"\nmap = \".\"\n[[step]]\nname = \"b\"\nfrom = \"stdin\"\nmap = \".\"\n[[step]]\nfrom = [\"a\", \"b\"]\n{example}"
                ),
                _ => example.to_owned(),
            };
            let file = format!(
                "[source.stdin]\n[[step]]\n{step}\n[sink.stdout]\n[model.sentiment]\npath = \"x\"\n"
            );
            if let Err(error) = Plan::parse(Path::new(name), &file, &|_| None) {
                panic!("{error}");
            }
        }
    }
    let known: BTreeSet<String> = BUILT_IN.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(shown, known);
}

#[test]
fn the_page_names_every_operator_of_the_library_and_no_others() {
    let ops = Path::new(env!("CARGO_MANIFEST_DIR")).join("../stream/src");
    let mut methods = BTreeSet::new();
    for folder in ["ops", "source", "."] {
        for file in std::fs::read_dir(ops.join(folder)).unwrap() {
            let path = file.unwrap().path();
            let ends = ["source.rs", "sink.rs"].map(|name| path.ends_with(name));
            if path.is_dir() || folder == "." && !ends.contains(&true) {
                continue;
            }
            let text = std::fs::read_to_string(path).unwrap();
            methods.extend(flow_methods(&text));
        }
    }
    let is_named = |name: &str| {
        PAGE.contains(&format!("`{name}("))
            || PAGE.contains(&format!("`{name}`"))
            || PAGE.contains(&format!("::{name}"))
    };
    let missing: Vec<_> = methods.iter().filter(|name| !is_named(name)).collect();
    assert!(missing.is_empty(), "docs/operators.md does not name {missing:?}");

    let rust = rows().into_iter().flat_map(|row| {
        let names = code(&row[3]).into_iter().filter_map(|text| text.split_once('('));
        names.map(|(name, _)| name.to_owned()).collect::<Vec<_>>()
    });
    let unknown: Vec<_> = rust
        .filter(|name| !methods.contains(name) && name != "recent" && !name.starts_with("Flow::"))
        .collect();
    assert!(unknown.is_empty(), "docs/operators.md names {unknown:?}, which are not methods");
}

/// Returns the public methods of `Flow` and `Batches` in a file.
fn flow_methods(text: &str) -> BTreeSet<String> {
    let mut of_flow = false;
    let mut methods = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with("impl") {
            of_flow = line.contains(" Flow<") || line.contains(" Batches<");
        }
        if let Some(rest) = line.strip_prefix("    pub fn ")
            && of_flow
        {
            let name = rest.split(['(', '<']).next().unwrap_or_default();
            methods.insert(name.to_owned());
        }
    }
    methods
}
