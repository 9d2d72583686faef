//! Composable stream operators whose events carry their own receipts.
//!
//! A [`Flow`] is a stream of [`Event`]s. Each event holds a value, the [`Meta`]data of the input it
//! came from, and a [`Receipt`] that tells the source of that input when all work on the input is
//! over. The functions that users give to operators see the values only.
//!
//! ```
//! use std::time::Duration;
//!
//! use forebay_stream::{Batch, Failure, Flow, PipelineError, Release, at_most};
//!
//! #[tokio::main(flavor = "current_thread")]
//! async fn main() -> Result<(), PipelineError> {
//!     // A model is a function of a batch, with one result for each member.
//!     let double = |numbers: Batch<i32>| async move {
//!         Ok(numbers.iter().map(|number| Ok(number * 2)).collect())
//!     };
//!
//!     // `failures` are the inputs that fail anywhere in the flow; each gets an answer of its own.
//!     let texts = Flow::from_iter(["1", "two", "3"]);
//!     let (texts, failures) = texts.catch(at_most(100), Release::InOrder);
//!     let answers = texts
//!         .try_map(|text| text.parse().map_err(|error| Failure::new("not_a_number", error)))
//!         .timed_window(Duration::from_millis(5), at_most(64))
//!         .map_batch(double)
//!         .map(|number| number.to_string())
//!         .rejoin(failures.map(|failed| failed.failure.code().to_owned()));
//!
//!     assert_eq!(answers.collect().await?, ["2", "not_a_number", "6"]);
//!     Ok(())
//! }
//! ```
//!
//! Nothing runs until a sink polls: downstream pulls from upstream, so a slow operator slows the
//! source down instead of filling memory. Each operator is a method of [`Flow`] or [`Batches`], and
//! its page says what it emits, how many events it holds, and when it ends:
//!
//! | group | operators |
//! |---|---|
//! | sources | [`from_iter`](Flow::from_iter), [`from_stream`](Flow::from_stream), [`from_source`](Flow::from_source), [`from_try_events`](Flow::from_try_events), [`from_channel`](Flow::from_channel), [`interval`](Flow::interval) |
//! | one value at a time | [`map`](Flow::map), [`try_map`](Flow::try_map), [`map_async`](Flow::map_async), [`map_async_unordered`](Flow::map_async_unordered), [`pluck`](Flow::pluck), [`filter`](Flow::filter), [`unique`](Flow::unique), [`slice`](Flow::slice), [`admit`](Flow::admit), [`inspect`](Flow::inspect), [`tap`](Flow::tap), [`detach`](Flow::detach) |
//! | state | [`accumulate`](Flow::accumulate), [`scan`](Flow::scan), [`frequencies`](Flow::frequencies) |
//! | windows | [`adaptive_window`](Flow::adaptive_window), [`adaptive_window_by_length`](Flow::adaptive_window_by_length), [`partition`](Flow::partition), [`partition_by`](Flow::partition_by), [`partition_unique`](Flow::partition_unique), [`timed_window`](Flow::timed_window), [`timed_window_unique`](Flow::timed_window_unique), [`sliding_window`](Flow::sliding_window), [`collect_until`](Flow::collect_until) |
//! | batches | [`map_batch`](Batches::map_batch), [`fold`](Batches::fold), [`lengths`](Batches::lengths), [`flatten`](Batches::flatten), [`into_lists`](Batches::into_lists) |
//! | time and buffers | [`buffer`](Flow::buffer), [`latest`](Flow::latest), [`rate_limit`](Flow::rate_limit), [`delay`](Flow::delay) |
//! | several flows | [`branch`](Flow::branch), [`split`](Flow::split), [`union`](Flow::union), [`zip`](Flow::zip), [`zip_latest`](Flow::zip_latest), [`combine_latest`](Flow::combine_latest), [`feedback`](Flow::feedback) |
//! | failures and order | [`catch`](Flow::catch), [`rejoin`](Flow::rejoin), [`retry`](Flow::retry), [`breaker`](Flow::breaker), [`in_key_order`](Flow::in_key_order) |
//! | sinks | [`sink`](Flow::sink), [`sink_fn`](Flow::sink_fn), [`collect`](Flow::collect) |
//!
//! This crate does no IO and starts no runtime; time is tokio's, so tests run on a paused clock.

mod at_most;
mod batch;
pub mod batching;
mod clock;
mod code;
pub mod codes;
mod dispatches;
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
mod output;
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
mod stage_id;
#[cfg(test)]
mod testing;

pub use at_most::at_most;
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
