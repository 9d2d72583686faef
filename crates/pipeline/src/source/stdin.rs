//! `[source.stdin]`: standard input, one value a line.

use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::io::BufReader;

use super::{OpenSource, SourceEnd};
use crate::error::RunError;
use crate::lines::{READ_AHEAD, start};
use crate::record::Format;

/// `[source.stdin]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stdin {
    /// The form of the values.
    #[serde(default)]
    format: Format,
}

impl SourceEnd for Stdin {
    fn title(&self) -> String {
        "stdin".to_owned()
    }

    fn format(&self) -> Format {
        self.format
    }

    fn starts_over(&self) -> bool {
        true
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        let reader = BufReader::with_capacity(READ_AHEAD, tokio::io::stdin());
        Box::pin(std::future::ready(Ok(start(self.title(), "stdin".into(), reader, self.format))))
    }
}
