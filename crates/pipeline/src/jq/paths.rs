//! `setpath` and `delpaths` as in jq. `setpath` creates missing objects and arrays, and fills
//! arrays up with nulls. `delpaths` deletes its paths as if at once: no deletion moves the target
//! of another.

use jaq_core::data::JustLut;
use jaq_core::native::{self, Fun, bome, v};
use jaq_core::{Cv, Error, RunPtr, ValR};
use jaq_json::{Map, Num, Rc, Val};

type Data = JustLut<Val>;

/// The largest array that an assignment may create, in members. The index may come from a request,
/// and jq's own, higher bound would let a small request take gigabytes of memory.
const MAX_LENGTH: usize = 1 << 20;

/// Returns the functions that `definitions.jq` calls for `setpath` and `delpaths`.
pub(super) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let functions: [(&'static str, usize, RunPtr<Data>); 3] = [
        ("forebay_create", 1, |cv| bome(create_paths(cv))),
        ("forebay_set", 2, |cv| bome(set_path(cv))),
        ("forebay_delete", 1, |cv| bome(delete_paths(cv))),
    ];
    functions.into_iter().map(|(name, arity, run)| native::run::<Data>((name, v(arity), run)))
}

fn set_path(mut cv: Cv<'_, Data>) -> ValR<Val> {
    let new = cv.0.pop_var();
    let path = members(&cv.0.pop_var(), "Path must be specified as an array")?;
    set(cv.1, &path, new)
}

fn delete_paths(mut cv: Cv<'_, Data>) -> ValR<Val> {
    let paths = members(&cv.0.pop_var(), "Paths must be specified as an array")?;
    let paths = paths.iter().map(|path| members(path, "Path must be specified as an array"));
    let mut paths = paths.collect::<Result<Vec<_>, _>>()?;
    // From the last to the first, so that no deletion moves the target of a later one.
    paths.sort();
    paths.iter().rev().try_fold(cv.1, |value, path| delete(value, path))
}

fn create_paths(mut cv: Cv<'_, Data>) -> ValR<Val> {
    let paths = members(&cv.0.pop_var(), "Paths must be specified as an array")?;
    let mut value = cv.1;
    for path in &paths {
        create(&mut value, &members(path, "Path must be specified as an array")?)?;
    }
    Ok(value)
}

/// Creates the objects and arrays on `path` that are missing in `value`, and fills arrays up with
/// nulls. Leaves a value that has no such path alone: the update that follows reports it.
fn create(value: &mut Val, path: &[Val]) -> Result<(), Error<Val>> {
    let mut place = value;
    for step in path {
        match (&*place, step) {
            (Val::Null, Val::TStr(_)) => *place = Val::obj(Map::default()),
            (Val::Null, Val::Num(_) | Val::Obj(_)) => *place = Val::Arr(Rc::default()),
            _ => {}
        }
        place = match (place, step) {
            (Val::Obj(fields), Val::TStr(_)) => {
                Rc::make_mut(fields).entry(step.clone()).or_insert(Val::Null)
            }
            (Val::Arr(members), Val::Num(index)) => {
                let Some(index) = position(index, members.len()) else { return Ok(()) };
                fill(members, index)?
            }
            _ => return Ok(()),
        };
    }
    Ok(())
}

/// Returns the member at `index`, after nulls up to it if the array is shorter.
fn fill(members: &mut Rc<Vec<Val>>, index: usize) -> Result<&mut Val, Error<Val>> {
    if index >= MAX_LENGTH.max(members.len()) {
        return Err(Error::str("Array index too large"));
    }
    let members = Rc::make_mut(members);
    if index >= members.len() {
        members.resize(index + 1, Val::Null);
    }
    Ok(&mut members[index])
}

fn members(array: &Val, otherwise: &str) -> Result<Vec<Val>, Error<Val>> {
    match array {
        Val::Arr(members) => Ok(members.to_vec()),
        _ => Err(Error::str(otherwise)),
    }
}

