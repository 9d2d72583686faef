//! Rewrites the operators of an expression for which `jaq` gives other results than jq.
//!
//! `jaq` has no way to replace an operator, so `/`, `%` and the assignments become calls of filters
//! in `definitions.jq`.

use jaq_core::load::lex::StrPart;
use jaq_core::load::parse::{self, BinaryOp, Def, Pattern, Term};
use jaq_core::load::{self};
use jaq_core::ops::Math;
use jaq_core::path::{Part, Path};

const DEFINITIONS: &str = include_str!("definitions.jq");

/// The name of the filter whose body is the rewritten expression.
pub(super) const EXPRESSION: &str = "forebay_expression";

/// The variable that holds the right side of a rewritten assignment.
const OPERAND: &str = "$forebay_operand";

/// Returns the filters of `definitions.jq`, and a filter with the rewritten expression as its body
/// and the variables as its arguments. `None` if the expression is not valid jq.
pub(super) fn definitions<'a>(text: &'a str, variables: &[&'a str]) -> Option<Vec<Def<&'a str>>> {
    let mut definitions = load::parse(DEFINITIONS, |parser| parser.defs())?;
    let body = rewritten(load::parse(text, |parser: &mut parse::Parser<'a, '_>| parser.term())?);
    definitions.push(Def { name: EXPRESSION, args: variables.to_vec(), body });
    Some(definitions)
}

fn rewritten(term: Term<&str>) -> Term<&str> {
    let boxed = |term: Box<Term<_>>| Box::new(rewritten(*term));
    let all = |terms: Vec<Term<_>>| terms.into_iter().map(rewritten).collect::<Vec<_>>();
    match term {
        Term::BinOp(left, operator, right) => {
            let left = rewritten(*left);
            let right = rewritten(*right);
            match operator {
                BinaryOp::Math(Math::Div) => Term::Call("forebay_divide", vec![left, right]),
                BinaryOp::Math(Math::Rem) => Term::Call("forebay_modulo", vec![left, right]),
                BinaryOp::Update => Term::Call("forebay_update", vec![left, right]),
                BinaryOp::Assign => update(left, right, Term::Var(OPERAND)),
                BinaryOp::UpdateMath(operation) => {
                    let computed = BinaryOp::Math(operation);
                    update(left, right, rewritten(on_operand(computed)))
                }
                BinaryOp::UpdateAlt => update(left, right, on_operand(BinaryOp::Alt)),
                BinaryOp::Pipe(Some(pattern)) => {
                    let operator = BinaryOp::Pipe(Some(rewritten_pattern(pattern)));
                    Term::BinOp(Box::new(left), operator, Box::new(right))
                }
                operator => Term::BinOp(Box::new(left), operator, Box::new(right)),
            }
        }
        Term::Str(format, parts) => {
            let part = |part| match part {
                StrPart::Term(term) => StrPart::Term(rewritten(term)),
                part => part,
            };
            Term::Str(format, parts.into_iter().map(part).collect())
        }
        Term::Arr(members) => Term::Arr(members.map(boxed)),
        Term::Obj(fields) => {
            let field =
                |(key, value): (Term<_>, Option<Term<_>>)| (rewritten(key), value.map(rewritten));
            Term::Obj(fields.into_iter().map(field).collect())
        }
        Term::Neg(term) => Term::Neg(boxed(term)),
        Term::Label(name, term) => Term::Label(name, boxed(term)),
        Term::Fold(name, values, pattern, terms) => {
            Term::Fold(name, boxed(values), rewritten_pattern(pattern), all(terms))
        }
        Term::TryCatch(term, catch) => Term::TryCatch(boxed(term), catch.map(boxed)),
        Term::IfThenElse(branches, otherwise) => {
            let branch = |(condition, then)| (rewritten(condition), rewritten(then));
            let branches = branches.into_iter().map(branch).collect();
            Term::IfThenElse(branches, otherwise.map(boxed))
        }
        Term::Def(definitions, term) => {
            let definition =
                |definition: Def<_>| Def { body: rewritten(definition.body), ..definition };
            Term::Def(definitions.into_iter().map(definition).collect(), boxed(term))
        }
        Term::Call(name, arguments) => Term::Call(name, all(arguments)),
        Term::Path(term, Path(parts)) => {
            let part = |(part, optional)| {
                let part = match part {
                    Part::Index(index) => Part::Index(rewritten(index)),
                    Part::Range(from, to) => Part::Range(from.map(rewritten), to.map(rewritten)),
                };
                (part, optional)
            };
            Term::Path(boxed(term), Path(parts.into_iter().map(part).collect()))
        }
        term @ (Term::Id | Term::Recurse | Term::Num(_) | Term::Break(_) | Term::Var(_)) => term,
    }
}

/// Returns the term `. OPERATOR $forebay_operand`.
fn on_operand(operator: BinaryOp<&'static str>) -> Term<&'static str> {
    Term::BinOp(Box::default(), operator, Box::new(Term::Var(OPERAND)))
}

/// Returns the term `right as $forebay_operand | forebay_update(left; value)`.
fn update<'a>(left: Term<&'a str>, right: Term<&'a str>, value: Term<&'a str>) -> Term<&'a str> {
    let update = Term::Call("forebay_update", vec![left, value]);
    let bind = BinaryOp::Pipe(Some(Pattern::Var(OPERAND)));
    Term::BinOp(Box::new(right), bind, Box::new(update))
}

fn rewritten_pattern(pattern: Pattern<&str>) -> Pattern<&str> {
    match pattern {
        Pattern::Var(name) => Pattern::Var(name),
        Pattern::Arr(members) => Pattern::Arr(members.into_iter().map(rewritten_pattern).collect()),
        Pattern::Obj(fields) => {
            let field = |(key, pattern)| (rewritten(key), rewritten_pattern(pattern));
            Pattern::Obj(fields.into_iter().map(field).collect())
        }
    }
}
