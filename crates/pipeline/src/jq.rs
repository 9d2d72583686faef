//! `Jq`: the expressions of a pipeline file, compiled once.

mod arithmetic;
mod missing;
mod paths;
mod regex;
mod rewrite;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use forebay_stream::Failure;
use jaq_core::data::JustLut;
use jaq_core::load::{self, Arena, File, Loader, lex, parse};
use jaq_core::{Compiler, Ctx, Filter, Vars, compile};
use jaq_json::Val;
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use crate::codes;
use crate::diagnostic::nearest;
use crate::expand;
use crate::json::Json;
use crate::secrets::Secrets;

/// A jq expression that gives exactly one result for each value. Clones share the compiled program.
///
/// <https://jqlang.org/manual> describes the language. The expression is compiled when the file is
/// read.
#[derive(Clone)]
pub(crate) struct Jq(Arc<Program>);

/// A jq expression that computes the next state from the state `.` and the value `$item`.
#[derive(Clone, Debug)]
pub(crate) struct JqStep(Jq);

struct Program {
    text: String,
    /// The values of the variables of the pipeline file that are part of the text.
    secrets: Secrets,
    filter: Filter<JustLut<Val>>,
}

impl Jq {
    /// Compiles an expression that may use the variables, such as `["$item"]`.
    pub(crate) fn compile(text: &str, variables: &[&str]) -> Result<Self, String> {
        let arena = Arena::default();
        let definitions = rewrite::definitions(text, variables).ok_or_else(|| {
            // `rewrite` gives no reason; the loader does.
            let loaded = load_program(&arena, Vec::new(), text);
            loaded.err().map_or("it is not jq".to_owned(), |errors| syntax(text, &errors))
        })?;
        let call = match variables {
            [] => rewrite::EXPRESSION.to_owned(),
            variables => format!("{}({})", rewrite::EXPRESSION, variables.join("; ")),
        };
        let modules =
            load_program(&arena, definitions, &call).map_err(|errors| syntax(text, &errors))?;
        let replaced = |name: &str| regex::functions().any(|(own, ..)| own == name);
        let standard = jaq_std::funs().filter(move |(name, ..)| !replaced(name));
        let functions = jaq_core::funs().chain(standard).chain(jaq_json::funs());
        let functions = functions
            .chain(regex::functions())
            .chain(arithmetic::functions())
            .chain(paths::functions());
        let filter = Compiler::default()
            .with_funs(functions)
            .with_global_vars(variables.iter().copied())
            .compile(modules)
            .map_err(|errors| undefined(&errors))?;
        Ok(Self(Arc::new(Program { text: text.to_owned(), secrets: Secrets::default(), filter })))
    }

    /// Compiles an expression of the pipeline file that is being read.
    pub(crate) fn in_file(text: &Spanned<String>, variables: &[&str]) -> Result<Self, String> {
        let mut jq = Self::compile(text.get_ref(), variables)
            .map_err(|error| format!("not a jq expression: {error}"))?;
        if let Some(program) = Arc::get_mut(&mut jq.0) {
            program.secrets = expand::secrets_at(&text.span());
        }
        Ok(jq)
    }

    /// Returns the one result for `input`, with the values of the variables in the order of
    /// [`compile`](Self::compile).
    pub(crate) fn call(
        &self,
        input: Json,
        variables: impl IntoIterator<Item = Json>,
    ) -> Result<Json, Failure> {
        let Program { text, secrets, filter } = &*self.0;
        let variables = variables.into_iter().map(|Json(value)| value);
        // A panic in jaq is a bug of jaq. It fails one event, and does not end the pipeline.
        // In the closure's result, `Err(None)` means no result or several.
        let result = catch_unwind(AssertUnwindSafe(|| {
            let context = Ctx::<JustLut<Val>>::new(&filter.lut, Vars::new(variables));
            let mut results = filter.id.run((context, input.0));
            let first = results.next().ok_or(None)?;
            let first = first.map_err(|exception| Some(exception_message(exception)))?;
            match results.next() {
                None => Ok(Json(first)),
                Some(Ok(_)) => Err(None),
                Some(Err(exception)) => Err(Some(exception_message(exception))),
            }
        }));
        let panicked = || Err(Some("jq itself failed".to_owned()));
        result.unwrap_or_else(|_| panicked()).map_err(|error| match error {
            Some(error) => {
                Failure::new(codes::JQ_ERROR, secrets.hide(&format!("`{text}`: {error}"), ""))
            }
            None => Failure::new(
                codes::JQ_RESULTS,
                format_args!("`{self}` gives no result or several; exactly one is needed"),
            ),
        })
    }

