//! Replaying dead letters: the requests of a topic of dead letters are written again to the topics
//! that they came from.
//!
//! [`ReplayConfig::of`] takes the settings from a pipeline file's plan, [`Replay`] reads letters and
//! writes requests, and a [`LetterFilter`] selects letters by a jq expression. The command `forebay
//! replay` puts them together.

mod config;
mod filter;
mod letter;
mod letters;
mod progress;
mod replay;
mod writer;

pub use config::{ReplayConfig, ReplayTo};
pub use filter::LetterFilter;
pub use letter::Letter;
pub use replay::{Replay, Replayed};
