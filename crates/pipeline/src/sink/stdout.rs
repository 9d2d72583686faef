//! `[sink.stdout]`: standard output, one JSON value a line.

use futures::future::BoxFuture;
use serde::Deserialize;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::answer::Answer;
use crate::error::RunError;
use crate::lines::LinesSink;

/// `[sink.stdout]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stdout {}

impl SinkEnd for Stdout {
    fn title(&self) -> String {
        "stdout".to_owned()
    }

    fn open<'a>(
        &'a self,
        sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        let title = self.title();
        let sink = LinesSink::new(tokio::io::stdout(), sources.confirm_lines());
        let attach: AttachSink = Box::new(|answers, counts| {
            answers.sink(title, counts.delivered_by(sink, Answer::is_error))
        });
        Box::pin(std::future::ready(Ok(attach)))
    }
}
