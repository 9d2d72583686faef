//! `Receipt`: tells a source that all work on one of its inputs is over.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::Failure;
use crate::fork::Marks;
use crate::loops::{Loop, LoopShares};
use crate::stage_id::{StageCell, StageId};

/// The outcome of the work on one input. It depends on all events that were made of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every event was delivered, or discarded on purpose.
    Done,
    /// At least one event failed; this is the first failure.
    Failed(Failure),
    /// No event failed, but at least one was dropped before the work on it was over. The input must
    /// be read again.
    Abandoned,
}

/// The receiver of an input's outcome: the source of the input, or an operator that wrapped the
/// input's receipt in another one.
///
/// Every event that was made of the input has a receipt, which is a share in the outcome. From each
/// share that is open, [`Receipt::visit`] finds the receiver. A sink uses this to find out which
/// inputs an output belongs to.
///
/// ```
/// use forebay_stream::{Outcome, Receipt, Settle};
///
/// struct Offset(u64);
///
/// impl Settle for Offset {
///     fn settle(self: Box<Self>, outcome: Outcome) {
///         println!("{}: {outcome:?}", self.0);
///     }
/// }
///
/// let output = Receipt::join([Receipt::of(Offset(7)), Receipt::of(Offset(9))]);
/// let mut offsets = Vec::new();
/// output.visit(&mut |offset: &Offset| offsets.push(offset.0));
/// assert_eq!(offsets, [7, 9]);
/// ```
pub trait Settle: Any + Send + Sync {
    /// Receives the outcome. Called once, when the last share is gone.
    ///
    /// It runs on the thread that resolves the last share, so it must be short and must not block.
    fn settle(self: Box<Self>, outcome: Outcome);

    /// Returns the receipts that `settle` resolves. An operator that wraps a receipt returns the
    /// wrapped one here; a source returns none.
    fn stands_for(&self) -> &[Receipt] {
        &[]
    }
}

/// A share in the outcome of one input.
///
/// Every event derived from an input holds a share. The input's outcome is settled, once, when the
/// last share is gone: failed if any share [failed](Receipt::fail), otherwise abandoned if any was
/// dropped unresolved, otherwise done. Forgetting a receipt is therefore safe: the input counts as
/// abandoned, its offset stays uncommitted, and it is read again.
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
    // `None` once resolved, or if no source waits for the outcome.
    root: Option<Arc<Root>>,
    loop_shares: LoopShares,
    /// The places of the event in the order of the forks that it came through.
    pub(crate) marks: Marks,
}

/// The state that all shares of one input have in common. The strong count of its `Arc` is the
/// number of open shares, and its drop settles the input.
struct Root {
    failure: OnceLock<Failure>,
    abandoned: AtomicBool,
    stage: StageCell,
    // Whether `receiver` stands for other receipts. If so, a change of `stage` is passed on to the
    // inputs of those receipts.
    wraps: bool,
    // `None` only while `drop` runs, which takes it.
    receiver: Option<Box<dyn Settle>>,
}

/// A view of an input that does not hold a share of it.
#[derive(Clone, Debug)]
pub struct Watch(Weak<Root>);

impl Watch {
    /// Returns the stage that the input is in. If several events were made of the input, this is
    /// the stage that was entered last by any of them. `None` before the input has left its source,
    /// and once its outcome is settled.
    ///
    /// This call counts as a share while it runs. If all other shares are resolved meanwhile, the
    /// end of this call settles the outcome.
    #[must_use]
    pub fn stage(&self) -> Option<Arc<str>> {
        self.0.upgrade()?.stage.get().name()
    }
}

struct Closure<F>(F);

impl<F: FnOnce(Outcome) + Send + Sync + 'static> Settle for Closure<F> {
    fn settle(self: Box<Self>, outcome: Outcome) {
        (self.0)(outcome);
    }
}

struct Joined(Vec<Receipt>);

impl Settle for Joined {
    fn settle(self: Box<Self>, outcome: Outcome) {
        for member in self.0 {
            member.resolve(outcome.clone());
        }
    }

    fn stands_for(&self) -> &[Receipt] {
        &self.0
    }
}

impl Receipt {
    /// Creates the first share of a new input. `settle` is called once, when the last share is
    /// gone.
    ///
    /// `settle` runs on the thread that resolves the last share, so it must be short and must not
    /// block. If sinks have to find the input, use [`of`](Self::of).
    pub fn new(settle: impl FnOnce(Outcome) + Send + Sync + 'static) -> Self {
        Self::of(Closure(settle))
    }

