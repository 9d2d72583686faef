//! `adaptive_window`: gathers values until the next step can take a batch.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::time::Duration;

use forebay_stream::{AdaptiveWindow as Limits, Batches, Failure, Flow};
use serde::Deserialize;
use toml::Spanned;

use super::{Nature, Window};
use crate::codes;
use crate::file::Count;
use crate::jq::Jq;
use crate::json::Json;

/// `adaptive_window = { max_size = 64, max_wait = "5ms", max_tokens = 16384 }` before a text model,
/// or `adaptive_window = { max_size = 64, cost = ".text | length", max_cost = 4096 }` before any
/// step.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Settings")]
pub(super) struct AdaptiveWindow(Settings);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// The most values in one window.
    #[serde(default = "super::default_queue")]
    max_size: Count,
    /// The longest time that a window's first value waits for further values after the next step
    /// has become free.
    #[serde(default, with = "crate::file::duration")]
    max_wait: Duration,
    /// The cost of a value, a number; 1 by default.
    cost: Option<Jq>,
    /// The highest total cost of a window.
    max_cost: Option<u64>,
    /// The most tokens in one window, including padding.
    max_tokens: Option<Spanned<NonZeroU64>>,
}

impl TryFrom<Settings> for AdaptiveWindow {
    type Error = &'static str;

    fn try_from(settings: Settings) -> Result<Self, Self::Error> {
        match (&settings.cost, settings.max_cost) {
            (Some(_), None) => Err("`cost` has no effect without `max_cost`"),
            (None, Some(_)) => {
                Err("`max_cost` needs `cost`, an expression that gives the cost of one value")
            }
            (Some(_), _) if settings.max_tokens.is_some() => {
                Err("`cost` and `max_tokens` exclude each other: a window is limited in one unit")
            }
            (Some(_), Some(0)) => Err("`max_cost` must be 1 or more"),
            _ => Ok(Self(settings)),
        }
    }
}

impl Window for AdaptiveWindow {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        let limits = Limits {
            max_size: self.0.max_size.get(),
            max_wait: self.0.max_wait,
            max_cost: self.0.max_cost.unwrap_or(u64::MAX),
        };
        let cost = self.0.cost.clone();
        flow.try_adaptive_window(limits, move |value| match &cost {
            None => Ok(1),
            Some(jq) => {
                let cost = jq.of(value)?;
                cost.decode().map_err(|_| {
                    let message =
                        format_args!("`{jq}` gives {cost}; a cost is a whole number from 0");
                    Failure::new(codes::INVALID_COST, message)
                })
            }
        })
    }

    /// Without a `cost`, a window before a text model is limited by tokens.
    fn limits(&self) -> Option<Limits> {
        const MAX_TOKENS: u64 = 16_384;
        let Settings { max_size, max_wait, cost: None, max_tokens, .. } = &self.0 else {
            return None;
        };
        let max_cost = max_tokens.as_ref().map_or(MAX_TOKENS, |tokens| tokens.get_ref().get());
        Some(Limits { max_size: max_size.get(), max_wait: *max_wait, max_cost })
    }

    fn text_only_setting(&self) -> Option<(&'static str, Range<usize>)> {
        self.0.max_tokens.as_ref().map(|tokens| ("max_tokens", tokens.span()))
    }

    fn max_size(&self) -> NonZeroUsize {
        self.0.max_size.get()
    }

    fn nature(&self) -> Nature {
        Nature::EACH
    }
}
