//! `[source.http]`: requests over HTTP.

use std::num::NonZeroUsize;
use std::time::Duration;

use forebay_http::{Config, Handle, HttpSource, RequestItem};
use forebay_stream::{Flow, Release};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use toml::Spanned;
use toml::de::DeValue;

use super::{Left, OpenSource, RunningSource, SourceControl, SourceEnd};
use crate::counts::Counts;
use crate::diagnostic::Problem;
use crate::error::RunError;
use crate::file::{AtMost, Count, Interval, Placed, placed};
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
    max_body: Option<AtMost<{ 1 << 30 }>>,
    /// The most requests in flight.
    max_in_flight: Option<Count>,
    /// The longest wait for the head of a request.
    idle_timeout: Option<Interval>,
    /// The longest time that a request's body may take to arrive.
    body_timeout: Option<Interval>,
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

pub(crate) fn parse(settings: Spanned<DeValue<'_>>) -> Result<HttpRequests, Problem> {
    let Placed { value: table, places } = placed::<Table>(settings)?;
    let mut config = Config::new(table.listen);
    config.path = table.path.unwrap_or(config.path);
    config.max_body = table.max_body.map_or(config.max_body, |bytes| bytes.get().get());
    config.max_in_flight = table.max_in_flight.map_or(config.max_in_flight, Count::get);
    config.idle_timeout = table.idle_timeout.map_or(config.idle_timeout, |timeout| timeout.0);
    config.body_timeout = table.body_timeout.map_or(config.body_timeout, |timeout| timeout.0);
    config.validate().map_err(|error| Problem::of(&error, &places))?;
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

pub(super) fn start(
    title: String,
    source: HttpSource,
    stop: &CancellationToken,
    counts: &Counts,
) -> RunningSource {
    let (requests, handle) = source.start(stop);
    let counts = counts.clone();
    let counted = move |item: RequestItem| item.map(|event| counts.failing(event));
    let records = requests.map(counted).map(Record::from_item);
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
