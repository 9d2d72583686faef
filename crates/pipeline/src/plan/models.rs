//! Models, from what the file says of them.

use std::str::FromStr;

use forebay_model::TextModelOptions;
use toml::Spanned;
use toml::de::DeValue;

use super::ModelPlan;
use crate::diagnostic::Problem;
use crate::file::{self, Entry, ModelTable};
use crate::registry::Registry;

pub(super) fn model(entry: Entry<'_>, registry: &Registry) -> Result<ModelPlan, Problem> {
    let settings = entry.settings;
    let span = settings.span();
    let custom = |kind: &str| registry.has_model(kind);
    match settings.into_inner() {
        // `[model.ANY.KIND]`: the one key says whose model it is.
        DeValue::Table(table) if table.keys().any(|key| custom(key.get_ref())) => {
            let mut entries = table.into_iter();
            let (Some((kind, settings)), None) = (entries.next(), entries.next()) else {
                return Err(Problem::new("a model is of one kind", span));
            };
            let model = registry.parse_model(kind.get_ref(), settings);
            model
                .unwrap_or_else(|| Err(Problem::new("there is no such model", span)))
                .map(ModelPlan::Custom)
        }
        settings => text(file::value(Spanned::new(span, settings))?),
    }
}

fn text(table: ModelTable) -> Result<ModelPlan, Problem> {
    let span = table.path.span();
    let path = table.path.into_inner();
    if path.as_os_str().is_empty() {
        return Err(Problem::new("the model's path is empty", span));
    }
    let mut options = TextModelOptions::new(path);
    if let Some(device) = table.device {
        options.device = named(&device)?;
    }
    options.task = table.task.as_ref().map(named).transpose()?;
    options.max_tokens = table.max_tokens;
    options.threads = table.threads;
    options.truncate = table.truncate;
    Ok(ModelPlan::Text(Box::new(options)))
}

/// A value that is written as its name.
fn named<T: FromStr<Err: std::fmt::Display>>(text: &Spanned<String>) -> Result<T, Problem> {
    text.get_ref().parse().map_err(|error| Problem::new(error, text.span()))
}
