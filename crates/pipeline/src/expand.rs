//! Expands `${NAME}`, `${file:PATH}` and defaults, as in `${NAME:-default}`, in a file's strings.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read as _};
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Problem;
use crate::secrets::Secrets;

/// Returns the value of an environment variable, or `None` if it is not set.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Defaults and paths may hold variables, up to this depth.
const MAX_DEPTH: usize = 8;

/// The strings of a file that held variables.
#[derive(Default)]
pub(crate) struct Expanded(Vec<ExpandedString>);

struct ExpandedString {
    /// Its place in the file.
    span: Range<usize>,
    text: String,
    secrets: Secrets,
}

thread_local! {
    /// The strings of the file that this thread reads.
    static CURRENT: RefCell<Rc<Expanded>> = RefCell::default();
}

/// Expands the variables in every string value of a table.
///
/// Strings are expanded after parsing, so a value can hold quotes and newlines, and positions in
/// error messages are those of the file. `$$` stands for one `$`.
pub(crate) fn expand(table: &mut DeTable<'_>, lookup: Lookup<'_>) -> Result<Expanded, Problem> {
    let mut expanded = Expanded::default();
    table.iter_mut().try_for_each(|(_, value)| expanded.expand(value, lookup))?;
    Ok(expanded)
}

/// Returns the values of the variables in the string at `span` of the file that this thread reads.
pub(crate) fn secrets_at(span: &Range<usize>) -> Secrets {
    CURRENT.with_borrow(|expanded| {
        let at = expanded.0.iter().find(|string| string.span == *span);
        at.map(|string| string.secrets.clone()).unwrap_or_default()
    })
}

/// Returns a string of the file that this thread reads, with variables in place of their values.
pub(crate) fn shown(string: &Spanned<String>) -> String {
    secrets_at(&string.span()).hide(string.get_ref(), "")
}

impl Expanded {
    /// Runs `read`, which reads the file with these strings on this thread.
    pub(crate) fn while_reading<T>(self: &Rc<Self>, read: impl FnOnce() -> T) -> T {
        let outer = CURRENT.replace(Rc::clone(self));
        let result = read();
        CURRENT.set(outer);
        result
    }

    /// Returns the values of all variables.
    pub(crate) fn secrets(&self) -> Secrets {
        let mut all = Secrets::default();
        self.0.iter().for_each(|string| all.extend(&string.secrets));
        all
    }

    /// Replaces the string at `span` by the number or boolean that it holds. Returns whether there
    /// is such a string.
    pub(crate) fn parse_at<'i>(&'i self, span: &Range<usize>, table: &mut DeTable<'i>) -> bool {
        let Some(string) = self.0.iter().find(|string| string.span == *span) else { return false };
        match DeValue::parse(string.text.trim()).map(Spanned::into_inner) {
            Ok(value @ (DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_))) => {
                table.iter_mut().any(|(_, member)| replace(member, span, &value))
            }
            _ => false,
        }
    }

    fn expand(
        &mut self,
        value: &mut Spanned<DeValue<'_>>,
        lookup: Lookup<'_>,
    ) -> Result<(), Problem> {
        let span = value.span();
        match value.get_mut() {
            DeValue::String(text) if text.contains('$') => {
                let mut expansion = Expansion { lookup, secrets: Secrets::default() };
                let expanded = expansion.text(text, MAX_DEPTH);
                let expanded = expanded.map_err(|problem| problem.at(span.clone()))?;
                if text.contains("${") {
                    let secrets = expansion.secrets;
                    self.0.push(ExpandedString { span, text: expanded.clone(), secrets });
                }
                *text = Cow::Owned(expanded);
                Ok(())
            }
            DeValue::Array(values) => {
                values.iter_mut().try_for_each(|value| self.expand(value, lookup))
            }
            DeValue::Table(table) => {
                table.iter_mut().try_for_each(|(_, value)| self.expand(value, lookup))
            }
            DeValue::String(_)
            | DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_) => Ok(()),
        }
    }
}

/// Puts `new` in place of the string at `span`. Returns whether there is one.
fn replace<'i>(value: &mut Spanned<DeValue<'i>>, span: &Range<usize>, new: &DeValue<'i>) -> bool {
    let is_there = value.span() == *span;
    match value.get_mut() {
        text @ DeValue::String(_) if is_there => {
            *text = new.clone();
            true
        }
        DeValue::Array(values) => values.iter_mut().any(|value| replace(value, span, new)),
        DeValue::Table(table) => table.iter_mut().any(|(_, value)| replace(value, span, new)),
        _ => false,
    }
}

/// The expansion of one string.
struct Expansion<'a> {
    lookup: Lookup<'a>,
    /// The values so far.
    secrets: Secrets,
}

