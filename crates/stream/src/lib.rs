//! Composable stream operators whose events carry their own receipts.

mod batch;
mod event;
mod failure;
mod ops;
mod receipt;

pub use batch::Batch;
pub use event::{Event, Header, Meta, Origin};
pub use failure::Failure;
pub use ops::map_batch::{BatchResult, MapBatch};
pub use receipt::{Outcome, Receipt};