    /// Returns the one result for `input` of an expression without variables.
    pub(crate) fn of(&self, input: &Json) -> Result<Json, Failure> {
        self.call(input.clone(), [])
    }

    /// Returns whether the result is true, which means anything but `false` and `null`, as in jq.
    pub(crate) fn holds(&self, input: &Json) -> Result<bool, Failure> {
        let Json(result) = self.of(input)?;
        Ok(!matches!(result, Val::Null | Val::Bool(false)))
    }
}

impl JqStep {
    /// Returns the next state, from the state and a value.
    pub(crate) fn call(&self, state: Json, item: Json) -> Result<Json, Failure> {
        self.0.call(state, [item])
    }
}

fn load_program<'a>(
    arena: &'a Arena,
    definitions: Vec<parse::Def<&'a str>>,
    code: &'a str,
) -> Result<load::Modules<&'a str, ()>, load::Errors<&'a str, ()>> {
    let standard = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    #[expect(
        clippy::map_identity,
        reason = "shortens the lifetime, so that both parts have one type"
    )]
    let standard = standard.map(|definition| -> parse::Def<&'a str> { definition });
    Loader::new(standard.chain(definitions)).load(arena, File { code, path: () })
}

/// Returns the message of an exception. In jq, `halt` ends the process; here it fails the event, as
/// `error` does.
fn exception_message(exception: jaq_core::Exn<'_, Val>) -> String {
    match exception.get_err() {
        Ok(error) => error.to_string(),
        Err(_) => "`halt` is not supported in pipelines".to_owned(),
    }
}

fn syntax(text: &str, errors: &load::Errors<&str, ()>) -> String {
    let Some((_, error)) = errors.first() else { return "it is not jq".to_owned() };
    let (expected, rest) = match error {
        load::Error::Io(_) => return "modules cannot be imported here".to_owned(),
        load::Error::Lex(errors) => match errors.first() {
            Some((expected, rest)) => (expected_token(expected), *rest),
            None => return "it is not jq".to_owned(),
        },
        load::Error::Parse(errors) => match errors.first() {
            Some((expected, rest)) => (expected_syntax(expected), *rest),
            None => return "it is not jq".to_owned(),
        },
    };
    let rest = rest.trim_end();
    if rest.is_empty() || !text.contains(rest) {
        format!("expected {expected} at the end")
    } else {
        format!("expected {expected} at `{rest}`")
    }
}

fn expected_token(expected: &lex::Expect<&str>) -> String {
    match expected {
        lex::Expect::Delim(open) => format!("a closing delimiter for `{open}`"),
        other => other.as_str().to_owned(),
    }
}

fn expected_syntax(expected: &parse::Expect<&str>) -> String {
    match expected {
        parse::Expect::Nothing => "the end of the expression".to_owned(),
        other => other.as_str().to_owned(),
    }
}

/// Returns a hint for an expression that was refused with `error`.
pub(crate) fn hint(error: &str) -> String {
    const MANUAL: &str = "https://jqlang.org/manual explains expressions";
    let name = error.strip_prefix("jq has no filter `").and_then(|rest| rest.split('`').next());
    let Some(name) = name else {
        return if error.contains("is not supported here") {
            "docs/operators.md lists what expressions do not have".to_owned()
        } else {
            MANUAL.to_owned()
        };
    };
    let definitions = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    let functions = jaq_core::funs::<JustLut<Val>>().chain(jaq_std::funs()).chain(jaq_json::funs());
    let known = definitions.map(|definition| definition.name).chain(functions.map(|of| of.0));
    let known: Vec<&str> = known.filter(|name| !name.starts_with('_')).collect();
    match nearest(name, &known) {
        Some(nearest) if nearest == name => format!("{MANUAL}, and the arguments of `{name}`"),
        Some(nearest) => format!("did you mean `{nearest}`?"),
        None => {
            format!("{MANUAL}; a text in an expression has quotes of its own, as in '\"{name}\"'")
        }
    }
}

