//! `Json`: the values that flow between the steps of a pipeline file.

mod read;
mod write;

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use forebay_stream::Failure;
use jaq_json::{Num, Val};
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};

use crate::codes;

/// The mark with which some editors and programs begin a UTF-8 text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Returns a text in UTF-8 without its byte order mark, or the reason why it is none.
fn utf8(bytes: &[u8]) -> Result<&str, String> {
    if let Some(format) = foreign_format(bytes) {
        return Err(format!("it is {format}; send UTF-8 text, uncompressed"));
    }
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    std::str::from_utf8(bytes).map_err(|error| error.to_string())
}

/// Names the format of bytes that are not UTF-8 text, by the marks with which such formats begin.
fn foreign_format(bytes: &[u8]) -> Option<&'static str> {
    const FORMATS: [(&[u8], &str); 5] = [
        (b"\xff\xfe", "UTF-16"),
        (b"\xfe\xff", "UTF-16"),
        (b"\x1f\x8b", "compressed with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (b"BZh", "compressed with bzip2"),
    ];
    FORMATS.iter().find_map(|(mark, name)| bytes.starts_with(mark).then_some(*name))
}

/// A JSON value. Clones are cheap: arrays and objects are shared until one clone changes.
///
/// Numbers compare by value and objects without regard to the order of their keys, so values can be
/// keys of windows. Objects keep the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(pub(crate) Val);

impl Json {
    /// Parses exactly one JSON value, with at most 127 nested arrays and objects. Skips a byte order
    /// mark at the start.
    ///
    /// # Errors
    ///
    /// Fails with `invalid_json`; the message says what is wrong and, unless the value is nested too
    /// deep, at which line and column.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let invalid = |error: &dyn fmt::Display| {
            Failure::new(codes::INVALID_JSON, format_args!("the value is not JSON: {error}"))
        };
        let text = utf8(bytes).map_err(|error| invalid(&error))?;
        read::read(text).map(Self).map_err(|error| {
            if let hifijson::Error::Depth = error {
                let limit = read::MAX_DEPTH;
                let message =
                    format_args!("it is nested too deep: more than {limit} arrays and objects; send a flatter one");
                return invalid(&message);
            }
            // `error` has no place. serde_json refuses the same texts, and names line and column.
            match serde_json::from_str::<serde_json::Value>(text) {
                Err(located) => invalid(&located),
                Ok(_) => invalid(&error),
            }
        })
    }

    /// Makes a string of a text in UTF-8, without its byte order mark.
    ///
    /// # Errors
    ///
    /// Fails with `invalid_encoding`; the message names the encoding or compression if it is known.
    pub fn from_utf8(bytes: &[u8]) -> Result<Self, Failure> {
        utf8(bytes).map(Self::text).map_err(|error| {
            Failure::new(codes::INVALID_ENCODING, format_args!("the value is not text: {error}"))
        })
    }

    /// Converts any value that serde can serialise.
    ///
    /// # Errors
    ///
    /// Fails with `unserializable_result` if JSON cannot represent the value, such as a map whose
    /// keys are not strings.
    pub fn encode<T: Serialize>(value: &T) -> Result<Self, Failure> {
        let json = serde_json::to_value(value).and_then(Val::deserialize).map(Self);
        json.map_err(|error| Failure::new(codes::UNSERIALIZABLE_RESULT, error))
    }

    /// Converts the value to any type that serde can deserialise.
    ///
    /// # Errors
    ///
    /// Fails with `invalid_value`; the message names the expected type and the value found.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let value = serde_json::to_value(self).and_then(serde_json::from_value);
        value.map_err(|error| Failure::new(codes::INVALID_VALUE, error))
    }

    /// Returns the text if the value is a string.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Val::TStr(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// Returns the kind of the value with its article, for messages: `a number`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match &self.0 {
            Val::Null => "null",
            Val::Bool(_) => "a boolean",
            Val::Num(_) => "a number",
            Val::BStr(_) | Val::TStr(_) => "a string",
            Val::Arr(_) => "an array",
            Val::Obj(_) => "an object",
        }
    }

    /// Creates a string.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self(Val::utf8_str(text.to_owned()))
    }

    /// Creates an array of the values.
    pub(crate) fn array(members: impl IntoIterator<Item = Self>) -> Self {
        Self(members.into_iter().map(|member| member.0).collect())
    }

    /// Returns the value of an object's field.
    pub(crate) fn get(&self, field: &str) -> Option<Self> {
        let Val::Obj(fields) = &self.0 else { return None };
        // Keys of jaq objects are values, so the lookup allocates one.
        fields.get(&Val::utf8_str(field.to_owned())).cloned().map(Self)
    }

    /// Creates an object of the fields.
    #[must_use]
    pub fn object(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (Val::utf8_str(name), value.0));
        Self(Val::obj(fields.collect()))
    }

    /// Returns the value at a JSON pointer.
    pub(crate) fn at(&self, pointer: &Pointer) -> Option<Self> {
        let found = pointer.0.iter().try_fold(&self.0, |value, step| match value {
            Val::Obj(fields) => fields.get(&step.key),
            Val::Arr(members) => members.get(step.index?),
            _ => None,
        });
        found.cloned().map(Self)
    }

    /// Appends a member to an array; any other value is returned unchanged.
    pub(crate) fn pushed(mut self, member: Self) -> Self {
        if let Val::Arr(members) = &mut self.0 {
            jaq_json::Rc::make_mut(members).push(member.0);
        }
        self
    }

    /// Returns the members of an array, or no members for any other value.
    pub(crate) fn members(self) -> Vec<Self> {
        self.into_members().unwrap_or_default()
    }

    /// Returns the members of an array; fails for any other value.
    pub(crate) fn into_members(self) -> Result<Vec<Self>, Failure> {
        let Val::Arr(members) = self.0 else {
            let message = format_args!("the value is {}, but an array is needed", self.kind());
            return Err(Failure::new(codes::INVALID_TYPE, message));
        };
        Ok(jaq_json::Rc::unwrap_or_clone(members).into_iter().map(Self).collect())
    }

    /// Returns the value as compact JSON text.
    ///
    /// # Errors
    ///
    /// Fails with `not_finite` if the value holds an infinity or NaN.
    pub(crate) fn to_bytes(&self) -> Result<Bytes, Failure> {
        let mut bytes = Vec::with_capacity(128);
        write::write(&self.0, &mut bytes)?;
        Ok(bytes.into())
    }
}

