//! `Enrich`: selects the part of a value that a model gets, and puts the result into the value.

mod path;

use forebay_stream::codes::WRONG_RESULT_COUNT;
use forebay_stream::{Batch, BatchResult, Failure};
use serde::Deserialize;

use crate::answer;
use crate::jq::Jq;
use crate::json::Json;
use crate::request;

pub(crate) use path::Path;

/// The settings `input`, `output` and `on_error` of a `map_batch` step. Without `input`, the model
/// gets the whole value. Without `output`, the result replaces the value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Enrich {
    pub(crate) input: Option<Jq>,
    pub(crate) output: Option<Path>,
    pub(crate) on_error: Option<Fallback>,
}

/// The setting `on_error`: the fallback that is put into a value for which the model failed, so
/// that the value is passed on.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Fallback {
    /// Put at `output` in place of the result; null if it is not set.
    #[serde(default)]
    value: Json,
    /// Where the error is put. If it is not set: beside the output, with `_error` added to the
    /// output's name.
    error: Option<Path>,
}

/// A value, and the inputs for a model that were extracted from it.
#[derive(Clone, Debug)]
pub(crate) struct Extracted<T> {
    /// The value that the result is put into; null if the result replaces it.
    value: Json,
    inputs: Result<Inputs<T>, Failure>,
}

/// The inputs that were extracted from one value. One input gives one result, and several give an
/// array of results.
#[derive(Clone, Debug)]
enum Inputs<T> {
    One(T),
    Several(Vec<T>),
}

impl<T> Inputs<T> {
    fn as_slice(&self) -> &[T] {
        match self {
            Self::One(input) => std::slice::from_ref(input),
            Self::Several(inputs) => inputs,
        }
    }
}

impl<T> Extracted<T> {
    /// Returns the inputs, or an empty slice if they could not be extracted.
    pub(crate) fn inputs(&self) -> &[T] {
        self.inputs.as_ref().map_or(&[], Inputs::as_slice)
    }

    /// Replaces each input by the result of `f`. If `f` fails for one input, no input is left.
    pub(crate) async fn try_map<U, F>(self, mut f: impl FnMut(T) -> F) -> Extracted<U>
    where
        F: Future<Output = Result<U, Failure>>,
    {
        let inputs = match self.inputs {
            Ok(Inputs::One(input)) => f(input).await.map(Inputs::One),
            Ok(Inputs::Several(inputs)) => {
                let mut mapped = Ok(Vec::with_capacity(inputs.len()));
                for (position, input) in inputs.into_iter().enumerate() {
                    let Ok(members) = &mut mapped else { break };
                    match f(input).await {
                        Ok(input) => members.push(input),
                        Err(failure) => mapped = Err(at(position, &failure)),
                    }
                }
                mapped.map(Inputs::Several)
            }
            Err(failure) => Err(failure),
        };
        Extracted { value: self.value, inputs }
    }
}

impl Enrich {
    /// Extracts the input for a model that takes any JSON.
    pub(crate) fn json(&self, value: &Json) -> Extracted<Json> {
        self.extract(value, |input| Ok(Inputs::One(input)))
    }

    /// Extracts the texts for a text model. A value is a string or an object with the field `text`;
    /// if `input` is set, its result may also be an array of these.
    pub(crate) fn texts(&self, value: &Json) -> Extracted<String> {
        let Some(jq) = &self.input else {
            return self.extract(value, |request| request::text(&request).map(Inputs::One));
        };
        self.extract(value, |input| {
            let text = |input: &Json| request::text_of_input(input, jq);
            let Ok(members) = input.clone().into_members() else {
                return text(&input).map(Inputs::One);
            };
            let texts = members.iter().enumerate();
            let texts = texts.map(|(position, member)| text(member).map_err(|f| at(position, &f)));
            texts.collect::<Result<_, _>>().map(Inputs::Several)
        })
    }

    fn extract<T>(
        &self,
        value: &Json,
        inputs: impl FnOnce(Json) -> Result<Inputs<T>, Failure>,
    ) -> Extracted<T> {
        let fits = self.output.as_ref().map_or(Ok(()), |output| output.check(value));
        let input = fits.and_then(|()| match &self.input {
            Some(jq) => jq.of(value),
            None => Ok(value.clone()),
        });
        let value = if self.output.is_some() { value.clone() } else { Json::default() };
        Extracted { value, inputs: input.and_then(inputs) }
    }

    /// Returns the failure of an extraction if `on_error` does not replace it, so that the value is
    /// not put into a batch.
    pub(crate) fn admit<T>(&self, extracted: Extracted<T>) -> Result<Extracted<T>, Failure> {
        match &extracted.inputs {
            Err(failure) if self.fallback(failure).is_none() => Err(failure.clone()),
            _ => Ok(extracted),
        }
    }

