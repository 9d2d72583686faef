//! `[sink.drop]`: discards its answers.

use std::convert::Infallible;

use forebay_stream::{Event, Sink};
use futures::future::BoxFuture;
use serde::Deserialize;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::answer::Answer;
use crate::error::RunError;

/// `[sink.drop]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Drop {}

impl SinkEnd for Drop {
    fn title(&self) -> String {
        "drop".to_owned()
    }

    fn open<'a>(
        &'a self,
        _sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        let title = self.title();
        let attach: AttachSink = Box::new(|answers, counts| {
            answers.sink(title, counts.delivered_by(Nowhere, Answer::is_error))
        });
        Box::pin(std::future::ready(Ok(attach)))
    }
}

/// A sink that discards its events; also the sink of pipelines that are only drawn.
pub(crate) struct Nowhere;

impl<T: Send> Sink<T> for Nowhere {
    type Error = Infallible;

    async fn send(&mut self, event: Event<T>) -> Result<(), Infallible> {
        event.receipt.done();
        Ok(())
    }
}
