//! The pipelines that take the offsets that Kafka sources commit. They end after the sources are
//! closed, because closing a source makes its last commit.

use std::future::pending;

use forebay_stream::{Pipeline, PipelineError};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

/// The running pipelines of committed offsets. Dropping it ends them.
pub(super) struct CommitPipelines(JoinSet<Result<(), PipelineError>>);

impl CommitPipelines {
    pub(super) fn start(pipelines: Vec<Pipeline>) -> Self {
        Self(pipelines.into_iter().map(Pipeline::run).collect())
    }

    /// Waits until one of the pipelines fails.
    pub(super) async fn failed(&mut self) -> PipelineError {
        while let Some(ended) = self.0.join_next().await {
            if let Err(error) = result(ended) {
                return error;
            }
        }
        pending().await
    }

    /// Waits until the pipelines have ended, but not longer than until `deadline`.
    pub(super) async fn finish(mut self, deadline: Instant) -> Result<(), PipelineError> {
        let all = async {
            while let Some(ended) = self.0.join_next().await {
                result(ended)?;
            }
            Ok(())
        };
        timeout_at(deadline, all).await.unwrap_or_else(|_| {
            tracing::warn!(
                "the events of the last commits could not be delivered in time and are left out"
            );
            Ok(())
        })
    }
}

/// Returns the result of a pipeline's task.
pub(super) fn result(
    ended: Result<Result<(), PipelineError>, JoinError>,
) -> Result<(), PipelineError> {
    let Ok(ended) = ended else {
        unreachable!("`Pipeline::run` returns panics as errors, and no task is cancelled");
    };
    ended
}
