//! Composable stream operators whose events carry their own receipts.
//!
//! A [`Flow`] is a stream of [`Event`]s. Each event holds a value, the [`Meta`]data of the input it
//! came from, and a [`Receipt`] that tells the source of that input when all work on the input is
//! over. Each operator is a method of [`Flow`] or [`Batches`], in its own file under `ops`. The
//! functions that users give to operators see the values only.
//!
//! This crate does no IO and starts no runtime; time is tokio's, so tests run on a paused clock.

mod batch;
pub mod batching;
mod clock;
mod code;
pub mod codes;
mod event;
mod failure;
mod fault;
mod flow;
mod fork;
mod gate;
mod gather;
mod graph;
mod in_order;
mod key_lines;
mod latest;
mod loops;
mod merge;
mod ops;
mod outbox;
mod pace;
mod panics;
mod prepared;
mod pump;
mod queue;
mod receipt;
mod recent;
mod sink;
mod source;
mod source_gate;
mod stage;
#[cfg(test)]
mod testing;

pub use batch::Batch;
pub use code::Code;
pub use event::{Event, Header, Meta, Origin};
pub use failure::Failure;
pub use flow::{Batches, Flow};
pub use gather::Empty;
pub use graph::{Graph, Node, NodeKind};
pub use in_order::{InOrder, Ticket};
pub use ops::adaptive_window::AdaptiveWindow;
pub use ops::breaker::{Breaker, Ratio};
pub use ops::buffer::Overflow;
pub use ops::catch::{Failed, Release};
pub use ops::combine_latest::EmitOn;
pub use ops::feedback::Feedback;
pub use ops::map_batch::{BatchResult, MapBatch};
pub use ops::partition_unique::Keep;
pub use ops::pluck::Missing;
pub use ops::retry::Retry;
pub use ops::sliding_window::Partial;
pub use ops::tap::Tap;
pub use pace::Pace;
pub use prepared::{prepared, scatter};
pub use receipt::{Outcome, Receipt, Settle, Watch};
pub use sink::{Cause, Pipeline, PipelineError, Sink};
pub use source::Source;
