//! Pipelines from TOML files: the file, its validated plan, and the running pipeline.
//!
//! [`Plan::load`] reads a file, expands `${ENV}` and `${file:PATH}` in its strings, and checks
//! everything that can be checked without connecting to anything. [`Plan::graph`] draws the plan
//! and [`Plan::run`] runs it. A [`Registry`] adds the user's own operators, sources, sinks and
//! models. Only this crate knows TOML, and it does not export the types that describe the file's
//! syntax.

mod answer;
mod assemble;
pub mod codes;
mod counts;
mod deadline;
mod diagnostic;
mod draw;
mod enrich;
mod error;
mod expand;
mod file;
mod jq;
mod json;
mod lines;
mod plan;
mod predicate;
mod record;
mod registry;
mod request;
mod run;
mod secrets;
mod sink;
mod source;
mod step;
mod svg;
mod task;
mod view;

pub use answer::Answer;
pub use counts::LastFailure;
pub use diagnostic::{ConfigError, Diagnostic};
pub use error::{BoxError, RunError};
pub use json::Json;
pub use plan::{DeadLetters, Plan};
pub use predicate::Predicate;
pub use registry::Registry;
pub use run::{Progress, Summary};
pub use svg::svg;
pub use view::{ModelView, StepView, View};
