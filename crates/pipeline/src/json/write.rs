//! Writes a value as compact JSON. A number that no expression has changed is written as it was
//! read.

use std::io::Write as _;

use forebay_stream::Failure;
use hifijson::SliceLexer;
use hifijson::num::LexWrite as _;
use jaq_json::{Num, Val};

use crate::codes;

/// Appends `value` to `out`.
///
/// # Errors
///
/// Fails with `not_finite` if the value holds an infinity or NaN, which JSON cannot represent.
pub(super) fn write(value: &Val, out: &mut Vec<u8>) -> Result<(), Failure> {
    match value {
        Val::Null => out.extend_from_slice(b"null"),
        Val::Bool(true) => out.extend_from_slice(b"true"),
        Val::Bool(false) => out.extend_from_slice(b"false"),
        Val::Num(number) => write_number(number, out)?,
        Val::BStr(text) | Val::TStr(text) => write_text(&String::from_utf8_lossy(text), out),
        Val::Arr(members) => {
            out.push(b'[');
            for (position, member) in members.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                write(member, out)?;
            }
            out.push(b']');
        }
        Val::Obj(fields) => {
            out.push(b'{');
            for (position, (key, value)) in fields.iter().enumerate() {
                if position > 0 {
                    out.push(b',');
                }
                match key {
                    Val::TStr(text) | Val::BStr(text) => {
                        write_text(&String::from_utf8_lossy(text), out);
                    }
                    // In jaq, an expression can create an object with keys that are not strings.
                    key => write_text(&key.to_string(), out),
                }
                out.push(b':');
                write(value, out)?;
            }
            out.push(b'}');
        }
    }
    Ok(())
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("a text can be written to memory");
}

fn write_number(number: &Num, out: &mut Vec<u8>) -> Result<(), Failure> {
    match number {
        Num::Int(value) => write!(out, "{value}").expect("memory can be written to"),
        Num::BigInt(value) => write!(out, "{value}").expect("memory can be written to"),
        Num::Dec(text) if is_json(text) => out.extend_from_slice(text.as_bytes()),
        // A number in a form that JSON lacks. Only expressions create it, for example `tonumber`.
        Num::Dec(text) => write_float(text.parse().unwrap_or(f64::NAN), out)?,
        Num::Float(value) => write_float(*value, out)?,
    }
    Ok(())
}

fn write_float(value: f64, out: &mut Vec<u8>) -> Result<(), Failure> {
    if !value.is_finite() {
        let kind = if value.is_nan() { "not a number (NaN)" } else { "infinite" };
        let message =
            format_args!("the result holds a number that is {kind}, which JSON cannot represent");
        return Err(Failure::new(codes::NOT_FINITE, message));
    }
    serde_json::to_writer(out, &value).expect("a number can be written to memory");
    Ok(())
}

fn is_json(number: &str) -> bool {
    let mut lexer = SliceLexer::new(number.as_bytes());
    lexer.num_bytes().validated().is_ok() && lexer.as_slice().is_empty()
}
