//! `Receipt`: tells a source that all work on one of its inputs is over.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crate::Failure;
use crate::loops::{Loop, LoopShares};
use crate::stage::{StageCell, StageId};

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

/// Whoever waits for the outcome of an input: its source, or an operator that gave it a receipt of its own.
///
/// As long as a share of the input is open, [`Receipt::visit`] finds this from whatever was made of the input. So a
/// sink can ask which inputs an output belongs to.
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
    /// Hears the outcome; called once, when the last share is gone.
    ///
    /// It runs on whichever thread resolves last, so it must be short and must not block.
    fn settle(self: Box<Self>, outcome: Outcome);

    /// The receipts that wait for this one: those that `settle` resolves. An operator that wraps a receipt in one of
    /// its own names it here; a source has none.
    fn stands_for(&self) -> &[Receipt] {
        &[]
    }
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
    passes: LoopShares,
}

/// What the shares of one input have in common. Its `Arc` count is the number of open shares, and its drop settles.
struct Root {
    failure: OnceLock<Failure>,
    abandoned: AtomicBool,
    stage: StageCell,
    // Whether it stands for other inputs, which are wherever it is.
    wraps: bool,
    // Taken by the drop.
    waits: Option<Box<dyn Settle>>,
}

/// Looks at an input without holding a share of it.
#[derive(Clone, Debug)]
pub struct Watch(Weak<Root>);

impl Watch {
    /// The stage that the input is in, or was last seen in if several events are made of it; `None` once its outcome
    /// is settled, and for what has not left its source.
    ///
    /// Where the last share is resolved meanwhile, the outcome is settled in this call.
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
    /// The first share of a new input; `settle` is called once, when the last share is gone.
    ///
    /// `settle` runs on whichever thread resolves last, so it must be short and must not block. For an input that
    /// sinks are to find, see [`of`](Self::of).
    pub fn new(settle: impl FnOnce(Outcome) + Send + Sync + 'static) -> Self {
        Self::of(Closure(settle))
    }

    /// The first share of a new input, whose outcome `waits` hears.
    pub fn of(waits: impl Settle) -> Self {
        let waits: Box<dyn Settle> = Box::new(waits);
        let root = Root {
            failure: OnceLock::new(),
            abandoned: AtomicBool::new(false),
            stage: StageCell::new(StageId::NONE),
            wraps: !waits.stands_for().is_empty(),
            waits: Some(waits),
        };
        Self { root: Some(Arc::new(root)), passes: LoopShares::NONE }
    }

    /// A receipt for which no source waits; resolving it does nothing.
    pub const fn detached() -> Self {
        Self { root: None, passes: LoopShares::NONE }
    }

    /// One receipt for what is made of several inputs: its outcome becomes the outcome of each.
    pub fn join(members: impl IntoIterator<Item = Self>) -> Self {
        let mut passes = LoopShares::NONE;
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
        let mut joined = Self::of(Joined(members));
        joined.passes = passes;
        joined
    }

    /// Another share in the same input, for an operator that makes several events of one.
    pub fn share(&self) -> Self {
        Self { root: self.root.clone(), passes: self.passes.clone() }
    }

    /// Looks at the input from now on; for who waits for its outcome and is asked why it takes so long.
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

    /// Notes the stage that the event comes into.
    pub(crate) fn enters(&self, stage: StageId) {
        // A loop may have wrapped it as often as it goes round, and a window may be of any size: those beyond stay where
        // they were seen last.
        let mut most = 64;
        self.note(stage, &mut most);
    }