impl From<usize> for Json {
    fn from(number: usize) -> Self {
        Self(Val::from(number))
    }
}

impl From<u64> for Json {
    fn from(number: u64) -> Self {
        Self(Val::Num(Num::from_integral(number)))
    }
}

impl From<f64> for Json {
    fn from(number: f64) -> Self {
        Self(Val::from(number))
    }
}

/// A JSON pointer (RFC 6901), such as `/user/name` or `/items/0`. The empty pointer is the whole
/// value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<Step>);

/// One reference token of a pointer: a field's name and, if it is a number, also an array index.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: Val,
    index: Option<usize>,
}

impl FromStr for Pointer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.is_empty() && !text.starts_with('/') {
            return Err(format!("a JSON pointer begins with a slash: \"/{text}\""));
        }
        if text.replace("~0", "").replace("~1", "").contains('~') {
            return Err("in a JSON pointer `~0` stands for `~`, and `~1` for `/`".to_owned());
        }
        let step = |step: &str| {
            let name = step.replace("~1", "/").replace("~0", "~");
            let leading_zero = step.len() > 1 && step.starts_with('0');
            let digits = !leading_zero && step.bytes().all(|byte| byte.is_ascii_digit());
            let index = if digits { step.parse().ok() } else { None };
            Step { key: Val::utf8_str(name), index }
        };
        Ok(Self(text.split('/').skip(1).map(step).collect()))
    }
}

impl fmt::Display for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_bytes() {
            Ok(bytes) => f.write_str(&String::from_utf8_lossy(&bytes)),
            Err(_) => self.0.fmt(f),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        View(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Val::deserialize(deserializer).map(Self)
    }
}

/// Serialises a jq value. Values that JSON cannot represent are written as the nearest JSON value,
/// as jq does.
struct View<'a>(&'a Val);

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Val::Null => serializer.serialize_unit(),
            Val::Bool(value) => serializer.serialize_bool(*value),
            Val::Num(number) => serialize_number(number, serializer),
            Val::BStr(text) | Val::TStr(text) => match std::str::from_utf8(text) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => serializer.serialize_str(&String::from_utf8_lossy(text)),
            },
            Val::Arr(members) => {
                let mut sequence = serializer.serialize_seq(Some(members.len()))?;
                for member in members.iter() {
                    sequence.serialize_element(&View(member))?;
                }
                sequence.end()
            }
            Val::Obj(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                for (key, value) in fields.iter() {
                    match key {
                        Val::TStr(_) | Val::BStr(_) => map.serialize_key(&View(key))?,
                        key => map.serialize_key(&Json(key.clone()).to_string())?,
                    }
                    map.serialize_value(&View(value))?;
                }
                map.end()
            }
        }
    }
}

