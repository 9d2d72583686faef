//! Pipelines from TOML files: the file, the validated plan, and the running pipeline.
//!
//! [`Plan::load`] reads a file, expands `${ENV}` in its strings and checks everything that can be checked without
//! connecting to anything. [`Plan::graph`] draws it and [`Plan::run`] runs it. Only this crate knows TOML, and the
//! types that describe the file's syntax never leave it.

mod answer;
mod assemble;
mod diagnostic;
mod expand;
mod file;
mod lines;
mod plan;
mod request;
mod run;
mod task;

pub use diagnostic::ConfigError;
pub use plan::{ModelPlan, Plan, SinkPlan, SourcePlan, StepPlan};
pub use run::{Progress, RunError, Summary};
