//! `[sink.NAME]`: a sink that the user has registered.

use std::sync::Arc;

use forebay_stream::Sink;
use futures::future::BoxFuture;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::answer::Answer;
use crate::error::{BoxError, RunError};

/// A registered sink with its settings from the file.
pub(crate) struct CustomSink<S, F> {
    /// The name under which it is registered.
    pub(crate) kind: String,
    pub(crate) settings: S,
    /// Opens the sink; called when the pipeline starts.
    pub(crate) open: Arc<F>,
}

impl<S, C, E, F> SinkEnd for CustomSink<S, F>
where
    S: Send + Sync + 'static,
    C: Sink<Answer>,
    E: Into<BoxError> + 'static,
    F: Fn(&S) -> Result<C, E> + Send + Sync + 'static,
{
    fn title(&self) -> String {
        self.kind.clone()
    }

    fn open<'a>(
        &'a self,
        _sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        let title = self.title();
        let attach = match (self.open)(&self.settings) {
            Ok(sink) => {
                let attach: AttachSink = Box::new(|answers, counts| {
                    answers.sink(title, counts.delivered_by(sink, Answer::is_error))
                });
                Ok(attach)
            }
            Err(error) => Err(RunError::Custom { kind: title, source: error.into() }),
        };
        Box::pin(std::future::ready(attach))
    }
}
