//! `adaptive_window`: what is there when the next step can take it.

use std::num::{NonZeroU64, NonZeroUsize};
use std::ops::Range;
use std::time::Duration;

use forebay_stream::{AdaptiveWindow as Limits, Batches, Failure, Flow};
use serde::Deserialize;
use toml::Spanned;

use super::Window;
use crate::jq::Jq;
use crate::json::Json;

/// `adaptive_window = { max_size = 64, max_wait = "5ms", max_tokens = 16384 }` before a text model, and
/// `adaptive_window = { max_size = 64, cost = ".text | length", max_cost = 4096 }` before anything.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Settings")]
pub(super) struct AdaptiveWindow(Settings);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Most values in one window.
    #[serde(default = "super::default_queue")]
    max_size: NonZeroUsize,
    /// How long a window's first value waits for others, although the next step could take it.
    #[serde(default, with = "humantime_serde")]
    max_wait: Duration,
    /// What one value costs, a number; without it, 1.
    cost: Option<Jq>,
    /// Most that the values of one window cost together.
    max_cost: Option<u64>,
    /// Most tokens in one window, padding counted in.
    max_tokens: Option<Spanned<NonZeroU64>>,
}

impl TryFrom<Settings> for AdaptiveWindow {
    type Error = &'static str;

    fn try_from(settings: Settings) -> Result<Self, Self::Error> {
        match (&settings.cost, settings.max_cost) {
            (Some(_), None) => Err("`cost` says nothing without `max_cost`"),
            (None, Some(_)) => Err("`max_cost` needs a `cost`: what one value costs"),
            (Some(_), _) if settings.max_tokens.is_some() => {
                Err("`cost` and `max_tokens` exclude each other: one unit or the other")
            }
            (Some(_), Some(0)) => Err("`max_cost` must be 1 or more"),
            _ => Ok(Self(settings)),
        }
    }
}

impl Window for AdaptiveWindow {
    fn apply(&self, flow: Flow<Json>) -> Batches<Json> {
        let limits = Limits {
            max_size: self.0.max_size,
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
                    Failure::new("invalid_cost", message)
                })
            }
        })
    }

    /// A text model counts tokens, unless the user has something else counted.
    fn limits(&self) -> Option<Limits> {
        const MAX_TOKENS: u64 = 16_384;
        let Settings { max_size, max_wait, cost: None, max_tokens, .. } = &self.0 else {
            return None;
        };
        let max_cost = max_tokens.as_ref().map_or(MAX_TOKENS, |tokens| tokens.get_ref().get());
        Some(Limits { max_size: *max_size, max_wait: *max_wait, max_cost })
    }

    fn is_for_texts(&self) -> Option<(&'static str, Range<usize>)> {
        self.0.max_tokens.as_ref().map(|tokens| ("max_tokens", tokens.span()))
    }

    fn max_size(&self) -> NonZeroUsize {
        self.0.max_size
    }

    fn keeps(&self) -> Option<usize> {
        Some(0)
    }
}
