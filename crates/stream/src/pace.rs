//! `Pace`: when `map_batch` asks for its next batch, and in which order results leave.

use std::fmt;
use std::future::Future;
use std::num::NonZeroUsize;
use std::sync::Arc;

use futures::FutureExt as _;
use futures::future::BoxFuture;

type UntilReady = dyn Fn() -> BoxFuture<'static, ()> + Send + Sync;

/// The pace at which a function of [`map_batch`](crate::Batches::map_batch) takes batches. Code that
/// passes batches on to another function returns that function's pace unchanged.
///
/// The default is one batch at a time, asked for as soon as there is a free slot.
#[derive(Clone)]
pub struct Pace {
    slots: NonZeroUsize,
    keeps_order: bool,
    // `None` if another batch is useful whenever there is a free slot.
    until_ready: Option<Arc<UntilReady>>,
}

impl Pace {
    /// Creates the pace of a function that runs up to `slots` batches at the same time, such as one
    /// for each device. Results leave as their batches finish.
    #[must_use]
    pub const fn new(slots: NonZeroUsize) -> Self {
        Self { slots, keeps_order: false, until_ready: None }
    }

    /// Lets results leave in the order of their batches although several batches run at the same
    /// time, for example on one device that computes them one after the other.
    #[must_use]
    pub fn in_order(self) -> Self {
        Self { keeps_order: true, ..self }
    }

    /// Asks for another batch only once the future that `until_ready` returns has completed. A
    /// batch is then chosen no earlier than the function can use it. The future is created when
    /// there is a free slot.
    #[must_use]
    pub fn when<F>(self, until_ready: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        Self { until_ready: Some(Arc::new(move || until_ready().boxed())), ..self }
    }

    /// Returns how many batches run at the same time.
    #[must_use]
    pub const fn slots(&self) -> NonZeroUsize {
        self.slots
    }

    /// Whether results leave in the order of their batches.
    #[must_use]
    pub const fn keeps_order(&self) -> bool {
        self.keeps_order
    }

    /// Returns a future that waits until another batch is useful; `None` if it is useful at once.
    #[must_use]
    pub fn until_ready(&self) -> Option<BoxFuture<'static, ()>> {
        self.until_ready.as_ref().map(|until_ready| until_ready())
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self::new(NonZeroUsize::MIN)
    }
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { slots, keeps_order, .. } = self;
        let mut pace = f.debug_struct("Pace");
        pace.field("slots", slots).field("keeps_order", keeps_order).finish_non_exhaustive()
    }
}
