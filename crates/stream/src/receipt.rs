//! `Receipt`: tells a source that all work on one of its inputs is over.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Failure;
use crate::loops::{Passes, Ring};

/// How the work on one input ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every part was delivered, or discarded on purpose.
    Done,
    /// At least one part failed; this is the first failure.
    Failed(Failure),
    /// At least one part was dropped before its work was over. The input must be read again.
    Abandoned,
}

/// A share in the outcome of one input.
///
/// Every event derived from an input holds a share. The input's outcome is settled, once, when the last share is gone:
/// failed if any share [failed](Receipt::fail), else abandoned if any was dropped unresolved, else done. Forgetting a
/// receipt is therefore safe: the input counts as abandoned, its offset stays uncommitted, and it is read again.
///
/// ```
/// use forebay_stream::{Outcome, Receipt};
/// # use std::sync::mpsc;
/// let (settled, outcomes) = mpsc::channel();
/// let first = Receipt::new(move |outcome| settled.send(outcome).expect("receiver lives"));
/// let second = first.share();
/// first.done();
/// assert!(outcomes.try_recv().is_err(), "one share is still open");
/// second.done();
/// assert_eq!(outcomes.try_recv(), Ok(Outcome::Done));
/// ```
#[must_use = "a receipt that is dropped marks its input as abandoned"]
pub struct Receipt {
    // `None` once resolved, or where no source waits for the outcome.
    root: Option<Arc<Root>>,
    passes: Passes,
}

type Settle = Box<dyn FnOnce(Outcome) + Send + Sync>;

/// What the shares of one input have in common. Its `Arc` count is the number of open shares, and its drop settles.
struct Root {
    failure: OnceLock<Failure>,
    abandoned: AtomicBool,
    settle: Option<Settle>,
}

impl Receipt {
    /// The first share of a new input; `settle` is called once, when the last share is gone.
    ///
    /// `settle` runs on whichever thread resolves last, so it must be short and must not block.
    pub fn new(settle: impl FnOnce(Outcome) + Send + Sync + 'static) -> Self {
        let settle: Settle = Box::new(settle);
        let root = Root {
            failure: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            settle: Some(settle),
        };
        Self { root: Some(Arc::new(root)), passes: Passes::NONE }
    }

    /// A receipt for which no source waits; resolving it does nothing.
    pub const fn detached() -> Self {
        Self { root: None, passes: Passes::NONE }
    }

    /// One receipt for what is made of several inputs: its outcome becomes the outcome of each.
    pub fn join(members: impl IntoIterator<Item = Self>) -> Self {
        let mut passes = Passes::NONE;
        let members: Vec<Self> = members
            .into_iter()
            .map(|mut member| {
                passes.unite(std::mem::take(&mut member.passes));
                member
            })
            .filter(|member| member.root.is_some())
            .collect();
        if members.is_empty() {
            return Self { root: None, passes };
        }
        let mut joined = Self::new(move |outcome| {
            for member in members {
                member.resolve(outcome.clone());
            }
        });
        joined.passes = passes;
        joined
    }

    /// Another share in the same input, for an operator that makes several events of one.
    pub fn share(&self) -> Self {
        Self { root: self.root.clone(), passes: self.passes.clone() }
    }

    /// Resolves this share: its work is over and delivered, or it was discarded on purpose.
    pub fn done(mut self) {
        self.root.take();
    }

    /// Resolves this share as failed. The first failure of an input is the one its source sees.
    pub fn fail(mut self, failure: Failure) {
        if let Some(root) = self.root.take() {
            // A later failure of the same input adds nothing: one input gets one answer.
            root.failure.set(failure).ok();
        }
    }