    /// Calls a model once with the inputs of all values, and gives one result for each value.
    pub(crate) async fn call<T, F>(
        &self,
        batch: &[Extracted<T>],
        model: impl FnOnce(Batch<T>) -> F,
    ) -> BatchResult<Json>
    where
        T: Clone,
        F: Future<Output = BatchResult<Json>>,
    {
        let inputs: Vec<T> = batch.iter().flat_map(Extracted::inputs).cloned().collect();
        let expected = inputs.len();
        let results = if inputs.is_empty() { Ok(Vec::new()) } else { model(inputs.into()).await };
        let results = match (results, batch) {
            (Ok(results), _) => results,
            // `map_batch` splits a failed batch and calls again, until the value at fault is alone.
            // The fallback waits for that, because it belongs to this value only.
            (Err(failure), [only]) if self.fallback(&failure).is_some() => {
                return Ok(vec![self.finish(only, Err(failure))]);
            }
            (Err(failure), _) => return Err(failure),
        };
        if results.len() != expected {
            let message =
                format_args!("the model returned {} results for {expected} inputs", results.len());
            let failure = Failure::new(WRONG_RESULT_COUNT, message);
            return Ok(batch
                .iter()
                .map(|value| self.finish(value, Err(failure.clone())))
                .collect());
        }
        let mut results = results.into_iter();
        let finished = batch.iter().map(|extracted| {
            let result = match &extracted.inputs {
                Ok(Inputs::One(_)) => results.next().expect("the results were counted"),
                Ok(Inputs::Several(inputs)) => {
                    let members: Vec<_> = results.by_ref().take(inputs.len()).collect();
                    let members = members.into_iter().enumerate();
                    let members = members.map(|(n, member)| member.map_err(|f| at(n, &f)));
                    members.collect::<Result<Vec<_>, _>>().map(Json::array)
                }
                Err(failure) => Err(failure.clone()),
            };
            self.finish(extracted, result)
        });
        Ok(finished.collect())
    }

    fn finish<T>(
        &self,
        extracted: &Extracted<T>,
        result: Result<Json, Failure>,
    ) -> Result<Json, Failure> {
        let Some(output) = &self.output else { return result };
        let value = extracted.value.clone();
        match result {
            Ok(result) => output.put(value, result),
            Err(failure) => {
                let Some(fallback) = self.fallback(&failure) else { return Err(failure) };
                tracing::debug!(%failure, "a value failed and is passed on with the fallback of `on_error`");
                let error = fallback.error.clone();
                let error = error.unwrap_or_else(|| output.with_error_suffix());
                let value = output.put(value, fallback.value.clone())?;
                error.put(value, answer::error(&failure))
            }
        }
    }

    /// Returns the fallback for a value that failed with `failure`, if `on_error` is set. A
    /// transient failure gets none, so that `[on_failure]` can retry the request.
    fn fallback(&self, failure: &Failure) -> Option<&Fallback> {
        self.on_error.as_ref().filter(|_| !failure.is_transient())
    }
}

