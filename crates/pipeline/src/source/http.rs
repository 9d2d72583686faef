//! `[source.http]`: requests over HTTP.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::time::Duration;

use forebay_http::{Config, Handle, HttpSource};
use forebay_stream::{Flow, Release};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use toml::Spanned;
use toml::de::DeValue;

use super::{Left, OpenSource, RunningSource, SourceControl, SourceEnd};
use crate::diagnostic::{Problem, chain};
use crate::error::RunError;
use crate::file::value;
use crate::record::{Format, Record};

/// `[source.http]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    /// The address to listen at, `host:port`.
    listen: String,
    /// The path of requests.
    path: Option<String>,
    /// The largest request body, in bytes.
    max_body: Option<NonZeroUsize>,
    /// The most requests in flight.
    max_in_flight: Option<NonZeroUsize>,
    /// The form of the values.
    #[serde(default)]
    format: Format,
}

/// An HTTP server, and the form of its requests' bodies.
#[derive(Clone)]
pub(crate) struct HttpRequests {
    pub(crate) config: Config,
    format: Format,
}

pub(crate) fn parse(
    settings: Spanned<DeValue<'_>>,
    span: Range<usize>,
) -> Result<HttpRequests, Problem> {
    let table: Table = value(settings)?;
    let mut config = Config::new(table.listen);
    config.path = table.path.unwrap_or(config.path);
    config.max_body = table.max_body.map_or(config.max_body, NonZeroUsize::get);
    config.max_in_flight = table.max_in_flight.unwrap_or(config.max_in_flight);
    config.validate().map_err(|error| Problem::new(chain(&error), span))?;
    Ok(HttpRequests { config, format: table.format })
}

impl SourceEnd for HttpRequests {
    fn title(&self) -> String {
        format!("http: {}", self.config.listen)
    }

    fn format(&self) -> Format {
        self.format
    }

    fn has_headers(&self) -> bool {
        true
    }

    fn max_in_flight(&self) -> NonZeroUsize {
        self.config.max_in_flight
    }

    fn error_replies(&self) -> Option<Release> {
        None
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        Box::pin(async {
            let source = HttpSource::bind(self.config.clone()).await.map_err(RunError::Listen)?;
            Ok(OpenSource::Http { title: self.title(), source })
        })
    }
}

pub(super) fn start(title: String, source: HttpSource, stop: &CancellationToken) -> RunningSource {
    let (requests, handle) = source.start(stop);
    let records = requests.map(Record::from_item);
    RunningSource { records: Flow::from_try_events(title, records), control: Box::new(handle) }
}

impl SourceControl for Handle {
    fn close(self: Box<Self>, patience: Duration) -> BoxFuture<'static, Result<Left, RunError>> {
        Box::pin(async move {
            let report = Handle::close(*self, patience).await.map_err(RunError::Listen)?;
            Ok(Left { unresolved: report.unresolved, ..Left::default() })
        })
    }
}
