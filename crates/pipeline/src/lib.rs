//! Pipelines from TOML files: the file, the validated plan, and the running pipeline.
//!
//! [`Plan::load`] reads a file, expands `${ENV}` and `${file:PATH}` in its strings and checks everything that can be checked without
//! connecting to anything. [`Plan::graph`] draws it and [`Plan::run`] runs it. A [`Registry`] adds operators, sources,
//! sinks and models of one's own. Only this crate knows TOML, and the types that describe the file's syntax never
//! leave it.

mod answer;
mod assemble;
mod deadline;
mod diagnostic;
mod draw;
mod expand;
mod file;
mod interval;
mod jq;
mod json;
mod letter_filter;
mod lines;
mod nowhere;
mod plan;
mod record;
mod registry;
mod request;
mod run;
mod step;
mod svg;
mod task;
mod view;

pub use answer::Answer;
pub use diagnostic::{ConfigError, Diagnostic};
pub use json::Json;
pub use letter_filter::LetterFilter;
pub use plan::Plan;
pub use registry::{BoxError, Registry};
pub use run::{Progress, RunError, Summary};
pub use svg::svg;
pub use view::View;
