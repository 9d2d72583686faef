//! Regular expressions as in jq, whose engine is Oniguruma: with Unicode, look-around and
//! back-references.
//!
//! Replaces the native functions of `jaq-std` on which `test`, `match`, `capture`, `scan`, `split`,
//! `sub` and `gsub` are built, because their engine supports ASCII only.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use fancy_regex::{Captures, Regex, RegexBuilder};
use jaq_core::data::JustLut;
use jaq_core::native::{self, Fun, bome, v};
use jaq_core::{Cv, Error, RunPtr, ValR};
use jaq_json::Val;

type Data = JustLut<Val>;

/// The number of backtracking steps after which a match fails, so that none runs for ever.
const MAX_BACKTRACKS: usize = 1_000_000;

/// The most compiled expressions that a thread caches. Nearly all expressions are literals of the
/// pipeline file. The bound is needed because an expression can also be computed from a value.
const MAX_COMPILED: usize = 64;

/// Returns the native functions, under the names of those in `jaq-std` that they replace.
pub(super) fn functions() -> impl Iterator<Item = Fun<Data>> {
    let functions: [(&'static str, RunPtr<Data>); 3] = [
        ("matches", |cv| bome(parts(cv, Parts { mismatches: false, matches: true }))),
        ("split_matches", |cv| bome(parts(cv, Parts { mismatches: true, matches: true }))),
        ("split_", |cv| bome(parts(cv, Parts { mismatches: true, matches: false }))),
    ];
    functions.into_iter().map(|(name, run)| native::run::<Data>((name, v(2), run)))
}

/// The parts of a text that a native function returns.
#[derive(Clone, Copy)]
struct Parts {
    /// The texts between matches.
    mismatches: bool,
    /// An array for each match: the match, and each of its groups.
    matches: bool,
}

/// Matches the text with a pattern, and returns an array of the wanted parts of the text.
fn parts(mut cv: Cv<'_, Data>, wanted: Parts) -> ValR<Val> {
    let flags = cv.0.pop_var();
    let pattern = cv.0.pop_var();
    // `test(["pattern", "flags"])` is another way to write `test("pattern"; "flags")`.
    let (pattern, flags) = match &pattern {
        Val::Arr(both) => match both.as_slice() {
            [pattern, flags] => (pattern.clone(), flags.clone()),
            [pattern] => (pattern.clone(), Val::Null),
            _ => (pattern, flags),
        },
        _ => (pattern, flags),
    };
    let (Some(text), Some(pattern)) = (text(&cv.1), text(&pattern)) else {
        let culprit = if text(&cv.1).is_none() { &cv.1 } else { &pattern };
        return Err(Error::str(format_args!("{culprit} cannot be matched, as it is not a string")));
    };
    let flags = match &flags {
        Val::Null => Flags::default(),
        flags => Flags::parse(flags)?,
    };
    let regex = compiled(pattern, flags)?;
    let names: Vec<Option<&str>> = regex.capture_names().collect();
    let mut characters = Characters { text, bytes: 0, count: 0 };
    let mut parts = Vec::new();
    let mut end = 0;
    for captures in regex.captures_iter(text) {
        let captures = captures.map_err(|error| Error::str(format_args!("{error}")))?;
        let Some(whole) = captures.get(0) else { continue };
        if flags.ignores_empty && whole.as_str().is_empty() {
            continue;
        }
        if wanted.mismatches {
            parts.push(Val::utf8_str(text[end..whole.start()].to_owned()));
            end = whole.end();
        }
        if wanted.matches {
            parts.push(groups(&captures, &names, &mut characters));
        }
        if !flags.is_global {
            break;
        }
    }
    if wanted.mismatches {
        parts.push(Val::utf8_str(text[end..].to_owned()));
    }
    Ok(parts.into_iter().collect())
}

fn text(value: &Val) -> Option<&str> {
    match value {
        Val::TStr(text) => std::str::from_utf8(text).ok(),
        _ => None,
    }
}

/// Describes a match and its groups. Offsets and lengths count characters, as in jq.
fn groups(captures: &Captures<'_>, names: &[Option<&str>], characters: &mut Characters<'_>) -> Val {
    let start = captures.get(0).map_or(0, |whole| whole.start());
    let start_in_characters = characters.before(start);
    let field = |name: &str, value: Val| (Val::utf8_str(name.to_owned()), value);
    let groups = captures.iter().zip(names).enumerate().map(|(number, (group, name))| {
        let (offset, length, string) = match group {
            Some(group) if group.start() >= start => {
                let skipped = characters.text[start..group.start()].chars().count();
                let offset = start_in_characters + skipped;
                (offset.cast_signed(), group.as_str().chars().count(), text_of(group.as_str()))
            }
            // A group in a look-behind lies before the match.
            Some(group) => {
                let offset = characters.text[..group.start()].chars().count();
                (offset.cast_signed(), group.as_str().chars().count(), text_of(group.as_str()))
            }
            None => (-1, 0, Val::Null),
        };
        let mut fields = vec![
            field("offset", Val::from(offset)),
            field("length", Val::from(length)),
            field("string", string),
        ];
        if number > 0 {
            fields.push(field("name", name.map_or(Val::Null, text_of)));
        }
        Val::obj(fields.into_iter().collect())
    });
    groups.collect()
}

fn text_of(text: &str) -> Val {
    Val::utf8_str(text.to_owned())
}

/// Counts the characters before byte offsets. Each offset must be at least as large as the last
/// one, because the count continues from there.
struct Characters<'a> {
    text: &'a str,
    bytes: usize,
    count: usize,
}

