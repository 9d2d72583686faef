//! `[source.NAME]`: a source that the user has registered.

use std::sync::Arc;

use forebay_stream::{Flow, Source};
use futures::future::BoxFuture;

use super::{NothingToClose, OpenSource, RunningSource, SourceEnd};
use crate::error::{BoxError, RunError};
use crate::json::Json;
use crate::record::{Format, Until};

/// A registered source with its settings from the file.
pub(crate) struct CustomSource<S, F> {
    /// The name under which it is registered.
    pub(crate) kind: String,
    pub(crate) settings: Arc<S>,
    /// Opens the source; called when the pipeline starts, after its sinks are open.
    pub(crate) open: Arc<F>,
}

impl<S, C, E, F> SourceEnd for CustomSource<S, F>
where
    S: Send + Sync + 'static,
    C: Source<Json>,
    E: Into<BoxError> + 'static,
    F: Fn(&S) -> Result<C, E> + Send + Sync + 'static,
{
    fn title(&self) -> String {
        self.kind.clone()
    }

    fn format(&self) -> Format {
        Format::Json
    }

    fn has_headers(&self) -> bool {
        true
    }

    fn open(&self) -> BoxFuture<'_, Result<OpenSource, RunError>> {
        let Self { kind, settings, open } = self;
        let (kind, settings, open) = (kind.clone(), Arc::clone(settings), Arc::clone(open));
        let start = OpenSource::Other(Box::new(move |stop| {
            let running = match open(&settings) {
                Ok(source) => Ok(RunningSource {
                    records: Flow::from_source(kind, Until { source, stop }),
                    control: Box::new(NothingToClose),
                }),
                Err(error) => Err(RunError::Custom { kind, source: error.into() }),
            };
            Box::pin(std::future::ready(running))
        }));
        Box::pin(std::future::ready(Ok(start)))
    }
}
