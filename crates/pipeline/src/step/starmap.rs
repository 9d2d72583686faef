//! `starmap`: replaces each array by the result of an expression of its members.

use forebay_stream::{Failure, Flow};
use serde::Deserialize;
use toml::Spanned;

use super::{Nature, OnValues};
use crate::codes;
use crate::jq::Jq;
use crate::json::Json;

/// `starmap = { args = ["x", "y"], jq = "$x + $y" }`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Settings")]
pub(super) struct Starmap {
    arity: usize,
    jq: Jq,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The names of the members, in order.
    args: Vec<String>,
    /// Computes the new value; the members are variables.
    jq: Spanned<String>,
}

impl TryFrom<Settings> for Starmap {
    type Error = String;

    fn try_from(Settings { args, jq }: Settings) -> Result<Self, String> {
        let valid = |name: &&String| {
            let rest = |c: char| c.is_ascii_alphanumeric() || c == '_';
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(rest)
        };
        if let Some(name) = args.iter().find(|name| !valid(name)) {
            return Err(format!("`{name}` is not a name for a jq variable"));
        }
        if let Some(name) = args
            .iter()
            .enumerate()
            .find_map(|(number, name)| args[..number].contains(name).then_some(name))
        {
            return Err(format!("two members are called `{name}`"));
        }
        let variables: Vec<_> = args.iter().map(|name| format!("${name}")).collect();
        let variables: Vec<_> = variables.iter().map(String::as_str).collect();
        let jq = Jq::in_file(&jq, &variables)?;
        Ok(Self { arity: args.len(), jq })
    }
}

impl OnValues for Starmap {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let arity = self.arity;
        let jq = self.jq.clone();
        flow.try_map(move |array| {
            let members = array.clone().into_members()?;
            if members.len() != arity {
                let got = members.len();
                let message = format_args!("the array has {got} members, but `args` names {arity}");
                return Err(Failure::new(codes::WRONG_LENGTH, message));
            }
            jq.call(array, members)
        })
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}
