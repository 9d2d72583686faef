//! Checks which steps get batches and which get single values.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use toml::Spanned;

use super::wiring::{Draft, From};
use super::{ModelPlan, NodeRef, Output, Port};
use crate::diagnostic::Problem;
use crate::file;
use crate::step::{MapBatch, Operator};

/// The largest batch that models are warmed up for.
const MAX_BATCH: NonZeroUsize = NonZeroUsize::new(1024).expect("1024 is not zero");

/// Checks which steps get batches and which get single values, and records the largest batch of
/// each model.
pub(super) struct Shapes<'a> {
    pub(super) drafts: &'a [Draft],
    pub(super) inputs: &'a [From],
    pub(super) used: &'a [Port],
    pub(super) models: &'a mut BTreeMap<String, ModelPlan>,
}

impl Shapes<'_> {
    pub(super) fn check(self, order: &[usize]) -> Result<(), Problem> {
        let mut called = Vec::new();
        // The size of the largest batch that leaves each step. Steps without an entry, and sources,
        // emit single values.
        let mut batches: BTreeMap<usize, NonZeroUsize> = BTreeMap::new();
        for &step in order {
            let input = match self.inputs[step].first() {
                Some((Port { node: NodeRef::Step(from), .. }, _)) => batches.get(from).copied(),
                _ => None,
            };
            let port = Port { node: NodeRef::Step(step), output: Output::Only };
            // If several steps or sinks take from this step, they get arrays instead of batches,
            // because each of them needs its own share of the receipt of every value.
            let shared = self.used.iter().filter(|used| **used == port).count() > 1;
            let draft = &self.drafts[step];
            if !matches!(draft.operator, Operator::MapBatch(_)) {
                self.check_has_tokens(step)?;
            }
            let size = match &draft.operator {
                Operator::Window(window) => Some(window.max_size()),
                Operator::Collect(collect) => Some(collect.max_size.get()),
                Operator::MapBatch(map_batch) => {
                    let size = input.ok_or_else(|| not_batched(draft))?;
                    if !self.is_text(map_batch) {
                        self.check_has_tokens(step)?;
                    }
                    if let Some(name) = map_batch.model() {
                        call(self.models, name, size, &mut called)?;
                    }
                    None
                }
                _ => None,
            };
            if let Some(size) = size.filter(|_| !shared) {
                batches.insert(step, size);
            }
        }
        // Models that no step names are not loaded.
        self.models.retain(|name, _| called.contains(name));
        Ok(())
    }

    fn is_text(&self, map_batch: &MapBatch) -> bool {
        let Some(name) = map_batch.model() else { return false };
        matches!(self.models.get(name.get_ref()), Some(ModelPlan::Text(_)))
    }

    /// Refuses a window limited by tokens before a step that is not a text model: only a text model
    /// can count tokens.
    fn check_has_tokens(&self, step: usize) -> Result<(), Problem> {
        for (port, _) in &self.inputs[step] {
            if let NodeRef::Step(from) = port.node
                && let Operator::Window(window) = &self.drafts[from].operator
                && let Some((key, span)) = window.text_only_setting()
            {
                let message = format_args!(
                    "`{key}` needs a text model, which `{}` does not call",
                    self.drafts[step].kind
                );
                return Err(Problem::new(message, span)
                    .help("limit it by `max_size`, or by `cost` and `max_cost`"));
            }
        }
        Ok(())
    }
}

fn not_batched(draft: &Draft) -> Problem {
    let message = format_args!("`{}` takes batches, but gets single values", draft.kind);
    Problem::new(message, draft.span.clone())
        .help("put a window directly before it, such as `adaptive_window`; no other step may take from the window")
}

fn call(
    models: &mut BTreeMap<String, ModelPlan>,
    model: &Spanned<String>,
    size: NonZeroUsize,
    called: &mut Vec<String>,
) -> Result<(), Problem> {
    let name = model.get_ref();
    let Some(plan) = models.get_mut(name) else {
        let known = models.keys().map(String::as_str);
        let problem = file::unknown("model", name, model.span(), known);
        return Err(if models.is_empty() {
            problem.help(format_args!("add a `[model.{name}]` table with a `path`"))
        } else {
            problem
        });
    };
    if let ModelPlan::Text(plan) = plan {
        let options = &mut plan.options;
        // A model computes a larger batch in parts.
        let size = size.min(MAX_BATCH);
        let known = called.contains(name);
        options.max_batch = if known { options.max_batch.max(size) } else { size };
    }
    called.push(name.clone());
    Ok(())
}