    fn note(&self, stage: StageId, left: &mut usize) {
        let Some(root) = &self.root else { return };
        root.stage.set(stage);
        if !root.wraps {
            return;
        }
        for inner in root.waits.iter().flat_map(|waits| waits.stands_for()) {
            let Some(fewer) = left.checked_sub(1) else { return };
            *left = fewer;
            inner.note(stage, left);
        }
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

    /// Shows whatever of type `T` waits for this receipt's outcome: directly, as a member of a [join](Self::join), or
    /// behind operators that gave their events receipts of their own. Each one once; those that were joined first are
    /// shown first.
    pub fn visit<T: Settle>(&self, visit: &mut impl FnMut(&T)) {
        let walked = self.walk(&mut |_, waits| {
            if let Some(waits) = (waits as &dyn Any).downcast_ref() {
                visit(waits);
            }
            ControlFlow::<()>::Continue(())
        });
        debug_assert!(walked.is_continue(), "nothing stops it");
    }

    /// Shows everything that waits for this receipt's outcome, with the receipt through which it does, until told to
    /// stop. It needs no stack of calls, so what it walks may be nested as deep as a loop has made it.
    pub(crate) fn walk<'a, B>(
        &'a self,
        visit: &mut impl FnMut(&'a Self, &'a dyn Settle) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut rest = Vec::new();
        // Where ways part they may meet again; a single way, which is the rule, needs no memory.
        let mut seen = HashSet::new();
        let mut parted = false;
        let mut next = Some(self);
        while let Some(receipt) = next.take().or_else(|| rest.pop()) {
            let (Some(root), Some(waits)) = (&receipt.root, receipt.waits()) else { continue };
            if parted && !seen.insert(Arc::as_ptr(root)) {
                continue;
            }
            visit(receipt, waits)?;
            match waits.stands_for() {
                [one] => next = Some(one),
                many => {
                    parted |= !many.is_empty();
                    rest.extend(many.iter().rev());
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// The same for all shares of one input, and for no other input.
    pub(crate) fn identity(&self) -> *const () {
        self.root.as_ref().map_or(std::ptr::null(), |root| Arc::as_ptr(root).cast())
    }

    /// What waits for this receipt's outcome itself.
    pub(crate) fn waits(&self) -> Option<&dyn Settle> {
        self.root.as_ref()?.waits.as_deref()
    }

    /// Resolves this share and gives a receipt for which no source waits, for an event that goes on.
    pub(crate) fn release(mut self) -> Self {
        self.root.take();
        self
    }

    /// Counts the event as inside `ring` until its receipt is resolved, or it leaves.
    pub(crate) fn enter(&mut self, ring: &Arc<Loop>) {
        self.passes.enter(ring);
    }

    /// The opposite of [`enter`](Self::enter).
    pub(crate) fn leave(&mut self, ring: &Arc<Loop>) {
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
        if let Some(waits) = self.waits.take() {
            settle(waits, outcome);
        }
    }
}

type Settling = (Box<dyn Settle>, Outcome);

thread_local! {
    static DEPTH: Cell<usize> = const { Cell::new(0) };
    static PUT_OFF: RefCell<VecDeque<Settling>> = const { RefCell::new(VecDeque::new()) };
}

/// Settling one input resolves receipts, and so settles others: at once, unless they are nested so deep that the
/// stack might not do (a loop can wrap an event as often as it goes round). Those have to wait for the first.
fn settle(waits: Box<dyn Settle>, outcome: Outcome) {
    const DEEP: usize = 64;
    let depth = DEPTH.replace(DEPTH.get() + 1);
    let _level = Level;
    let mut settling = Some((waits, outcome));
    if depth == DEEP {
        // A thread that ends may have lost the place for it already.
        PUT_OFF.try_with(|put_off| put_off.borrow_mut().extend(settling.take())).ok();
    }
    while let Some((waits, outcome)) = settling {
        waits.settle(outcome);
        settling = if depth == 0 { next_put_off() } else { None };
    }
}

fn next_put_off() -> Option<Settling> {
    PUT_OFF.try_with(|put_off| put_off.borrow_mut().pop_front()).ok().flatten()
}

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
mod tests {
    use std::collections::BTreeSet;
    use std::sync::{Arc, Mutex};

    use proptest::prelude::*;

    use super::{Outcome, Receipt, Settle};
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

    /// An input with a number, which leaves it behind when it is settled.
    struct Numbered(usize, Arc<Mutex<BTreeSet<usize>>>);

    impl Settle for Numbered {
        fn settle(self: Box<Self>, _outcome: Outcome) {
            assert!(self.1.lock().unwrap().insert(self.0));
        }
    }

    /// An operator that gives each event a receipt of its own.
    struct Wrapped(Receipt);

    impl Settle for Wrapped {
        fn settle(self: Box<Self>, outcome: Outcome) {
            self.0.resolve(outcome);
        }

        fn stands_for(&self) -> &[Receipt] {
            std::slice::from_ref(&self.0)
        }
    }

    fn numbers(receipt: &Receipt) -> Vec<usize> {
        let mut numbers = Vec::new();
        receipt.visit(&mut |input: &Numbered| numbers.push(input.0));
        numbers
    }

    #[test]
    fn what_waits_is_found_and_settled_however_deep_it_is_nested() {
        let settled = Arc::default();
        let mut receipt = Receipt::of(Numbered(7, Arc::clone(&settled)));
        for round in 0..100_000 {
            receipt = match round % 3 {
                0 => Receipt::of(Wrapped(receipt)),
                1 => Receipt::join([receipt.share(), receipt]),
                _ => Receipt::join([receipt, Receipt::new(drop)]),
            };
        }
        assert_eq!(numbers(&receipt), [7]);
        receipt.done();
        assert_eq!(settled.lock().unwrap().len(), 1);
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
        fn what_is_found_are_the_inputs_that_are_open(
            inputs in 1_usize..6,
            steps in prop::collection::vec((0_u8..6, any::<prop::sample::Index>()), 0..60),
        ) {
            let settled = Arc::default();
            // Each receipt with the inputs that it leads to.
            let mut open: Vec<_> = (0..inputs)
                .map(|n| (Receipt::of(Numbered(n, Arc::clone(&settled))), BTreeSet::from([n])))
                .collect();
            for (step, which) in steps {
                if open.is_empty() {
                    break;
                }
                let (receipt, leads_to) = open.swap_remove(which.index(open.len()));
                match step {
                    0 => {
                        open.push((receipt.share(), leads_to.clone()));
                        open.push((receipt, leads_to));
                    }
                    1 | 2 if !open.is_empty() => {
                        let (other, others) = open.swap_remove(which.index(open.len()));
                        open.push((Receipt::join([receipt, other]), &leads_to | &others));
                    }
                    3 => open.push((Receipt::of(Wrapped(receipt)), leads_to)),
                    4 => receipt.done(),
                    _ => receipt.fail(Failure::new("test", "")),
                }
                for (receipt, leads_to) in &open {
                    let mut found = numbers(receipt);
                    found.sort_unstable();
                    prop_assert_eq!(found, leads_to.iter().copied().collect::<Vec<_>>());
                }
                let unsettled: BTreeSet<_> = open.iter().flat_map(|(_, inputs)| inputs.clone()).collect();
                prop_assert_eq!(&*settled.lock().unwrap(), &(&(0..inputs).collect::<BTreeSet<_>>() - &unsettled));
            }
        }

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