fn serialize_number<S: Serializer>(number: &Num, serializer: S) -> Result<S::Ok, S::Error> {
    let float = match number {
        Num::Int(value) => return serializer.serialize_i64(*value as i64),
        Num::Float(value) => *value,
        // `BigInt` is an integer that does not fit a machine word, `Dec` a number as its text.
        Num::BigInt(_) | Num::Dec(_) => {
            let text = number.to_string();
            if let Ok(value) = text.parse::<u64>() {
                return serializer.serialize_u64(value);
            }
            text.parse().unwrap_or(f64::NAN)
        }
    };
    // Infinities become the largest finite numbers, as in jq. serde_json writes NaN as null.
    serializer.serialize_f64(float.clamp(f64::MIN, f64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Json, Pointer};

    /// Small random JSON values.
    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_filter_map("JSON numbers are finite", |x| {
                serde_json::Number::from_f64(x).map(Value::from)
            }),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".{0,3}", inner, 0..5).prop_map(Value::from_iter),
            ]
        })
    }

    fn jq(text: &str) -> Json {
        crate::jq::Jq::compile(text, &[]).unwrap().of(&Json::default()).unwrap()
    }

    #[test]
    fn a_number_that_json_cannot_represent_is_an_error() {
        for text in ["nan", "[infinite]", "{a: -infinite}", "1e308 * 10"] {
            assert_eq!(jq(text).to_bytes().unwrap_err().code(), "not_finite", "{text}");
        }
    }

    #[test]
    fn unchanged_numbers_of_any_size_keep_their_digits() {
        for text in [
            "18446744073709551617",
            "-170141183460469231731687303715884105729",
            "[1.10,1.0,1e2,0.1E-7,1e400,-0,-0.0,0.30000000000000000004]",
            "{\"z\":1,\"a\":[{\"\":null}],\"m\":\"\u{e9}\"}",
        ] {
            assert_eq!(Json::parse(text.as_bytes()).unwrap().to_string(), text);
        }
        let long = "9".repeat(100_000);
        assert_eq!(Json::parse(long.as_bytes()).unwrap().to_string(), long);
        assert_eq!(jq("18446744073709551617 + 1").to_string(), "18446744073709551618");
    }

    #[test]
    fn text_that_is_not_json_is_refused() {
        for text in [
            "NaN",
            "-Infinity",
            "+1",
            "01",
            "1.",
            ".5",
            "1e",
            "0x10",
            "# comment\n1",
            "[1,]",
            "{1:2}",
            "{\"a\":}",
            "{\"a\" 1}",
            "nul",
            "\"\n\"",
            "\"\\ud800\"",
            "\"\\x41\"",
            "1 2",
            "'a'",
            "b\"a\"",
        ] {
            let failure = Json::parse(text.as_bytes()).unwrap_err();
            assert_eq!(failure.code(), "invalid_json", "{text}");
            assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Json::parse(deep(127).as_bytes()).is_ok());
        assert!(Json::parse(deep(128).as_bytes()).is_err());
    }

    #[test]
    fn a_value_that_is_nested_too_deep_is_told_the_limit_d9() {
        let objects = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
        for text in ["[".repeat(128) + &"]".repeat(128), "[".repeat(100_000), objects] {
            let failure = Json::parse(text.as_bytes()).unwrap_err();
            let expected = "the value is not JSON: it is nested too deep: more than 127 arrays and objects; send a flatter one";
            assert_eq!((failure.code(), failure.message()), ("invalid_json", expected));
        }
    }

    #[test]
    fn a_pointer_finds_fields_and_array_members() {
        let at = |pointer: &str| {
            let pointer = pointer.parse::<Pointer>()?;
            Ok::<_, String>(
                Json::parse(b"[5, {\"01\": 6}]").unwrap().at(&pointer).map(|json| json.to_string()),
            )
        };
        assert_eq!(at("/0").unwrap().unwrap(), "5");
        assert_eq!(at("/00").unwrap(), None, "an index has no leading zero");
        assert_eq!(at("/1/01").unwrap().unwrap(), "6", "a field's name may have a leading zero");
        assert!(at("0").is_err() && at("/~2").is_err());
    }

    proptest! {
        #[test]
        fn fuzz_every_value_is_written_as_it_was_read(value in values()) {
            let json = Json::parse(value.to_string().as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&json.to_bytes().unwrap()).unwrap(), value.clone());
            prop_assert_eq!(&Json::encode(&value).unwrap(), &json);
            prop_assert_eq!(json.decode::<Value>().unwrap(), value);
        }

        #[test]
        fn fuzz_a_pointer_finds_what_serde_json_finds(value in values(), pointer in "(/(a|b|~0|~1|0|1|01|))*") {
            let json = Json::parse(value.to_string().as_bytes()).unwrap();
            let found = json.at(&pointer.parse::<Pointer>().unwrap());
            let expected = value.pointer(&pointer).map(Value::to_string);
            prop_assert_eq!(found.map(|json| json.decode::<Value>().unwrap().to_string()), expected);
        }

        #[test]
        fn fuzz_any_bytes_give_a_value_or_a_failure(bytes: Vec<u8>) {
            prop_assert_eq!(
                Json::parse(&bytes).is_ok(),
                serde_json::from_slice::<Value>(&bytes).is_ok()
            );
        }

        #[test]
        fn fuzz_text_that_resembles_json_is_read_as_by_serde_json(
            text in r#"([\[\]{}:, \n]|"a"|"\\\\(n|u00e9|ud800|x)"|-|0|1|12|\\.5|e3|E-1|true|null|fals){0,12}"#
        ) {
            let read = Json::parse(text.as_bytes());
            match serde_json::from_str::<Value>(&text) {
                Ok(expected) => prop_assert_eq!(read.unwrap().decode::<Value>().unwrap(), expected),
                Err(error) => prop_assert!(read.is_err() || error.to_string().contains("out of range")),
            }
        }
    }
}
