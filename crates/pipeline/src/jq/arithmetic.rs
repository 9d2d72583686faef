//! Division and remainder as in jq: a divisor of zero is an error, and `%` first cuts both numbers
//! to integers. `jaq` computes both with floats, so that a divisor of zero gives an infinity or
//! NaN.

use jaq_core::data::JustLut;
use jaq_core::native::{self, Fun, bome, v};
use jaq_core::{Cv, Error, RunPtr, ValR};
use jaq_json::{Num, Val};

type Data = JustLut<Val>;

/// Returns the functions that `definitions.jq` calls for `/` and `%`.
pub(super) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let functions: [(&'static str, RunPtr<Data>); 2] = [
        ("forebay_quotient", |cv| bome(quotient(cv))),
        ("forebay_remainder", |cv| bome(remainder(cv))),
    ];
    functions.into_iter().map(|(name, run)| native::run::<Data>((name, v(2), run)))
}

fn quotient(mut cv: Cv<'_, Data>) -> ValR<Val> {
    let right = cv.0.pop_var();
    let left = cv.0.pop_var();
    match (&left, &right) {
        (Val::Num(_), Val::Num(divisor)) if float(divisor) == 0.0 => {
            Err(by_zero(&left, &right, "divided"))
        }
        _ => left / right,
    }
}

fn remainder(mut cv: Cv<'_, Data>) -> ValR<Val> {
    let right = cv.0.pop_var();
    let left = cv.0.pop_var();
    let (Val::Num(dividend), Val::Num(divisor)) = (&left, &right) else { return left % right };
    if float(dividend).is_nan() || float(divisor).is_nan() {
        return Ok(Val::from(f64::NAN));
    }
    match (integer(dividend), integer(divisor)) {
        (_, 0) => Err(by_zero(&left, &right, "divided (remainder)")),
        (dividend, divisor) => Ok(Val::from(dividend.checked_rem(divisor).unwrap_or(0))),
    }
}

fn by_zero(left: &Val, right: &Val, operation: &str) -> Error<Val> {
    Error::str(format_args!(
        "number ({left}) and number ({right}) cannot be {operation} because the divisor is zero"
    ))
}

fn float(number: &Num) -> f64 {
    match number {
        #[expect(clippy::cast_precision_loss, reason = "jq's numbers are floats")]
        Num::Int(value) => *value as f64,
        Num::Float(value) => *value,
        Num::BigInt(_) | Num::Dec(_) => number.to_string().parse().unwrap_or(f64::NAN),
    }
}

/// Returns the number without its fraction. If it does not fit an `isize`, the nearest `isize` is
/// returned.
fn integer(number: &Num) -> isize {
    match number {
        Num::Int(value) => *value,
        #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates, as in jq")]
        other => float(other) as isize,
    }
}