    /// Creates the first share of a new input, whose outcome goes to `receiver`.
    pub fn of(receiver: impl Settle) -> Self {
        let receiver: Box<dyn Settle> = Box::new(receiver);
        let root = Root {
            failure: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            stage: StageCell::new(StageId::NONE),
            wraps: !receiver.stands_for().is_empty(),
            receiver: Some(receiver),
        };
        Self { root: Some(Arc::new(root)), loop_shares: LoopShares::NONE, marks: Marks::NONE }
    }

    /// Wraps this receipt: returns a new one, whose outcome goes to the receiver that `wrap` makes of
    /// this one. The event keeps its places in the order of forks.
    pub(crate) fn wrapped<S: Settle>(mut self, wrap: impl FnOnce(Self) -> S) -> Self {
        let marks = std::mem::take(&mut self.marks);
        let mut outer = Self::of(wrap(self));
        outer.marks = marks;
        outer
    }

    /// Creates a receipt for which no source waits; resolving it does nothing.
    pub const fn detached() -> Self {
        Self { root: None, loop_shares: LoopShares::NONE, marks: Marks::NONE }
    }

    /// Joins the receipts of several inputs into one. Its outcome becomes the outcome of each of
    /// them.
    pub fn join(members: impl IntoIterator<Item = Self>) -> Self {
        let mut loop_shares = LoopShares::NONE;
        let mut marks = Marks::NONE;
        let members: Vec<Self> = members
            .into_iter()
            .map(|mut member| {
                loop_shares.unite(std::mem::take(&mut member.loop_shares));
                marks.unite(std::mem::take(&mut member.marks));
                member
            })
            .filter(|member| member.root.is_some())
            .collect();
        if members.is_empty() {
            return Self { root: None, loop_shares, marks };
        }
        let mut joined = Self::of(Joined(members));
        joined.loop_shares = loop_shares;
        joined.marks = marks;
        joined
    }

    /// Creates another share of the same input, for an operator that makes several events of one.
    pub fn share(&self) -> Self {
        Self {
            root: self.root.clone(),
            loop_shares: self.loop_shares.clone(),
            marks: self.marks.clone(),
        }
    }