fn undefined(errors: &compile::Errors<&str, ()>) -> String {
    let first = errors.first().and_then(|(_, errors)| errors.first());
    if let Some((name, _)) = first
        && let Some(reason) = missing::reason(name)
    {
        return format!("jq's `{name}` is not supported here: {reason}");
    }
    match first {
        Some((name, compile::Undefined::Filter(0))) => format!("jq has no filter `{name}`"),
        Some((name, compile::Undefined::Filter(arity))) => {
            let arguments = if *arity == 1 { "argument" } else { "arguments" };
            format!("jq has no filter `{name}` with {arity} {arguments}")
        }
        Some((name, kind)) => format!("there is no {} `{name}`", kind.as_str()),
        None => "it is not jq".to_owned(),
    }
}

impl fmt::Display for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.secrets.hide(&self.0.text, ""))
    }
}

impl fmt::Debug for Jq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Jq({self})")
    }
}

impl<'de> Deserialize<'de> for Jq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        compiled(deserializer, &[])
    }
}

impl<'de> Deserialize<'de> for JqStep {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        compiled(deserializer, &["$item"]).map(Self)
    }
}

fn compiled<'de, D: Deserializer<'de>>(
    deserializer: D,
    variables: &[&str],
) -> Result<Jq, D::Error> {
    let text = Spanned::<String>::deserialize(deserializer)?;
    Jq::in_file(&text, variables).map_err(de::Error::custom)
}

#[cfg(test)]
mod differences;
#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::Jq;
    use crate::json::Json;

    fn call(expression: &str, input: &str) -> Result<String, String> {
        let jq = Jq::compile(expression, &["$item"])?;
        let input = Json::parse(input.as_bytes()).unwrap();
        let result = jq.call(input, [Json::parse(b"7").unwrap()]);
        result.map(|json| json.to_string()).map_err(|failure| failure.to_string())
    }

    #[test]
    fn an_expression_gives_exactly_one_result() {
        assert_eq!(call(".a + $item", "{\"a\": 1}").unwrap(), "8");
        assert_eq!(call("map(. * 2) | add", "[1, 2]").unwrap(), "6");
        assert_eq!(call("{b: .a, a: 1.50}", "{\"a\": null}").unwrap(), "{\"b\":null,\"a\":1.50}");
        assert_eq!(call("test(\"^a\")", "\"abc\"").unwrap(), "true");
    }

    #[test]
    fn a_failure_names_the_expression() {
        assert_eq!(call(".a", "5").unwrap_err(), "jq_error: `.a`: cannot index 5 with \"a\"");
        assert_eq!(call("error(\"no\")", "5").unwrap_err(), "jq_error: `error(\"no\")`: \"no\"");
        let several = call(".[]", "[1, 2]").unwrap_err();
        assert_eq!(several, "jq_results: `.[]` gives no result or several; exactly one is needed");
        assert!(call("empty", "1").unwrap_err().starts_with("jq_results"));
        assert!(call("1, error(\"late\")", "1").unwrap_err().contains("late"));
        assert!(
            call("halt", "1").unwrap_err().starts_with("jq_error"),
            "`halt` does not end the process"
        );
    }

    #[test]
    fn a_failure_does_not_show_the_values_of_variables_a12() {
        let text = "[source.stdin]\n[[step]]\nmap = \". + \\\"${S}\\\"\"\n[sink.stdout]\n";
        let plan = crate::Plan::parse(std::path::Path::new("a"), text, &|_| Some("hunter2".into()));
        assert!(plan.is_ok());
        let mut jq = Jq::compile(". + \"hunter2\"", &[]).unwrap();
        let mut secrets = crate::secrets::Secrets::default();
        secrets.add("hunter2", "${S}".to_owned());
        std::sync::Arc::get_mut(&mut jq.0).unwrap().secrets = secrets;
        let failure = jq.of(&Json::from(5_usize)).unwrap_err();
        assert_eq!(failure.message(), "`. + \"${S}\"`: cannot calculate 5 + \"${S}\"");
        assert_eq!(format!("{jq} {jq:?}"), ". + \"${S}\" Jq(. + \"${S}\")");
        assert_eq!(jq.of(&Json::text("a")).unwrap().as_str(), Some("ahunter2"));
    }

    #[test]
    fn a_syntax_error_says_what_is_expected() {
        let said = |expression| Jq::compile(expression, &[]).unwrap_err();
        assert_eq!(said(".a |"), "expected term at the end");
        assert_eq!(said("("), "expected a closing delimiter for `(` at the end");
        assert_eq!(said(".a ++"), "expected the end of the expression at `++`");
        assert_eq!(said("foo"), "jq has no filter `foo`");
        assert_eq!(said("$item"), "there is no variable `$item`");
        assert_eq!(said("import \"a\" as a; ."), "modules cannot be imported here");
    }
}
