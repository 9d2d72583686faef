//! `policy = "stop"`: the first failure stops the sources, and the requests in flight are still
//! answered.

use std::convert::Infallible;
use std::sync::{Arc, OnceLock};

use forebay_stream::{Event, Failed, Failure, Origin, Sink};
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::counts::{Counts, Failing, request_id};
use crate::record::Record;

/// A sink for the failed requests of a pipeline. The first one stops the pipeline.
pub(super) struct StopSink {
    /// Cancelled at the first failure, so that no source reads anything new.
    pub(super) intake: CancellationToken,
    pub(super) first: FirstFailure,
    pub(super) counts: Counts,
}

/// The failure that stopped a pipeline, once there is one.
#[derive(Clone, Default)]
pub(super) struct FirstFailure(Arc<OnceLock<(Origin, Failure)>>);

impl FirstFailure {
    pub(super) fn error(&self) -> Option<RunError> {
        let (origin, failure) = self.0.get()?.clone();
        Some(RunError::StoppedAtFailure { origin, failure })
    }
}

impl Sink<Failed<Record>> for StopSink {
    type Error = Infallible;

    async fn send(&mut self, event: Event<Failed<Record>>) -> Result<(), Infallible> {
        let failure = event.value.failure;
        let origin = event.meta.origin.clone();
        let request_id = request_id(&event.meta);
        tracing::error!(%origin, request_id, %failure, "a request failed, and the policy is to stop");
        self.counts.failed(&failure, &event.meta, Failing::Stop);
        // `set` has no effect if an earlier failure is stored, because the first one is reported.
        let _ = self.first.0.set((origin, failure.clone()));
        self.intake.cancel();
        // Leaves a record of Kafka uncommitted, so that it is read again.
        event.receipt.fail(failure);
        Ok(())
    }
}
