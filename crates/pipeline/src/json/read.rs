//! Reads a JSON value without loss: integers of any size, and decimals as they are written.

use hifijson::num::LexWrite as _;
use hifijson::str::LexAlloc as _;
use hifijson::token::{Expect, Lex};
use hifijson::{Error, SliceLexer};
use jaq_json::{Map, Num, Val};

/// The largest number of nested arrays and objects, the same as in `serde_json`.
pub(super) const MAX_DEPTH: usize = 127;

/// The most digits of an integer that is parsed, so that expressions compute with it exactly. A
/// longer integer is kept as text, and expressions compute with the nearest float, because parsing
/// takes time quadratic in the number of digits.
const MAX_DIGITS: usize = 1000;

/// Reads a text that is exactly one value.
pub(super) fn read(text: &str) -> Result<Val, Error> {
    let lexer = &mut SliceLexer::new(text.as_bytes());
    lexer.exactly_one(Lex::ws_peek, |next, lexer| value(next, lexer, MAX_DEPTH))
}

fn value(next: u8, lexer: &mut SliceLexer<'_>, depth: usize) -> Result<Val, Error> {
    match next {
        b'"' => Ok(Val::utf8_str(lexer.discarded().str_string()?.into_owned())),
        b'0'..=b'9' | b'-' => number(lexer).map(Val::Num),
        b'[' => {
            let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
            let mut members = Vec::new();
            lexer.discarded().seq(b']', Lex::ws_peek, |next, lexer| {
                members.push(value(next, lexer, depth)?);
                Ok::<_, Error>(())
            })?;
            Ok(Val::Arr(members.into()))
        }
        b'{' => {
            let depth = depth.checked_sub(1).ok_or(Error::Depth)?;
            let mut fields = Map::default();
            lexer.discarded().seq(b'}', Lex::ws_peek, |next, lexer| {
                lexer.expect(|_| Some(next), b'"').ok_or(Expect::String)?;
                let key = lexer.str_string()?.into_owned();
                lexer.expect(Lex::ws_peek, b':').ok_or(Expect::Colon)?;
                let next = lexer.ws_peek().ok_or(Expect::Value)?;
                fields.insert(Val::utf8_str(key), value(next, lexer, depth)?);
                Ok::<_, Error>(())
            })?;
            Ok(Val::obj(fields))
        }
        _ => match lexer.null_or_bool().ok_or(Expect::Value)? {
            Some(value) => Ok(Val::Bool(value)),
            None => Ok(Val::Null),
        },
    }
}

fn number(lexer: &mut SliceLexer<'_>) -> Result<Num, Error> {
    let (text, parts) = lexer.num_string().validated()?;
    // An integer has no negative zero, so `-0` is kept as text.
    let digits = if parts.is_int() && text.len() <= MAX_DIGITS && text != "-0" {
        Num::from_str_radix(text, 10)
    } else {
        None
    };
    Ok(digits.unwrap_or_else(|| Num::Dec(text.to_owned().into())))
}
