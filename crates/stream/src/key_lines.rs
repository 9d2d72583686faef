//! `KeyLines`: keeps the inputs of each key in order, and the outputs that wait for older inputs.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::{Event, Failure, Receipt};

/// The inputs that are inside `in_key_order`, in one line per key, the oldest first. An input
/// enters the end of its key's line. It passes, that is, it leaves the line, when it is the first
/// and the work on it is over. Outputs and failures wait here until all older inputs of their keys
/// have passed.
///
/// Each input costs one map lookup to enter and one to pass. An output of one input costs a further
/// lookup, unless the input was the first of its line when it entered. An output of many inputs
/// costs O(log n) for each of its keys.
pub(crate) struct KeyLines<K, U> {
    lines: HashMap<K, Line<K, U>>,
    // The number of the newest input. Inputs are numbered across all keys: an older input always
    // has a smaller number.
    newest: u64,
    // The number of outputs in `lines`.
    waiting: usize,
    // Outputs that may leave, the next one first.
    ready: VecDeque<Event<U>>,
}

/// The inputs of one key, in ascending order of their numbers. A line with one input, the most
/// frequent case, does not allocate `rest`.
struct Line<K, U> {
    // The input whose turn it is. Invariant: no outputs wait in its slot, and its `over` is `None`.
    first: Slot<K, U>,
    rest: VecDeque<Slot<K, U>>,
}

struct Slot<K, U> {
    number: u64,
    outputs: Vec<Output<K, U>>,
    // Set when the work on the input is over before it is the first of its line. Holds the failure
    // that is passed on once it is the first, if there is one.
    over: Option<Over>,
}

impl<K, U> Slot<K, U> {
    const fn new(number: u64) -> Self {
        Self { number, outputs: Vec::new(), over: None }
    }
}

/// The failure of an input and the receipt to fail with it; `None` if the input did not fail.
pub(crate) type Over = Option<(Receipt, Failure)>;

/// An output of the inner operators, and the lines in which it may have to wait.
pub(crate) struct Output<K, U> {
    pub(crate) event: Event<U>,
    /// The number of the oldest input that the output was made of.
    pub(crate) oldest: u64,
    /// The key of the input, if the output was made of one input. `None` once the key's line has
    /// been checked for older inputs.
    pub(crate) key: Option<K>,
    /// The keys of the inputs, if the output was made of several, without those whose lines have
    /// been checked for older inputs.
    pub(crate) others: Vec<K>,
}

/// The number of an input, and whether it was the first of its line when it entered.
pub(crate) struct Entered {
    pub(crate) number: u64,
    pub(crate) is_first: bool,
}

impl<K: Hash + Eq + Clone, U> KeyLines<K, U> {
    pub(crate) fn new() -> Self {
        Self { lines: HashMap::new(), newest: 0, waiting: 0, ready: VecDeque::new() }
    }

    /// Adds an input to its key's line.
    pub(crate) fn enter(&mut self, key: K) -> Entered {
        self.newest += 1;
        let number = self.newest;
        let slot = Slot::new(self.newest);
        let is_first = match self.lines.entry(key) {
            Entry::Vacant(line) => {
                line.insert(Line { first: slot, rest: VecDeque::new() });
                true
            }
            Entry::Occupied(mut line) => {
                line.get_mut().rest.push_back(slot);
                false
            }
        };
        Entered { number, is_first }
    }

    /// Adds an output. It is ready when, in the line of each of its keys, all inputs older than its
    /// oldest input have passed. Outputs wait for older inputs only, so no two outputs wait for
    /// each other.
    pub(crate) fn add(&mut self, mut output: Output<K, U>) {
        while let Some(key) = output.key.take().or_else(|| output.others.pop()) {
            if let Some(slot) = waiting_slot(&mut self.lines, &key, output.oldest) {
                slot.outputs.push(output);
                self.waiting += 1;
                return;
            }
        }
        self.ready.push_back(output.event);
    }

    /// Removes the next output that may leave.
    pub(crate) fn next(&mut self) -> Option<Event<U>> {
        self.ready.pop_front()
    }

    pub(crate) fn has_next(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether any output waits or is ready.
    pub(crate) fn has_outputs(&self) -> bool {
        self.waiting > 0 || self.has_next()
    }

    /// Records that the work on an input is over. If the input is the first of its line, returns
    /// `over`: the caller must pass on the failure in it, and then let the input
    /// [`pass`](Self::pass).
    pub(crate) fn end(&mut self, key: &K, number: u64, over: Over) -> Option<Over> {
        let Some(slot) = waiting_slot(&mut self.lines, key, number) else { return Some(over) };
        slot.over = Some(over);
        None
    }

    /// Removes the first input of a line, whose outputs have left. If the work on the next input is
    /// over as well, returns the key and the `Over` of that input: the caller must pass on the
    /// failure in it, and call `pass` again.
    pub(crate) fn pass(&mut self, key: K) -> Option<(K, Over)> {
        let Entry::Occupied(mut line) = self.lines.entry(key) else { return None };
        let Some(mut next) = line.get_mut().rest.pop_front() else {
            line.remove();
            return None;
        };
        let outputs = std::mem::take(&mut next.outputs);
        let over = next.over.take().map(|over| (line.key().clone(), over));
        line.get_mut().first = next;
        self.waiting -= outputs.len();
        for output in outputs {
            self.add(output);
        }
        over
    }

    /// Removes and returns all outputs.
    pub(crate) fn clear(&mut self) -> Vec<Event<U>> {
        self.waiting = 0;
        let slots = self.lines.values_mut().flat_map(|line| &mut line.rest);
        let waiting = slots.flat_map(|slot| std::mem::take(&mut slot.outputs));
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().chain(waiting.map(|output| output.event)).collect()
    }
}

/// Returns the slot in the line of `key` that waits for all inputs older than `number`; `None` if
/// they have all passed. An output whose oldest input is `number` has to wait there, and so has the
/// end of that input.
fn waiting_slot<'a, K: Hash + Eq, U>(
    lines: &'a mut HashMap<K, Line<K, U>>,
    key: &K,
    number: u64,
) -> Option<&'a mut Slot<K, U>> {
    let line = lines.get_mut(key)?;
    if line.first.number >= number {
        return None;
    }
    let index = line.rest.partition_point(|slot| slot.number < number);
    line.rest.get_mut(index)
}
