//! `Path`: the place in a value at which a model's result is put.

use std::fmt;
use std::str::FromStr;

use forebay_stream::Failure;
use jaq_json::{Map, Rc, Val};
use serde::{Deserialize, Deserializer, de};

use crate::codes;
use crate::json::Json;

/// A path of fields, as jq writes it: `.sentiment`, `.review.score` or `.["two words"].score`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(Vec<String>);

impl Path {
    /// Returns the path with `_error` added to the name of its last field.
    pub(super) fn with_error_suffix(&self) -> Self {
        let mut fields = self.0.clone();
        if let Some(last) = fields.last_mut() {
            last.push_str("_error");
        }
        Self(fields)
    }

    /// Fails if `value` has, above the last field of the path, a value that is neither an object
    /// nor null, because nothing can be put below it.
    pub(super) fn check(&self, value: &Json) -> Result<(), Failure> {
        let mut value = &value.0;
        for (depth, field) in self.0.iter().enumerate() {
            value = match value {
                Val::Null => return Ok(()),
                Val::Obj(fields) => match fields.get(&Val::utf8_str(field.clone())) {
                    Some(value) => value,
                    None => return Ok(()),
                },
                other => {
                    let kind = Json(other.clone()).kind();
                    let parent = match depth {
                        0 => "the value".to_owned(),
                        depth => format!("`{}`", Self(self.0[..depth].to_vec())),
                    };
                    let message =
                        format_args!("the result cannot be put at `{self}`: {parent} is {kind}");
                    return Err(Failure::new(codes::INVALID_TYPE, message));
                }
            };
        }
        Ok(())
    }

    /// Puts `result` at the path in `value`, and replaces the value that is there. Missing objects
    /// on the path are created.
    pub(super) fn put(&self, value: Json, result: Json) -> Result<Json, Failure> {
        self.check(&value)?;
        let Json(mut root) = value;
        let mut place = &mut root;
        for field in &self.0 {
            if matches!(place, Val::Null) {
                *place = Val::obj(Map::default());
            }
            let Val::Obj(fields) = place else { unreachable!("`check` found an object or null") };
            place = Rc::make_mut(fields).entry(Val::utf8_str(field.clone())).or_default();
        }
        *place = result.0;
        Ok(Json(root))
    }
}

/// Whether a path can hold the field without quotes.
fn is_plain(field: &str) -> bool {
    field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !field.is_empty()
        && !field.starts_with(|c: char| c.is_ascii_digit())
}

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("`{text}` is not a path of fields; write `.sentiment`, `.a.b` or `.[\"a b\"]`")
        };
        let mut fields = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            rest = rest.strip_prefix('.').unwrap_or(rest);
            if let Some(quoted) = rest.strip_prefix('[') {
                let mut strings = serde_json::Deserializer::from_str(quoted).into_iter::<String>();
                fields.push(strings.next().and_then(Result::ok).ok_or_else(wrong)?);
                let end = strings.byte_offset();
                rest = quoted[end..].strip_prefix(']').ok_or_else(wrong)?;
                continue;
            }
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            if !is_plain(field) || !text.starts_with('.') {
                return Err(wrong());
            }
            fields.push(field.to_owned());
            rest = after;
        }
        if fields.is_empty() { Err(wrong()) } else { Ok(Self(fields)) }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for field in &self.0 {
            if is_plain(field) {
                write!(f, ".{field}")?;
            } else {
                write!(f, ".[{}]", Json::text(field))?;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Path {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Path;
    use crate::json::Json;

    fn put(path: &str, value: &str) -> String {
        let value = Json::parse(value.as_bytes()).unwrap();
        let put = path.parse::<Path>().unwrap().put(value, Json::from(1_u64));
        put.map_or_else(|failure| failure.to_string(), |json| json.to_string())
    }

    #[test]
    fn a_result_is_put_where_the_path_points() {
        assert_eq!(put(".a", "{\"b\": 2}"), "{\"b\":2,\"a\":1}");
        assert_eq!(put(".b", "{\"b\": 2, \"a\": 3}"), "{\"b\":1,\"a\":3}", "keys keep their order");
        assert_eq!(put(".a.b", "{}"), "{\"a\":{\"b\":1}}");
        assert_eq!(put(".a.b", "{\"a\": null}"), "{\"a\":{\"b\":1}}");
        assert_eq!(put(".[\"two words\"].b", "null"), "{\"two words\":{\"b\":1}}");
    }

    #[test]
    fn a_result_cannot_be_put_below_a_value_that_is_not_an_object() {
        assert_eq!(
            put(".a.b", "{\"a\": \"text\"}"),
            "invalid_type: the result cannot be put at `.a.b`: `.a` is a string"
        );
        assert_eq!(
            put(".a", "[1]"),
            "invalid_type: the result cannot be put at `.a`: the value is an array"
        );
        assert_eq!(put(".a", "{\"a\": [1]}"), "{\"a\":1}", "the last field may hold anything");
    }

    #[test]
    fn a_path_of_anything_but_fields_is_refused() {
        for wrong in
            ["", ".", "a", "a.b", ".a b", ".[0]", ".a | .b", ".a[]", "..a", ".9", ".[\"a\"", ".a."]
        {
            assert!(wrong.parse::<Path>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn a_displayed_path_is_parsed_to_the_same_path(fields in prop::collection::vec(".*", 1..4)) {
            let path = Path(fields);
            prop_assert_eq!(path.to_string().parse::<Path>(), Ok(path));
        }

        #[test]
        fn any_text_is_a_path_or_an_error(text: String) {
            drop(text.parse::<Path>());
        }
    }
}