impl Characters<'_> {
    fn before(&mut self, offset: usize) -> usize {
        self.count += self.text[self.bytes..offset].chars().count();
        self.bytes = offset;
        self.count
    }
}

#[expect(clippy::struct_excessive_bools, reason = "the flags are independent of each other")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Flags {
    is_global: bool,
    ignores_empty: bool,
    ignores_case: bool,
    is_extended: bool,
    /// Whether `.` also matches the end of a line.
    dot_matches_newline: bool,
}

impl Flags {
    fn parse(flags: &Val) -> Result<Self, Error<Val>> {
        let invalid = || Error::str(format_args!("{flags} is not a valid modifier string"));
        let mut parsed = Self::default();
        for flag in text(flags).ok_or_else(invalid)?.chars() {
            match flag {
                'g' => parsed.is_global = true,
                'n' => parsed.ignores_empty = true,
                'i' => parsed.ignores_case = true,
                'x' => parsed.is_extended = true,
                'p' => parsed.dot_matches_newline = true,
                // The flag makes `^` and `$` match at the ends of the text only. Here they always
                // do.
                's' => {}
                'l' => {
                    return Err(Error::str("the flag `l` (longest match) is not supported here"));
                }
                _ => return Err(invalid()),
            }
        }
        Ok(parsed)
    }
}

fn compiled(pattern: &str, flags: Flags) -> Result<Rc<Regex>, Error<Val>> {
    type Compiled = HashMap<(String, Flags), Rc<Regex>>;
    thread_local!(static COMPILED: RefCell<Compiled> = RefCell::default());
    COMPILED.with_borrow_mut(|known| {
        let key = (pattern.to_owned(), flags);
        if let Some(regex) = known.get(&key) {
            return Ok(Rc::clone(regex));
        }
        let regex = RegexBuilder::new(&translated(pattern))
            .case_insensitive(flags.ignores_case)
            .ignore_whitespace(flags.is_extended)
            .dot_matches_new_line(flags.dot_matches_newline)
            .oniguruma_mode(true)
            .backtrack_limit(MAX_BACKTRACKS)
            .build();
        let regex = regex.map_err(|error| {
            Error::str(format_args!("{pattern} is not a valid regular expression: {error}"))
        })?;
        if known.len() >= MAX_COMPILED {
            known.clear();
        }
        let regex = Rc::new(regex);
        known.insert(key, Rc::clone(&regex));
        Ok(regex)
    })
}

/// Rewrites the parts of a pattern that mean something else in `fancy-regex` than in Oniguruma.
/// In Oniguruma, `$` also matches before a newline at the end of the text, POSIX brackets include
/// Unicode characters, and `\h` is the letter h.
fn translated(pattern: &str) -> String {
    let mut translated = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut depth = 0_u32;
    while let Some(next) = rest.chars().next() {
        let taken = match next {
            // `fancy-regex` would read `\h` as a hexadecimal digit.
            '\\' if rest.starts_with(r"\h") || rest.starts_with(r"\H") => {
                translated.push_str(&rest[1..2]);
                rest = &rest[2..];
                continue;
            }
            '\\' => 1 + rest[1..].chars().next().map_or(0, char::len_utf8),
            '$' if depth == 0 => {
                translated.push_str(r"(?=\n?\z)");
                rest = &rest[1..];
                continue;
            }
            '[' if depth > 0 && rest.starts_with("[:") => match posix_bracket(rest) {
                Some((class, length)) => {
                    translated.push_str(class);
                    rest = &rest[length..];
                    continue;
                }
                None => 1,
            },
            '[' => {
                depth += 1;
                // A bracket right after the opening one, or after its `^`, is a literal.
                let inner = rest[1..].strip_prefix('^').unwrap_or(&rest[1..]);
                let negated = rest.len() - 1 - inner.len();
                1 + negated + usize::from(inner.starts_with(']'))
            }
            ']' => {
                depth = depth.saturating_sub(1);
                1
            }
            other => other.len_utf8(),
        };
        translated.push_str(&rest[..taken]);
        rest = &rest[taken..];
    }
    translated
}

/// Returns the Unicode classes for the POSIX bracket, such as `[:alpha:]`, at the start of `text`,
/// and the bracket's length in bytes.
fn posix_bracket(text: &str) -> Option<(&'static str, usize)> {
    const CLASSES: [(&str, &str); 14] = [
        ("alnum", r"\p{L}\p{M}\p{Nd}"),
        ("alpha", r"\p{L}\p{M}"),
        ("ascii", r"\x00-\x7f"),
        ("blank", r"\p{Zs}\t"),
        ("cntrl", r"\p{C}"),
        ("digit", r"\p{Nd}"),
        ("graph", r"[^\p{White_Space}\p{Cc}\p{Cn}\p{Cs}]"),
        ("lower", r"\p{Lowercase}"),
        ("print", r"[^\p{Cc}\p{Cn}\p{Cs}]"),
        ("punct", r"\p{P}$+<=>^`|~"),
        ("space", r"\p{White_Space}"),
        ("upper", r"\p{Uppercase}"),
        ("word", r"\p{L}\p{M}\p{Nd}\p{Pc}"),
        ("xdigit", r"0-9a-fA-F"),
    ];
    CLASSES.iter().find_map(|(name, class)| {
        let bracket = text.strip_prefix("[:")?.strip_prefix(name)?.strip_prefix(":]")?;
        Some((*class, text.len() - bracket.len()))
    })
}
