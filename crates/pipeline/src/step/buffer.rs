//! `buffer`: lets the steps before it run ahead of the steps after it.

use forebay_stream::{Flow, Overflow};
use serde::Deserialize;

use super::{Nature, OnValues};
use crate::file::Count;
use crate::json::Json;

/// `buffer = 100` or `buffer = { size = 100, overflow = "drop_oldest" }`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Buffer {
    /// The most values in the buffer.
    size: Count,
    /// The handling of a value that arrives while the buffer is full.
    #[serde(default)]
    overflow: IfFull,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum IfFull {
    #[default]
    Wait,
    DropOldest,
    DropNewest,
    Fail,
}

impl From<Count> for Buffer {
    fn from(size: Count) -> Self {
        Self { size, overflow: IfFull::default() }
    }
}

impl OnValues for Buffer {
    fn apply(&self, flow: Flow<Json>) -> Flow<Json> {
        let overflow = match self.overflow {
            IfFull::Wait => Overflow::Wait,
            IfFull::DropOldest => Overflow::DropOldest,
            IfFull::DropNewest => Overflow::DropNewest,
            IfFull::Fail => Overflow::Fail,
        };
        flow.buffer(self.size.get(), overflow)
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}
