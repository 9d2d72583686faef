//! Expands `${NAME}`, `${file:PATH}` and defaults, as in `${NAME:-default}`, in a file's strings.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Problem;

/// Returns the value of an environment variable, or `None` if it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands the variables in every string value of a table.
///
/// Strings are expanded after parsing, so a value can hold quotes and newlines, positions in error
/// messages are those of the file, and the value of a variable (a password, for example) is not
/// part of any message. `$$` stands for one `$`.
pub(crate) fn expand(table: &mut DeTable<'_>, lookup: Lookup<'_>) -> Result<(), Problem> {
    table.iter_mut().try_for_each(|(_, value)| expand_value(value, lookup))
}

fn expand_value(value: &mut Spanned<DeValue<'_>>, lookup: Lookup<'_>) -> Result<(), Problem> {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) => {
            if text.contains('$') {
                *text = Cow::Owned(expand_text(text, &span, lookup)?);
            }
            Ok(())
        }
        DeValue::Array(values) => {
            values.iter_mut().try_for_each(|value| expand_value(value, lookup))
        }
        DeValue::Table(table) => expand(table, lookup),
        DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            Ok(())
        }
    }
}

fn expand_text(text: &str, span: &Range<usize>, lookup: Lookup<'_>) -> Result<String, Problem> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        rest = &rest[dollar + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some(after) = rest.strip_prefix('{') {
            let Some((expression, after)) = after.split_once('}') else {
                return Err(Problem::new("`${` is not closed by `}`", span.clone())
                    .help("write `$$` for a plain `$`"));
            };
            expanded.push_str(&value_of(expression, span, lookup)?);
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn value_of(expression: &str, span: &Range<usize>, lookup: Lookup<'_>) -> Result<String, Problem> {
    let (name, default) = match expression.split_once(":-") {
        Some((name, default)) => (name, Some(default)),
        None => (expression, None),
    };
    if let Some(path) = name.strip_prefix("file:") {
        return match (read(path), default) {
            (Ok(text), _) => Ok(text),
            // A missing file gives the default, like an unset variable. A file that exists but
            // cannot be read is an error.
            (Err(error), Some(default)) if error.kind() == io::ErrorKind::NotFound => {
                Ok(default.to_owned())
            }
            (Err(error), _) => {
                let message = format_args!("the file {path} cannot be read: {error}");
                Err(Problem::new(message, span.clone()))
            }
        };
    }
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        let problem = Problem::new(format_args!("`{name}` is not a variable's name"), span.clone());
        return Err(problem.help(
            "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`, and `$$` for a plain `$`",
        ));
    }
    // As in a shell, `:-` gives the default for an empty variable too.
    match (lookup(name), default) {
        (Some(value), None) => Ok(value),
        (Some(value), Some(_)) if !value.is_empty() => Ok(value),
        (_, Some(default)) => Ok(default.to_owned()),
        (None, None) => {
            let problem = Problem::new(
                format_args!("the environment variable {name} is not set"),
                span.clone(),
            );
            Err(problem.help(format_args!("set it, or give a default: `${{{name}:-default}}`")))
        }
    }
}

/// Reads a file's text without its last line break, which editors and `echo` add.
fn read(path: &str) -> io::Result<String> {
    // Bounds the reading of files without an end, such as devices. Secrets and certificates are
    // far smaller.
    const LARGEST: u64 = 1 << 20;
    let mut text = String::new();
    File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it has more than {LARGEST} bytes")));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    Ok(line.strip_suffix('\r').filter(|_| line.len() < text.len()).unwrap_or(line).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::expand_text;

    fn expanded(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        expand_text(text, &(0..0), &lookup).map_err(|problem| problem.message)
    }

    #[test]
    fn variables_are_replaced_as_a_shell_would() {
        assert_eq!(expanded("${HOST}:${PORT:-9092}").unwrap(), "kafka:9092");
        assert_eq!(expanded("${EMPTY:-x}${EMPTY}${PORT:-}").unwrap(), "x");
        assert_eq!(expanded("$$HOST $5 $${HOST} $").unwrap(), "$HOST $5 ${HOST} $");
    }

    #[test]
    fn a_variable_that_cannot_be_expanded_is_an_error() {
        assert_eq!(expanded("${PORT}").unwrap_err(), "the environment variable PORT is not set");
        assert_eq!(expanded("a ${HOST").unwrap_err(), "`${` is not closed by `}`");
        assert_eq!(expanded("${a b}").unwrap_err(), "`a b` is not a variable's name");
    }

    #[test]
    fn a_file_expands_to_its_text_without_the_last_line_break() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        let file = format!("<${{file:{}}}>", path.display());
        for (text, expected) in [
            ("s3cret$${HOST}", "<s3cret$${HOST}>"),
            ("s3cret\n", "<s3cret>"),
            ("s3cret\r\n", "<s3cret>"),
            ("s3cret\r", "<s3cret\r>"),
            (" two\nlines \n\n", "< two\nlines \n>"),
            ("\n", "<>"),
            ("", "<>"),
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(expanded(&file).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn an_error_names_the_file_and_does_not_show_its_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).display().to_string();
        let missing = path("missing");
        let error = expanded(&format!("${{file:{missing}}}")).unwrap_err();
        assert!(
            error.starts_with(&format!("the file {missing} cannot be read: No such")),
            "{error}"
        );
        assert_eq!(expanded(&format!("${{file:{missing}:-other}}")).unwrap(), "other");

        std::fs::write(path("binary"), b"s3cret\xff").unwrap();
        std::fs::write(path("large"), "s3cret".repeat(1 << 18)).unwrap();
        for (path, why) in [
            (path("binary"), "UTF-8"),
            (path("large"), "more than"),
            (path("."), "directory"),
            (path("a\0b"), ""),
            (String::new(), ""),
        ] {
            // A default applies to a missing file only.
            let error = expanded(&format!("${{file:{path}:-}}"));
            let Err(error) = error else {
                assert_eq!(path, "", "an empty path is a missing file");
                continue;
            };
            assert!(error.contains(why) && !error.contains("s3cret"), "{path:?} {error}");
        }
    }

    proptest! {
        #[test]
        fn fuzz_any_text_is_expanded_or_rejected(text: String) {
            let result = expanded(&text);
            if !text.contains('$') {
                prop_assert_eq!(result, Ok(text));
            }
        }
    }
}