    /// Returns a view of the input, for code that waits for its outcome and reports where it is
    /// stuck.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), forebay_stream::PipelineError> {
    /// use std::convert::Infallible;
    ///
    /// use forebay_stream::{Event, Flow, Receipt};
    /// use futures::stream;
    ///
    /// let receipt = Receipt::new(|outcome| println!("{outcome:?}"));
    /// let watch = receipt.watch();
    /// let seen = watch.clone();
    /// let event = Event { receipt, ..Event::detached("a") };
    /// let flow = Flow::from_try_events("letters", stream::iter([Ok::<_, Infallible>(event)]));
    /// let stages = flow.named("shout").map(move |_| seen.stage()).collect().await?;
    /// assert_eq!(stages[0].as_deref(), Some("shout"));
    /// assert_eq!(watch.stage(), None, "its outcome is settled");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch(self.root.as_ref().map(Arc::downgrade).unwrap_or_default())
    }

    /// Records that the event enters `stage`, for its input and for all inputs that its receipt
    /// stands for.
    pub(crate) fn enters(&self, stage: StageId) {
        // A receipt can stand for any number of others: an operator in a loop wraps a receipt once
        // a round, and a window joins receipts. The limit keeps this call short. Receipts beyond
        // the limit are not visited, and their inputs keep the stage that they had.
        let mut most = 64;
        self.note(stage, &mut most);
    }

    fn note(&self, stage: StageId, left: &mut usize) {
        let Some(root) = &self.root else { return };
        root.stage.set(stage);
        if !root.wraps {
            return;
        }
        for inner in root.receiver.iter().flat_map(|receiver| receiver.stands_for()) {
            let Some(fewer) = left.checked_sub(1) else { return };
            *left = fewer;
            inner.note(stage, left);
        }
    }

    /// Resolves this share as done: its event was delivered, or discarded on purpose.
    pub fn done(mut self) {
        self.root.take();
    }

    /// Resolves this share as failed. If several shares of an input fail, its source gets the first
    /// failure.
    pub fn fail(mut self, failure: Failure) {
        if let Some(root) = self.root.take() {
            // A later failure of the same input is ignored: one input gets one answer.
            root.failure.set(failure).ok();
        }
    }

    /// Resolves this share with the outcome of a receipt that stood for it.
    pub fn resolve(self, outcome: Outcome) {
        match outcome {
            Outcome::Done => self.done(),
            Outcome::Failed(failure) => self.fail(failure),
            Outcome::Abandoned => drop(self),
        }
    }

    /// Calls `visit` for each receiver of type `T` that waits for this receipt's outcome: directly,
    /// as a member of a [join](Self::join), or behind operators that wrapped the receipt in another
    /// one. Each receiver is visited once. The members of a join are visited in the order in which
    /// they were joined.
    pub fn visit<T: Settle>(&self, visit: &mut impl FnMut(&T)) {
        let walked = self.walk(&mut |_, receiver| {
            if let Some(receiver) = (receiver as &dyn Any).downcast_ref() {
                visit(receiver);
            }
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(walked.is_continue(), "the visitor never breaks");
    }

    /// Calls `visit` for every receiver that waits for this receipt's outcome, together with the
    /// receipt that the receiver was created for, until `visit` breaks. The walk does not recurse,
    /// because a loop can nest receipts to any depth.
    pub(crate) fn walk<'a, B>(
        &'a self,
        visit: &mut impl FnMut(&'a Self, &'a dyn Settle) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut rest = Vec::new();
        // Two paths from a join can lead to the same receiver, so visited receivers are remembered
        // from the first join on. A single path, the usual case, needs no memory.
        let mut seen = HashSet::new();
        let mut parted = false;
        let mut next = Some(self);
        while let Some(receipt) = next.take().or_else(|| rest.pop()) {
            let (Some(root), Some(receiver)) = (&receipt.root, receipt.receiver()) else {
                continue;
            };
            if parted && !seen.insert(Arc::as_ptr(root)) {
                continue;
            }
            visit(receipt, receiver)?;
            match receiver.stands_for() {
                [one] => next = Some(one),
                many => {
                    parted |= !many.is_empty();
                    rest.extend(many.iter().rev());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// Returns an address that is the same for all shares of one input, and different for all other
    /// open inputs. Null for a detached receipt.
    pub(crate) fn identity(&self) -> *const () {
        self.root.as_ref().map_or(std::ptr::null(), |root| Arc::as_ptr(root).cast())
    }

    /// Returns the receiver that waits for this receipt's outcome directly.
    pub(crate) fn receiver(&self) -> Option<&dyn Settle> {
        self.root.as_ref()?.receiver.as_deref()
    }

    /// Resolves this share as done, and returns a receipt for which no source waits, so that the
    /// event can go on. The event stays inside the loops that it was inside.
    pub(crate) fn release(mut self) -> Self {
        self.root.take();
        self
    }

    /// Counts the event as inside `the_loop` until its receipt is resolved or
    /// [`leave`](Self::leave) is called. Returns how often it has entered the loop.
    pub(crate) fn enter(&mut self, the_loop: &Arc<Loop>) -> u32 {
        self.loop_shares.enter(the_loop)
    }

    /// The opposite of [`enter`](Self::enter).
    pub(crate) fn leave(&mut self, the_loop: &Arc<Loop>) {
        self.loop_shares.leave(the_loop);
    }

    /// Returns the number of open shares of the input, including this one; 0 if no source waits.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.root.as_ref().map_or(0, Arc::strong_count)
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if let Some(root) = &self.root {
            // Relaxed is enough, because the reference count of the `Arc` orders this store before
            // the read in `Root::drop`: a thread that drops its reference releases, and the thread
            // that drops the last one acquires.
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
        if let Some(receiver) = self.receiver.take() {
            settle(receiver, outcome);
        }
    }
}

type Settling = (Box<dyn Settle>, Outcome);

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static DEFERRED: RefCell<VecDeque<Settling>> = const { RefCell::new(VecDeque::new()) };
}

/// Settles one input: passes `outcome` to `receiver`. The receiver then resolves the receipts that
/// it stands for, which can settle further inputs in nested calls. A loop can nest receipts to any
/// depth, and the stack would overflow. An input at a depth of `MAX_DEPTH` is therefore put into
/// `DEFERRED`, and the outermost call settles it.
fn settle(receiver: Box<dyn Settle>, outcome: Outcome) {
    const MAX_DEPTH: usize = 64;
    let depth = DEPTH.replace(DEPTH.get() + 1);
    let _level = Level;
    let mut settling = Some((receiver, outcome));
    if depth == MAX_DEPTH {
        // If the thread is ending, `DEFERRED` may be destroyed already. `settling` then still holds
        // the input, and it is settled here.
        DEFERRED.try_with(|deferred| deferred.borrow_mut().extend(settling.take())).ok();
    }
    while let Some((receiver, outcome)) = settling {
        receiver.settle(outcome);
        settling = if depth == 0 { next_deferred() } else { None };
    }
}

fn next_deferred() -> Option<Settling> {
    DEFERRED.try_with(|deferred| deferred.borrow_mut().pop_front()).ok().flatten()
}

/// One call of [`settle`] that is running. Its drop decrements `DEPTH`, also if the call panics.
struct Level;

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

impl fmt::Debug for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receipt").field("outstanding", &self.outstanding()).finish()
    }
}

#[cfg(test)]
mod tests;
