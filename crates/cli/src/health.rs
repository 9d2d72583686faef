//! `Health`: whether the process takes requests, for probes.

use std::sync::Arc;

use forebay_pipeline::{Progress, View};
use parking_lot::Mutex;

/// The state of the process, for probes. Clones are the same.
#[derive(Clone)]
pub(crate) struct Health(Arc<Mutex<State>>);

struct State {
    phase: Phase,
    /// Shows nothing until the pipeline has started.
    view: View,
}

enum Phase {
    /// It does this, and takes no requests yet.
    Starting(String),
    Ready,
    Stopping,
}

impl Health {
    pub(crate) fn new() -> Self {
        let phase = Phase::Starting("the process has just started".to_owned());
        Self(Arc::new(Mutex::new(State { phase, view: View::default() })))
    }

    /// Notes the progress of the pipeline.
    pub(crate) fn note(&self, progress: &Progress) {
        let phase = match progress {
            Progress::Loading { model } => Phase::Starting(format!("loading the model `{model}`")),
            Progress::Download { model, download } => {
                let file = &download.file;
                Phase::Starting(format!("downloading {file} of the model `{model}`"))
            }
            Progress::WarmUp { model, .. } => {
                Phase::Starting(format!("warming up the model `{model}`"))
            }
            Progress::Loaded { .. } => Phase::Starting("opening sources and sinks".to_owned()),
            Progress::Started { view } => {
                self.0.lock().view = view.clone();
                Phase::Starting("waiting for partitions of the consumer group".to_owned())
            }
            Progress::Ready { .. } => Phase::Ready,
            Progress::Stopping => Phase::Stopping,
            _ => return,
        };
        self.0.lock().phase = phase;
    }

    pub(crate) fn view(&self) -> View {
        self.0.lock().view.clone()
    }

    /// Returns why the process takes no requests, if it does not.
    pub(crate) fn unready(&self) -> Option<String> {
        match &self.0.lock().phase {
            Phase::Starting(what) => return Some(what.clone()),
            Phase::Stopping => return Some("stopping".to_owned()),
            Phase::Ready => {}
        }
        let lost = self.view().models().into_iter().find(|model| !model.work.is_ready);
        lost.map(|model| format!("the model `{}` failed and is loaded again", model.name))
    }
}