/// Puts `new` at `path` in `value`.
fn set(value: Val, path: &[Val], new: Val) -> ValR<Val> {
    let Some((step, rest)) = path.split_first() else { return Ok(new) };
    match (value, step) {
        (Val::Null, Val::TStr(_)) => set(Val::obj(Map::default()), path, new),
        (Val::Null, Val::Num(_) | Val::Obj(_)) => set(Val::Arr(Rc::default()), path, new),
        (Val::Obj(mut fields), Val::TStr(_)) => {
            let field = Rc::make_mut(&mut fields).entry(step.clone()).or_insert(Val::Null);
            *field = set(std::mem::take(field), rest, new)?;
            Ok(Val::Obj(fields))
        }
        (Val::Arr(mut members), Val::Num(index)) => {
            let index = position(index, members.len())
                .ok_or_else(|| Error::str("Out of bounds negative array index"))?;
            let member = fill(&mut members, index)?;
            *member = set(std::mem::take(member), rest, new)?;
            Ok(Val::Arr(members))
        }
        (Val::Arr(mut members), Val::Obj(_)) => {
            let range = slice(step, members.len())?;
            let part: Val = members[range.clone()].iter().cloned().collect();
            let Val::Arr(part) = set(part, rest, new)? else {
                return Err(Error::str("A slice of an array can only be assigned another array"));
            };
            Rc::make_mut(&mut members).splice(range, part.iter().cloned());
            Ok(Val::Arr(members))
        }
        (value, step) => Err(Error::index(value, step.clone())),
    }
}

/// Removes the field, member or slice at `path` from `value`, if it exists.
fn delete(value: Val, path: &[Val]) -> ValR<Val> {
    let Some((step, rest)) = path.split_first() else { return Ok(Val::Null) };
    match (value, step) {
        (Val::Null, _) => Ok(Val::Null),
        (Val::Obj(mut fields), Val::TStr(_)) => {
            if fields.contains_key(step) {
                let fields_mut = Rc::make_mut(&mut fields);
                if rest.is_empty() {
                    fields_mut.shift_remove(step);
                } else if let Some(field) = fields_mut.get_mut(step) {
                    *field = delete(std::mem::take(field), rest)?;
                }
            }
            Ok(Val::Obj(fields))
        }
        (Val::Arr(mut members), Val::Num(index)) => {
            if let Some(index) =
                position(index, members.len()).filter(|index| *index < members.len())
            {
                let members_mut = Rc::make_mut(&mut members);
                if rest.is_empty() {
                    members_mut.remove(index);
                } else {
                    let member = &mut members_mut[index];
                    *member = delete(std::mem::take(member), rest)?;
                }
            }
            Ok(Val::Arr(members))
        }
        (Val::Arr(mut members), Val::Obj(_)) => {
            let range = slice(step, members.len())?;
            if rest.is_empty() {
                Rc::make_mut(&mut members).drain(range);
                return Ok(Val::Arr(members));
            }
            let part: Val = members[range.clone()].iter().cloned().collect();
            if let Val::Arr(part) = delete(part, rest)? {
                Rc::make_mut(&mut members).splice(range, part.iter().cloned());
            }
            Ok(Val::Arr(members))
        }
        (value, step) => Err(Error::index(value, step.clone())),
    }
}

/// Returns the position in an array for an index. A negative index counts from the end; `None` if
/// it lies before the start.
fn position(index: &Num, length: usize) -> Option<usize> {
    let index = match index {
        Num::Int(index) => *index,
        #[expect(clippy::cast_possible_truncation, reason = "the conversion saturates")]
        other => other.to_string().parse::<f64>().ok()?.floor() as isize,
    };
    if index >= 0 { Some(index.unsigned_abs()) } else { length.checked_sub(index.unsigned_abs()) }
}

/// Returns the range of positions in an array for a slice, `{"start": .., "end": ..}`.
fn slice(step: &Val, length: usize) -> Result<std::ops::Range<usize>, Error<Val>> {
    let bound = |name: &str, otherwise: usize| match step {
        Val::Obj(fields) => match fields.get(&Val::utf8_str(name.to_owned())) {
            Some(Val::Num(index)) => Ok(position(index, length).unwrap_or(0).min(length)),
            Some(Val::Null) | None => Ok(otherwise),
            Some(_) => Err(Error::str("Start and end indices of an array slice must be numbers")),
        },
        _ => Ok(otherwise),
    };
    let start = bound("start", 0)?;
    Ok(start..bound("end", length)?.max(start))
}
