//! `Places`: where the keys of a table are in the file, for mistakes that only the whole table shows.

use std::ops::Range;

use toml::Spanned;
use toml::de::DeValue;

/// The places of a table and of its keys.
pub(crate) struct Places {
    pub(crate) table: Range<usize>,
    keys: Vec<(String, Range<usize>)>,
}

impl Places {
    pub(crate) fn of(table: &Spanned<DeValue<'_>>) -> Self {
        let mut places = Self { table: table.span(), keys: Vec::new() };
        places.add(table.get_ref(), None);
        places
    }

    /// Returns the place of the key that the message names first, or that of the table.
    pub(crate) fn named_in(&self, message: &str) -> Range<usize> {
        let named = self.keys.iter().filter_map(|(name, place)| Some((at(message, name)?, place)));
        named.min_by_key(|(at, _)| *at).map_or(&self.table, |(_, place)| place).clone()
    }

    /// Adds the keys of a table. The names of librdkafka's options have dots, so they may be written
    /// as tables in tables. Inside of `options`, `prefix` is the first part of the name.
    fn add(&mut self, table: &DeValue<'_>, prefix: Option<&str>) {
        let DeValue::Table(members) = table else { return };
        for (key, value) in members {
            let name = format!("{}{}", prefix.unwrap_or_default(), key.get_ref());
            if value.get_ref().is_table() {
                let inside = match prefix {
                    Some(_) => Some(format!("{name}.")),
                    None => (name == "options").then(String::new),
                };
                self.add(value.get_ref(), inside.as_deref());
            } else {
                self.keys.push((name, key.span().start..value.span().end));
            }
        }
    }
}

/// Returns where the message has the name as a whole word.
fn at(message: &str, name: &str) -> Option<usize> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = message.match_indices(name);
    let found = found.find(|(at, _)| {
        let after = &message[*at + name.len()..];
        // A dot belongs to a name unless it ends a sentence.
        let goes_on = after.strip_prefix('.').unwrap_or(after).starts_with(in_word);
        !message[..*at].ends_with(|c: char| in_word(c) || c == '.') && !goes_on
    });
    found.map(|(at, _)| at)
}