impl Expansion<'_> {
    fn text(&mut self, text: &str, depth: usize) -> Result<String, Problem> {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(dollar) = rest.find('$') {
            expanded.push_str(&rest[..dollar]);
            rest = &rest[dollar + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some(after) = rest.strip_prefix('{') {
                let Some((expression, after)) = split_outside(after, "}") else {
                    return Err(Problem::anywhere("`${` is not closed by `}`")
                        .help("write `$$` for a plain `$`"));
                };
                let Some(depth) = depth.checked_sub(1) else {
                    let message = format_args!("variables are nested more than {MAX_DEPTH} deep");
                    return Err(Problem::anywhere(message));
                };
                expanded.push_str(&self.value_of(expression, depth)?);
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded.push_str(rest);
        Ok(expanded)
    }

    fn value_of(&mut self, expression: &str, depth: usize) -> Result<String, Problem> {
        let (name, default) = match split_outside(expression, ":-") {
            Some((name, default)) => (name, Some(default)),
            None => (expression, None),
        };
        if let Some(path) = name.strip_prefix("file:") {
            return match (read(&self.text(path, depth)?), default) {
                (Ok(text), _) => Ok(self.secret(name, text)),
                // A missing file gives the default, like an unset variable. A file that exists but
                // cannot be read is an error.
                (Err(error), Some(default)) if error.kind() == io::ErrorKind::NotFound => {
                    self.text(default, depth)
                }
                (Err(error), _) => {
                    let message = format_args!("the file {path} cannot be read: {error}");
                    Err(Problem::anywhere(message).help(format_args!(
                        "correct the path, or give a default: `${{{name}:-default}}`"
                    )))
                }
            };
        }
        let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if name.is_empty() || !name.chars().all(valid) {
            let problem = Problem::anywhere(format_args!("`{name}` is not a variable's name"));
            return Err(problem.help(
                "write `${NAME}`, `${NAME:-default}` or `${file:PATH}`, and `$$` for a plain `$`",
            ));
        }
        // As in a shell, `:-` gives the default for an empty variable too.
        match ((self.lookup)(name), default) {
            (Some(value), None) => Ok(self.secret(name, value)),
            (Some(value), Some(_)) if !value.is_empty() => Ok(self.secret(name, value)),
            (_, Some(default)) => self.text(default, depth),
            (None, None) => {
                let message = format_args!("the environment variable {name} is not set");
                Err(Problem::anywhere(message)
                    .help(format_args!("set it, or give a default: `${{{name}:-default}}`")))
            }
        }
    }

    fn secret(&mut self, name: &str, value: String) -> String {
        self.secrets.add(&value, format!("${{{name}}}"));
        value
    }
}

/// Splits a text at the first `separator` that is outside of a variable.
fn split_outside<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let mut depth = 0_usize;
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        if depth == 0 && rest.starts_with(separator) {
            let (before, _) = text.split_at(text.len() - rest.len());
            return Some((before, &rest[separator.len()..]));
        }
        let taken = if rest.starts_with("$$") {
            2
        } else if rest.starts_with("${") {
            depth += 1;
            2
        } else {
            depth = if next == '}' { depth.saturating_sub(1) } else { depth };
            next.len_utf8()
        };
        rest = &rest[taken..];
    }
    None
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

    use super::{Expansion, MAX_DEPTH, Secrets};

    fn expanded(text: &str) -> Result<String, String> {
        let lookup = |name: &str| match name {
            "HOST" => Some("kafka".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let mut expansion = Expansion { lookup: &lookup, secrets: Secrets::default() };
        expansion.text(text, MAX_DEPTH).map_err(|problem| problem.message)
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
    fn a_default_may_hold_variables_a10() {
        assert_eq!(expanded("${A:-${B:-c}}").unwrap(), "c");
        assert_eq!(expanded("${A:-${HOST}:${PORT:-9092}}!").unwrap(), "kafka:9092!");
        assert_eq!(expanded("${HOST:-${UNSET}}").unwrap(), "kafka", "an unused default");
        assert_eq!(expanded("${A:-$${B}}").unwrap(), "${B}");
        assert_eq!(expanded("${A:-{\"a\": 1}").unwrap(), "{\"a\": 1");
        assert_eq!(expanded("${file:/no/${EMPTY:-x}/y:-${HOST}}").unwrap(), "kafka");
        assert_eq!(expanded("${A:-${B}}").unwrap_err(), "the environment variable B is not set");
        assert_eq!(expanded("${A${HOST}}").unwrap_err(), "`A${HOST}` is not a variable's name");
        assert_eq!(expanded("${A:-${B:-c}").unwrap_err(), "`${` is not closed by `}`");
        let deep = |depth: usize| "${A:-".repeat(depth) + "x" + &"}".repeat(depth);
        assert_eq!(expanded(&deep(MAX_DEPTH)).unwrap(), "x");
        let error = expanded(&deep(100_000)).unwrap_err();
        assert_eq!(error, "variables are nested more than 8 deep");
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
