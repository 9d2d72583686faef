//! `${NAME}` and `${NAME:-default}` in a file's strings.

use std::borrow::Cow;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::Problem;

/// Looks a variable up.
pub(crate) type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Expands the variables in every string value of a table.
///
/// Strings are expanded after parsing, so a value can hold quotes and newlines, positions in error messages are those
/// of the file, and what a variable holds (a password, say) is not part of any message. `$$` stands for one `$`.
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
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(valid) {
        let problem = Problem::new(format_args!("`{name}` is not a variable's name"), span.clone());
        return Err(problem.help("write `${NAME}` or `${NAME:-default}`, and `$$` for a plain `$`"));
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
    fn what_cannot_be_replaced_is_said() {
        assert_eq!(expanded("${PORT}").unwrap_err(), "the environment variable PORT is not set");
        assert_eq!(expanded("a ${HOST").unwrap_err(), "`${` is not closed by `}`");
        assert_eq!(expanded("${a b}").unwrap_err(), "`a b` is not a variable's name");
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_or_rejected(text: String) {
            let result = expanded(&text);
            if !text.contains('$') {
                prop_assert_eq!(result, Ok(text));
            }
        }
    }
}
