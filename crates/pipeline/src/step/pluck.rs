//! `pluck`: picks one field, or several, of each value.

use forebay_stream::{Flow, Missing};
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::json::{Json, Pointer};

/// `pluck = "/user/name"`, `pluck = ["/id", "/user/name"]` or `pluck = { path = "/id", missing =
/// "null" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Pluck {
    /// The fields to pick. A list gives an array.
    path: Paths,
    /// The handling of a value without the field.
    #[serde(default)]
    missing: IfMissing,
}

/// JSON pointers (RFC 6901).
#[derive(Clone, Debug)]
pub(super) enum Paths {
    One(Pointer),
    Several(Vec<Pointer>),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IfMissing {
    /// The value fails, with `missing_field`.
    #[default]
    Fail,
    /// The field is `null`.
    Null,
}

impl From<Paths> for Pluck {
    fn from(path: Paths) -> Self {
        Self { path, missing: IfMissing::default() }
    }
}

impl Paths {
    fn find(&self, value: &Json, missing: IfMissing) -> Option<Json> {
        match self {
            Self::One(pointer) => value.at(pointer),
            Self::Several(pointers) => {
                let instead = || matches!(missing, IfMissing::Null).then(Json::default);
                let members = pointers.iter().map(|pointer| value.at(pointer).or_else(instead));
                members.collect::<Option<Vec<_>>>().map(Json::array)
            }
        }
    }
}

impl OnValues for Pluck {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let path = self.path.clone();
        let missing = self.missing;
        let otherwise = match missing {
            IfMissing::Fail => Missing::Fail,
            IfMissing::Null => Missing::Instead(Json::default()),
        };
        flow.pluck(move |value| path.find(value, missing), otherwise)
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OneOrSeveral;

        impl<'de> serde::de::Visitor<'de> for OneOrSeveral {
            type Value = Paths;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON pointer such as \"/user/name\", or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Paths, E> {
                text.parse().map(Paths::One).map_err(E::custom)
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Paths, A::Error> {
                let mut pointers = Vec::new();
                while let Some(text) = list.next_element::<String>()? {
                    pointers.push(text.parse().map_err(serde::de::Error::custom)?);
                }
                Ok(Paths::Several(pointers))
            }
        }

        deserializer.deserialize_any(OneOrSeveral)
    }
}
