//! Which stage a panic came from, and what it said.

use std::any::Any;
use std::cell::Cell;
use std::sync::Arc;

use crate::PipelineError;

thread_local! {
    static PANICKED: Cell<Option<Arc<str>>> = const { Cell::new(None) };
}

/// Runs `work` of `stage`. A panic that leaves it is put down to the innermost stage that it leaves.
pub(crate) fn within<R>(stage: &Arc<str>, work: impl FnOnce() -> R) -> R {
    let blame = Blame(stage);
    let result = work();
    std::mem::forget(blame);
    result
}

/// Only ever dropped by a panic.
struct Blame<'a>(&'a Arc<str>);

impl Drop for Blame<'_> {
    fn drop(&mut self) {
        // There is no other place to keep it while the thread itself ends.
        PANICKED
            .try_with(|panicked| {
                let innermost = panicked.take().unwrap_or_else(|| Arc::clone(self.0));
                panicked.set(Some(innermost));
            })
            .ok();
    }
}

/// The error for a panic that has just been caught; without a stage that it left, it was that of `owner`.
pub(crate) fn caught(panic: &(dyn Any + Send), owner: &Arc<str>) -> PipelineError {
    let stage = PANICKED.take().unwrap_or_else(|| Arc::clone(owner));
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let message = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "the panic has no message".into());
    PipelineError::Panicked { stage, message }
}
