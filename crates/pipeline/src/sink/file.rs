//! `[sink.file]`: a file, one JSON value a line.

use std::ops::Range;
use std::path::{Path, PathBuf};

use futures::future::BoxFuture;
use serde::Deserialize;
use tokio::fs::OpenOptions;
use toml::Spanned;
use toml::de::DeValue;

use super::{AttachSink, OpenSources, SinkEnd};
use crate::answer::Answer;
use crate::diagnostic::Problem;
use crate::error::RunError;
use crate::file::value;
use crate::lines::LinesSink;
use crate::source::AnySource;

/// `[sink.file]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FileSink {
    /// The file, one JSON value a line.
    path: PathBuf,
}

/// Refuses a sink's file that a source reads, because the sink would empty the file, or append
/// answers that the source reads as requests.
pub(crate) fn parse(
    settings: Spanned<DeValue<'_>>,
    sources: &[AnySource],
    span: Range<usize>,
) -> Result<FileSink, Problem> {
    let sink: FileSink = value(settings)?;
    let same = |read: &Path| match (read.canonicalize(), sink.path.canonicalize()) {
        (Ok(read), Ok(written)) => read == written,
        _ => read == sink.path,
    };
    let read = |source: &AnySource| matches!(source, AnySource::File(file) if same(&file.path));
    if sources.iter().any(read) {
        return Err(Problem::new("the sink writes the file that the source reads", span));
    }
    Ok(sink)
}

impl SinkEnd for FileSink {
    fn title(&self) -> String {
        format!("file: {}", self.path.display())
    }

    fn open<'a>(
        &'a self,
        sources: &'a mut OpenSources,
    ) -> BoxFuture<'a, Result<AttachSink, RunError>> {
        // The file is truncated only if a restart reads all input again. Otherwise answers are
        // appended, because a restarted pipeline does not repeat the answers in the file.
        let truncate = sources.start_over();
        let confirm = sources.confirm_lines();
        Box::pin(async move {
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(!truncate).truncate(truncate);
            let file = options.open(&self.path).await;
            let file = file.map_err(|source| RunError::Open { path: self.path.clone(), source })?;
            let title = self.title();
            let sink = LinesSink::new(file, confirm);
            let attach: AttachSink = Box::new(|answers, counts| {
                answers.sink(title, counts.delivered_by(sink, Answer::is_error))
            });
            Ok(attach)
        })
    }
}