/// Adds to the failure's message the position of the array member that failed.
fn at(position: usize, failure: &Failure) -> Failure {
    let message = format_args!("input {position} of the array: {}", failure.message());
    let located = Failure::new(failure.code().to_owned(), message);
    if failure.is_transient() { located.transient() } else { located }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use forebay_stream::{Batch, BatchResult, Failure};

    use super::{Enrich, Fallback};
    use crate::jq::Jq;
    use crate::json::Json;

    fn json(text: &str) -> Json {
        Json::parse(text.as_bytes()).unwrap()
    }

    fn enrich(input: &str, output: &str, on_error: Option<&str>) -> Enrich {
        let value = on_error.map(json);
        Enrich {
            input: Some(Jq::compile(input, &[]).unwrap()),
            output: Some(output.parse().unwrap()),
            on_error: value.map(|value| Fallback { value, error: None }),
        }
    }

    /// A model that returns each text's length. It fails for the text "bad" alone, for the whole
    /// batch if it contains "worse", and with a transient failure if it contains "lost".
    fn model(texts: &Batch<String>) -> BatchResult<Json> {
        if texts.iter().any(|text| text == "worse") {
            return Err(Failure::new("model_failed", "no"));
        }
        if texts.iter().any(|text| text == "lost") {
            return Err(Failure::new("device_failed", "gone").transient());
        }
        let result = |text: &String| match text.as_str() {
            "bad" => Err(Failure::new("disliked", "not that")),
            text => Ok(Json::from(text.len())),
        };
        Ok(texts.iter().map(result).collect())
    }

    fn call(enrich: &Enrich, values: &[&str]) -> Result<Vec<String>, Failure> {
        let batch: Vec<_> = values.iter().map(|value| enrich.texts(&json(value))).collect();
        let results = enrich.call(&batch, |texts: Batch<String>| ready(model(&texts)));
        let results = futures::executor::block_on(results)?;
        let shown = |result: Result<Json, Failure>| match result {
            Ok(value) => value.to_string(),
            Err(failure) => failure.to_string(),
        };
        Ok(results.into_iter().map(shown).collect())
    }

    #[test]
    fn each_value_gets_its_own_result_and_keeps_its_other_fields() {
        let enrich = enrich(".review.body", ".length", None);
        let first =
            r#"{"id":18446744073709551617,"price":1.10,"review":{"body":"abc"},"z":1,"a":"ü"}"#;
        let second = r#"{"review":{"body":"abcd"},"length":null,"last":1e400}"#;
        let expected = [
            format!("{},\"length\":3}}", first.strip_suffix('}').unwrap()),
            second.replace("null", "4"),
        ];
        assert_eq!(call(&enrich, &[first, second]).unwrap(), expected);
    }

    #[test]
    fn in_one_batch_an_array_gets_an_array_of_results_and_a_text_gets_one() {
        let enrich = enrich(".t", ".n", None);
        let values =
            [r#"{"t":"a"}"#, r#"{"t":["ab",{"text":"abc"}]}"#, r#"{"t":[]}"#, r#"{"t":"abcd"}"#];
        let expected = [
            r#"{"t":"a","n":1}"#,
            r#"{"t":["ab",{"text":"abc"}],"n":[2,3]}"#,
            r#"{"t":[],"n":[]}"#,
            r#"{"t":"abcd","n":4}"#,
        ];
        assert_eq!(call(&enrich, &values).unwrap(), expected);
    }

    #[test]
    fn a_failure_names_its_input_and_does_not_affect_other_values() {
        let enrich = enrich(".t", ".n", None);
        let values = [
            r#"{"t":["a","bad","b"]}"#,
            r#"{"t":["a",null]}"#,
            r#"{"other":1}"#,
            r#"{"t":" "}"#,
            r#"{"t":7}"#,
            r#"{"t":{"txt":"a"}}"#,
            r#""text""#,
            r#"{"t":"abc"}"#,
        ];
        let expected = [
            "disliked: input 1 of the array: not that",
            "null_value: input 1 of the array: the input `.t` is null; it must give a string",
            "null_value: the input `.t` is null; it must give a string",
            "empty_text: the input `.t` is empty; it must give a string",
            "invalid_type: the input `.t` is a number; it must give a string",
            "missing_field: the input `.t` has no field \"text\"; it must give a string",
            "invalid_type: the result cannot be put at `.n`: the value is a string",
            r#"{"t":"abc","n":3}"#,
        ];
        assert_eq!(call(&enrich, &values).unwrap(), expected);
    }

    #[test]
    fn a_failed_value_is_passed_on_with_the_fallback_and_the_error() {
        let enrich = enrich(".t", ".n", Some("-1"));
        let values = [r#"{"t":"bad"}"#, r#"{"t":null}"#, r#"{"t":"abc"}"#, "[]"];
        let expected = [
            r#"{"t":"bad","n":-1,"n_error":{"code":"disliked","message":"not that"}}"#,
            r#"{"t":null,"n":-1,"n_error":{"code":"null_value","message":"the input `.t` is null; it must give a string"}}"#,
            r#"{"t":"abc","n":3}"#,
        ];
        let results = call(&enrich, &values).unwrap();
        assert_eq!(results[..3], expected);
        assert!(results[3].starts_with("invalid_type: the result cannot be put at `.n`"));
    }

    #[test]
    fn a_failed_call_gets_the_fallback_only_for_a_batch_of_one() {
        let enrich = enrich(".t", ".n", Some("null"));
        let worse = r#"{"t":"worse"}"#;
        assert_eq!(call(&enrich, &[worse, worse]).unwrap_err().code(), "model_failed");
        let expected = r#"{"t":"worse","n":null,"n_error":{"code":"model_failed","message":"no"}}"#;
        assert_eq!(call(&enrich, &[worse]).unwrap(), [expected]);
    }

    #[test]
    fn a_transient_failure_gets_no_fallback_so_that_it_can_be_retried() {
        let enrich = enrich(".t", ".n", Some("null"));
        let failure = call(&enrich, &[r#"{"t":"lost"}"#]).unwrap_err();
        assert!(failure.is_transient());
    }
}