    /// Resolves this share with the outcome of something that stood for it.
    pub fn resolve(self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done(),
            Outcome::Failed(failure) => self.fail(failure),
            Outcome::Abandoned => drop(self),
        }
    }

    /// Resolves this share and gives a receipt for which no source waits, for an event that goes on.
    pub(crate) fn release(mut self) -> Self {
        self.root.take();
        self
    }

    /// Counts the event as inside `ring` until its receipt is resolved, or it leaves.
    pub(crate) fn enter(&mut self, ring: &Arc<Ring>) {
        self.passes.enter(ring);
    }

    /// The opposite of [`enter`](Self::enter).
    pub(crate) fn leave(&mut self, ring: &Arc<Ring>) {
        self.passes.leave(ring);
    }

    /// How many shares of the input are open, this one included; 0 where no source waits.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.root.as_ref().map_or(0, Arc::strong_count)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            // Ordered before the settling thread's read by the `Arc` count's own release and acquire.
            root.abandoned.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        let outcome = match self.failure.take() {
            Some(failure) => Outcome::Failed(failure),
            None if *self.abandoned.get_mut() => Outcome::Abandoned,
            None => Outcome::Done,
        };
        if let Some(settle) = self.settle.take() {
            settle(outcome);
        }
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("outstanding", &self.outstanding()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::{Outcome, Receipt};
    use crate::Failure;

    type Seen = Arc<Mutex<Vec<Outcome>>>;

    fn watched() -> (Receipt, Seen) {
        let seen = Seen::default();
        let log = Arc::clone(&seen);
        (Receipt::new(move |outcome| log.lock().unwrap().push(outcome)), seen)
    }

    #[test]
    fn a_forgotten_receipt_abandons_its_input() {
        let (receipt, seen) = watched();
        drop(receipt);
        assert_eq!(*seen.lock().unwrap(), [Outcome::Abandoned]);
    }

    #[test]
    fn a_joined_receipt_settles_every_member_once() {
        let (first, first_seen) = watched();
        let (second, second_seen) = watched();
        let joined = Receipt::join([first, Receipt::detached(), second]);
        let other = joined.share();
        joined.done();
        assert!(first_seen.lock().unwrap().is_empty());
        other.done();
        assert_eq!(*first_seen.lock().unwrap(), [Outcome::Done]);
        assert_eq!(*second_seen.lock().unwrap(), [Outcome::Done]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Share,
        Done,
        Fail,
        Drop,
    }

    fn steps() -> impl Strategy<Value = Vec<(Step, prop::sample::Index)>> {
        let step =
            prop_oneof![Just(Step::Share), Just(Step::Done), Just(Step::Fail), Just(Step::Drop)];
        prop::collection::vec((step, any::<prop::sample::Index>()), 0..40)
    }

    proptest! {
        #[test]
        fn an_input_settles_exactly_once_and_with_its_worst_part(steps in steps()) {
            let (receipt, seen) = watched();
            let mut shares = vec![receipt];
            let mut failed = None;
            let mut dropped = false;
            for (step, which) in steps {
                if shares.is_empty() {
                    break;
                }
                let index = which.index(shares.len());
                if matches!(step, Step::Share) {
                    shares.push(shares[index].share());
                    continue;
                }
                let share = shares.swap_remove(index);
                prop_assert!(seen.lock().unwrap().is_empty());
                prop_assert_eq!(share.outstanding(), shares.len() + 1);
                match step {
                    Step::Done => share.done(),
                    Step::Drop => {
                        dropped = true;
                        drop(share);
                    }
                    _ => {
                        let failure = Failure::new("test", shares.len());
                        failed.get_or_insert(failure.clone());
                        share.fail(failure);
                    }
                }
            }
            if !shares.is_empty() {
                prop_assert!(seen.lock().unwrap().is_empty());
                dropped = true;
                shares.clear();
            }
            let expected = match failed {
                Some(failure) => Outcome::Failed(failure),
                None if dropped => Outcome::Abandoned,
                None => Outcome::Done,
            };
            prop_assert_eq!(&*seen.lock().unwrap(), &[expected]);
        }
    }
}
