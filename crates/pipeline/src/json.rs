//! `Json`: the values that flow between the steps of a pipeline file.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use forebay_stream::Failure;
use jaq_json::{Num, Val};
use serde::de::DeserializeOwned;
use serde::ser::{SerializeMap as _, SerializeSeq as _};
use serde::{Deserialize, Serialize, Serializer};

/// A JSON value. Copies are cheap: arrays and objects are shared until one of them changes.
///
/// Equal numbers are equal however they are written, and objects however their keys are ordered, so values can be keys
/// of windows. Objects keep the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Json(pub(crate) Val);

impl Json {
    /// Reads one JSON value: strictly, and no deeper than 128 levels.
    ///
    /// # Errors
    ///
    /// `invalid_json`, with what is wrong and where.
    pub fn parse(bytes: &[u8]) -> Result<Self, Failure> {
        let value = serde_json::from_slice(bytes);
        value.map(Self).map_err(|error| {
            Failure::new("invalid_json", format_args!("the value is not JSON: {error}"))
        })
    }

    /// Makes JSON of any value that serde can serialise.
    ///
    /// # Errors
    ///
    /// `unserializable_result`, where the value has no JSON, such as a map whose keys are no strings.
    pub fn encode<T: Serialize>(value: &T) -> Result<Self, Failure> {
        let json = serde_json::to_value(value).and_then(Val::deserialize).map(Self);
        json.map_err(|error| Failure::new("unserializable_result", error))
    }

    /// Makes a value of any type that serde can deserialise.
    ///
    /// # Errors
    ///
    /// `invalid_value`, with what was expected and what was there.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let value = serde_json::to_value(self).and_then(serde_json::from_value);
        value.map_err(|error| Failure::new("invalid_value", error))
    }

    /// The text, where the value is one.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match &self.0 {
            Val::TStr(text) => std::str::from_utf8(text).ok(),
            _ => None,
        }
    }

    /// What the value is, for messages: `a number`.
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

    /// A string.
    pub(crate) fn text(text: &str) -> Self {
        Self(Val::utf8_str(text.to_owned()))
    }

    /// The array of these values.
    pub(crate) fn array(members: impl IntoIterator<Item = Self>) -> Self {
        Self(members.into_iter().map(|member| member.0).collect())
    }

    /// The value of an object's field.
    pub(crate) fn get(&self, field: &str) -> Option<Self> {
        let Val::Obj(fields) = &self.0 else { return None };
        // The key is a value too; a short one.
        fields.get(&Val::utf8_str(field.to_owned())).cloned().map(Self)
    }

    /// The object of these fields.
    pub(crate) fn object(fields: impl IntoIterator<Item = (String, Self)>) -> Self {
        let fields = fields.into_iter().map(|(name, value)| (Val::utf8_str(name), value.0));
        Self(Val::obj(fields.collect()))
    }

    /// What a pointer points at.
    pub(crate) fn at(&self, pointer: &Pointer) -> Option<Self> {
        let found = pointer.0.iter().try_fold(&self.0, |value, step| match value {
            Val::Obj(fields) => fields.get(&step.key),
            Val::Arr(members) => members.get(step.index?),
            _ => None,
        });
        found.cloned().map(Self)
    }

    /// An array with one more member.
    pub(crate) fn pushed(mut self, member: Self) -> Self {
        if let Val::Arr(members) = &mut self.0 {
            jaq_json::Rc::make_mut(members).push(member.0);
        }
        self
    }

    /// The members of an array; none of anything else.
    pub(crate) fn members(self) -> Vec<Self> {
        self.into_members().unwrap_or_default()
    }

    /// The members of an array; fails for anything else.
    pub(crate) fn into_members(self) -> Result<Vec<Self>, Failure> {
        let Val::Arr(members) = self.0 else {
            let message = format_args!("the value is {} where an array is needed", self.kind());
            return Err(Failure::new("invalid_type", message));
        };
        Ok(jaq_json::Rc::unwrap_or_clone(members).into_iter().map(Self).collect())
    }

    /// The value as compact JSON text.
    pub(crate) fn to_bytes(&self) -> Bytes {
        // Writing to memory cannot fail, and every value has a form.
        serde_json::to_vec(self).unwrap_or_default().into()
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

/// A JSON pointer (RFC 6901): `/user/name`, `/items/0`, or nothing for the whole value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer(Vec<Step>);

/// One step of a pointer: a field's name and, for arrays, the number that it writes.
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
        f.write_str(&String::from_utf8_lossy(&self.to_bytes()))
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

/// A value as JSON has it: jq knows more than JSON, and what JSON has no form for takes the nearest it has, as jq does.
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
        // Integers that no machine word holds, and decimals as they were written.
        Num::BigInt(_) | Num::Dec(_) => {
            let text = number.to_string();
            if let Ok(value) = text.parse::<u64>() {
                return serializer.serialize_u64(value);
            }
            text.parse().unwrap_or(f64::NAN)
        }
    };
    // What is no number is null for serde_json.
    serializer.serialize_f64(float.clamp(f64::MIN, f64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::{Json, Pointer};

    /// Any JSON value, small.
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

    #[test]
    fn what_json_has_no_form_for_takes_the_nearest() {
        let jq =
            |text: &str| crate::jq::Jq::compile(text, &[]).unwrap().of(&Json::default()).unwrap();
        assert_eq!(jq("nan").to_string(), "null");
        assert_eq!(
            jq("infinite").to_string(),
            f64::MAX.to_string().parse::<f64>().map(|x| serde_json::json!(x).to_string()).unwrap()
        );
        assert_eq!(
            jq("{(\"a\"): 18446744073709551615}").to_string(),
            "{\"a\":18446744073709551615}"
        );
    }

    #[test]
    fn a_pointer_is_a_pointer() {
        let at = |pointer: &str| {
            let pointer = pointer.parse::<Pointer>()?;
            Ok::<_, String>(
                Json::parse(b"[5, {\"01\": 6}]").unwrap().at(&pointer).map(|json| json.to_string()),
            )
        };
        assert_eq!(at("/0").unwrap().unwrap(), "5");
        assert_eq!(at("/00").unwrap(), None, "an index has no leading zero");
        assert_eq!(at("/1/01").unwrap().unwrap(), "6", "a field's name may");
        assert!(at("0").is_err() && at("/~2").is_err());
    }

    proptest! {
        #[test]
        fn fuzz_every_value_leaves_as_it_came(value in values()) {
            let json = Json::parse(value.to_string().as_bytes()).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Value>(&json.to_bytes()).unwrap(), value.clone());
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
    }
}
