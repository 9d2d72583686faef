//! `Secrets`: the values of variables, which messages name and do not show.

use std::fmt;

/// Values of variables. Any of them may be a password, so messages show `${NAME}` instead.
#[derive(Clone, Default)]
pub(crate) struct Secrets(Vec<Secret>);

#[derive(Clone)]
struct Secret {
    value: String,
    /// The variable as messages show it, such as `${NAME}`.
    shown: String,
}

/// A shorter value is hidden only where it is a whole word. Otherwise a value such as `a` would make
/// messages unreadable.
const LONG: usize = 4;

impl Secrets {
    pub(crate) fn add(&mut self, value: &str, shown: String) {
        if value.is_empty() {
            return;
        }
        self.0.push(Secret { value: value.to_owned(), shown: shown.clone() });
        // Messages may show a text as Rust writes it.
        let escaped = value.escape_debug().to_string();
        if escaped != value {
            self.0.push(Secret { value: escaped, shown });
        }
        // If one value is part of another, the longer one is hidden.
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
    }

    pub(crate) fn extend(&mut self, others: &Self) {
        self.0.extend_from_slice(&others.0);
        self.0.sort_by_key(|secret| std::cmp::Reverse(secret.value.len()));
    }

    /// Returns the text with variables in place of their values. Texts in quotes that are a part of
    /// a value are hidden too, unless `file` has them: an error in an expression shows only the part
    /// of it that is wrong.
    pub(crate) fn hide(&self, text: &str, file: &str) -> String {
        if self.0.is_empty() {
            return text.to_owned();
        }
        let mut hidden = self.hide_values(text);
        for quote in ["`", "\""] {
            let parts = hidden.split(quote).enumerate().map(|(number, part)| {
                let is_quoted = number % 2 == 1;
                match self.0.iter().find(|secret| is_quoted && secret.covers(part)) {
                    Some(secret) if !file.contains(part) => secret.shown.as_str(),
                    _ => part,
                }
            });
            hidden = parts.collect::<Vec<_>>().join(quote);
        }
        hidden
    }

    fn hide_values(&self, text: &str) -> String {
        let mut hidden = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(next) = rest.chars().next() {
            let found = self.0.iter().find(|secret| secret.begins(rest, hidden.chars().last()));
            if let Some(secret) = found {
                hidden.push_str(&secret.shown);
                rest = &rest[secret.value.len()..];
            } else {
                hidden.push(next);
                rest = &rest[next.len_utf8()..];
            }
        }
        hidden
    }
}

impl Secret {
    /// Returns whether `text`, which follows the character `before`, begins with the value.
    fn begins(&self, text: &str, before: Option<char>) -> bool {
        let Some(after) = text.strip_prefix(self.value.as_str()) else { return false };
        let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        self.value.len() >= LONG || !in_word(before) && !in_word(after.chars().next())
    }

    /// Returns whether `part` is in the value, or begins with its end, or ends with its beginning.
    fn covers(&self, part: &str) -> bool {
        let edges = || {
            let value = &self.value;
            value.char_indices().skip(1).map(|(at, _)| value.split_at(at)).any(|(start, end)| {
                (end.len() >= LONG && part.starts_with(end))
                    || (start.len() >= LONG && part.ends_with(start))
            })
        };
        !part.trim().is_empty() && (self.value.contains(part) || edges())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|secret| &secret.shown)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Secrets;

    fn secrets(values: &[(&str, &str)]) -> Secrets {
        let mut secrets = Secrets::default();
        for (name, value) in values {
            secrets.add(value, format!("${{{name}}}"));
        }
        secrets
    }

    #[test]
    fn a_value_and_its_quoted_parts_are_hidden_a12() {
        let hide = |text| secrets(&[("S", "hunter2 | \"x\""), ("A", "a")]).hide(text, "[step] map");
        assert_eq!(hide("no \"hunter2 | \\\"x\\\"\" here"), "no \"${S}\" here");
        assert_eq!(hide("at `hunter2`, not `map`"), "at `${S}`, not `map`");
        assert_eq!(hide("a name, `a`"), "${A} name, `${A}`");
        assert_eq!(hide("expected `ter2 | \"x\" ++`"), "expected `${S}`");
        assert_eq!(format!("{:?}", secrets(&[("S", "hunter2")])), "[\"${S}\"]");
    }

    proptest! {
        #[test]
        fn fuzz_no_text_shows_a_long_value_a12(
            value in "[0-9a-z\"` é]{4,12}", before: String, after: String,
        ) {
            let text = format!("{before}{value}{after}");
            let hidden = secrets(&[("S", &value)]).hide(&text, "");
            prop_assume!(!before.contains(&value) && !after.contains(&value));
            prop_assert!(!hidden.contains(&value), "{hidden}");
        }
    }
}
