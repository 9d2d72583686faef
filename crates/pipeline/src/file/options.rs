//! `OptionsTable`: librdkafka's own settings.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// The table `options`: names and values of librdkafka's settings. Does not implement `Debug`,
/// because a value may be a secret.
///
/// librdkafka takes all values as texts, so numbers and booleans are turned into texts. The names
/// have dots: without quotes, TOML reads `session.timeout.ms = 6000` as tables in tables, whose
/// names are joined again.
#[derive(Default)]
pub(crate) struct OptionsTable(pub(crate) BTreeMap<String, String>);

enum Node {
    Text(String),
    Table(BTreeMap<String, Node>),
}

impl<'de> Deserialize<'de> for OptionsTable {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = BTreeMap::<String, Node>::deserialize(deserializer)?;
        let mut options = Self::default();
        match options.add("", table) {
            Ok(()) => Ok(options),
            Err(twice) => Err(de::Error::custom(format_args!(
                "`{twice}` is set twice; leave one of them out"
            ))),
        }
    }
}

impl OptionsTable {
    /// Adds the options of a table. Returns the name of one that is there already.
    fn add(&mut self, prefix: &str, table: BTreeMap<String, Node>) -> Result<(), String> {
        for (key, node) in table {
            let name = format!("{prefix}{key}");
            match node {
                Node::Table(inside) => self.add(&format!("{name}."), inside)?,
                Node::Text(value) => {
                    if self.0.insert(name.clone(), value).is_some() {
                        return Err(name);
                    }
                }
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number or a boolean")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Text(value.to_string()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut table = BTreeMap::new();
        while let Some((key, node)) = map.next_entry()? {
            table.insert(key, node);
        }
        Ok(Node::Table(table))
    }
}
