//! `Options`: settings of librdkafka.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Settings of librdkafka, passed through unchanged. Dereferences to a map from names to values.
///
/// A setting that Forebay sets itself is rejected with an error that names it; everything else
/// (TLS, SASL, fetch sizes, ..) is allowed, see
/// <https://github.com/confluentinc/librdkafka/blob/v2.12.1/CONFIGURATION.md>. Values may be
/// passwords, so debug output shows only the names.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Options(BTreeMap<String, String>);

impl Options {
    /// No settings.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Deref for Options {
    type Target = BTreeMap<String, String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Options {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl From<BTreeMap<String, String>> for Options {
    fn from(options: BTreeMap<String, String>) -> Self {
        Self(options)
    }
}

impl<const N: usize> From<[(String, String); N]> for Options {
    fn from(options: [(String, String); N]) -> Self {
        Self(options.into())
    }
}

impl IntoIterator for Options {
    type Item = (String, String);
    type IntoIter = std::collections::btree_map::IntoIter<String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Options {
    type Item = (&'a String, &'a String);
    type IntoIter = std::collections::btree_map::Iter<'a, String, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use crate::{SinkConfig, SourceConfig};

    #[test]
    fn debug_output_has_names_and_no_values() {
        let mut source = SourceConfig::new("a:9092", "requests", "g");
        source.options.insert("sasl.password".into(), "hunter2".into());
        let mut sink = SinkConfig::new("a:9092", "replies");
        sink.options.insert("ssl.key.pem".into(), "hunter2".into());
        let shown = format!("{source:?} {source:#?} {sink:?} {sink:#?}");
        assert!(shown.contains("sasl.password") && shown.contains("ssl.key.pem"), "{shown}");
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
