//! Finds the stage and the message of a panic.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

use crate::PipelineError;

thread_local! {
    // The innermost stage that the panic in progress has left.
    static PANICKED: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// Runs `work`, which belongs to `stage`. Calls can be nested; a panic is attributed to the
/// innermost stage.
pub(crate) fn within<R>(stage: &Arc<str>, work: impl FnOnce() -> R) -> R {
    let blame = Blame(stage);
    let result = work();
    std::mem::forget(blame);
    result
}

/// Records the stage when it is dropped. Only a panic drops it, because [`within`] forgets it
/// otherwise.
struct Blame<'a>(&'a Arc<str>);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        // If the thread is ending, `PANICKED` may be destroyed already, and the stage is not kept.
        PANICKED
            .try_with(|panicked| {
                let innermost = panicked.take().unwrap_or_else(|| Arc::clone(self.0));
                panicked.set(Some(innermost));
            })
            .ok();
    }
}

/// Returns the error for a panic that was just caught. A panic that left no stage is attributed to
/// `owner`.
pub(crate) fn caught(panic: &(dyn Any + Send), owner: &Arc<str>) -> PipelineError {
    let stage = PANICKED.take().unwrap_or_else(|| Arc::clone(owner));
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the panic has no message".into());
    PipelineError::Panicked { stage, message }
}
