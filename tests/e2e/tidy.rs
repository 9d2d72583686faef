//! Rules for the text of the sources that neither rustfmt nor clippy checks.

use std::fs;
use std::path::{Path, PathBuf};

use crate::binary::root;

/// First words of comments that do not name their subject.
const VAGUE: [&str; 5] = ["What ", "Whoever ", "Of ", "So many ", "That one "];

/// Largest number of comments that begin with "Whether". The word describes booleans only. The test
/// cannot tell them from other values, so it counts.
const MAX_WHETHER: usize = 160;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Files that hold tests only, beside the folders `tests` and `examples`.
const TEST_FILES: [&str; 5] =
    ["tests.rs", "fuzz.rs", "differences.rs", "model_check.rs", "testing.rs"];

/// Returns the lines of a source file before its tests, without the comments.
fn code(text: &str) -> String {
    let (code, _) = text.split_once("#[cfg(test)]").unwrap_or((text, ""));
    let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn failures_have_codes_that_the_docs_list() {
    let mut files = Vec::new();
    sources(&root().join("crates"), &mut files);
    files.retain(|file| {
        let path = file.strip_prefix(root()).unwrap();
        let is_in = |folder| path.iter().any(|part| part == folder);
        !TEST_FILES.iter().any(|name| path.ends_with(name)) && !is_in("tests") && !is_in("examples")
    });
    let mut calls = 0;
    let mut literals = Vec::new();
    for file in files {
        let code = code(&fs::read_to_string(&file).unwrap());
        for call in code.split("Failure::new(").skip(1) {
            calls += 1;
            if call.trim_start().starts_with('"') {
                let call = call.trim_start().lines().next().unwrap_or_default();
                literals.push(format!("{}: Failure::new({call}", file.display()));
            }
        }
    }
    assert!(calls >= 30, "only {calls} calls were found");
    let literals = literals.join("\n");
    assert!(literals.is_empty(), "use constants of the crate's module `codes`:\n{literals}");
}

#[test]
fn comments_name_their_subject() {
    let mut files = Vec::new();
    for folder in ["crates", "tests", "bench"] {
        sources(&root().join(folder), &mut files);
    }
    let mut vague = Vec::new();
    let mut whether = 0;
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        for (number, line) in text.lines().enumerate() {
            let Some(comment) = line.trim_start().strip_prefix("//") else { continue };
            let comment = comment.trim_start_matches(['/', '!', ' ']);
            whether += usize::from(comment.starts_with("Whether "));
            if VAGUE.iter().any(|opening| comment.starts_with(opening)) {
                vague.push(format!("{}:{}: {line}", file.display(), number + 1));
            }
        }
    }
    assert!(vague.is_empty(), "name the subject of these comments:\n{}", vague.join("\n"));
    assert!(whether <= MAX_WHETHER, "{whether} comments open with \"Whether\"");
}
