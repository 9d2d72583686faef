//! `adaptive_window`: what is there when the next step can take it.

use std::num::NonZeroUsize;
use std::time::Duration;

use forebay_stream::{AdaptiveWindow as Limits, Batches, Failure, Flow};
use serde::Deserialize;

use super::Window;
use crate::jq::Jq;
use crate::json::Json;

/// `adaptive_window = { max_size = 64, max_wait = "5ms", cost = ".text | length", max_cost = 4096 }`.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Settings")]
pub(super) struct AdaptiveWindow(Settings);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Most values in one window.
    #[serde(default = "super::some")]
    max_size: NonZeroUsize,
    /// How long a window's first value waits for others, although the next step could take it.
    #[serde(default, with = "humantime_serde")]
    max_wait: Duration,
    /// What one value costs, a number; without it, 1.
    cost: Option<Jq>,
    /// Most that the values of one window cost together.
    max_cost: Option<u64>,
}

impl TryFrom<Settings> for AdaptiveWindow {
    type Error = &'static str;

    fn try_from(settings: Settings) -> Result<Self, Self::Error> {
        match (&settings.cost, settings.max_cost) {
            (Some(_), None) => Err("`cost` says nothing without `max_cost`"),
            (None, Some(_)) => Err("`max_cost` needs a `cost`: what one value costs"),
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

    fn max_size(&self) -> NonZeroUsize {
        self.0.max_size
    }

    fn keeps(&self) -> Option<usize> {
        Some(0)
    }
}
