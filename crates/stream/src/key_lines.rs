//! `KeyLines`: whose turn it is among the inputs of each key.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::{Event, Failure, Receipt};

/// The inputs inside, a line for each key, and the outputs and failures that wait for their turn.
///
/// Entering and passing cost one look into a map, and an output one more where its input was not the first of its line
/// to begin with. An output of many inputs costs O(log n) for each of its keys.
pub(crate) struct KeyLines<K, U> {
    lines: HashMap<K, Line<K, U>>,
    // The number of the newest input; older inputs have smaller ones, whatever their keys.
    newest: u64,
    // How many outputs are in the lines.
    waiting: usize,
    // Outputs whose turn has come.
    ready: VecDeque<Event<U>>,
}

/// The inputs of one key, by their numbers. A line of one, the most frequent one, allocates nothing of its own.
struct Line<K, U> {
    // It is this one's turn. Invariant: nothing waits here, and it is not over.
    first: Slot<K, U>,
    rest: VecDeque<Slot<K, U>>,
}

struct Slot<K, U> {
    number: u64,
    outputs: Vec<Output<K, U>>,
    // What is to be passed on in its turn, once nothing of the input is inside any more.
    over: Option<Over>,
}

impl<K, U> Slot<K, U> {
    const fn new(number: u64) -> Self {
        Self { number, outputs: Vec::new(), over: None }
    }
}

/// The failure of an input for its receipt, if it failed.
pub(crate) type Over = Option<(Receipt, Failure)>;

/// An output, and where it has to wait.
pub(crate) struct Output<K, U> {
    pub(crate) event: Event<U>,
    /// The number of the oldest of its inputs.
    pub(crate) oldest: u64,
    /// The keys of its inputs, less those in whose lines its turn has come: one, and where there are more the others.
    pub(crate) key: Option<K>,
    pub(crate) others: Vec<K>,
}

/// The place of an input: its number, and whether it has been its turn from the beginning.
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
        let (number, slot) = (self.newest, Slot::new(self.newest));
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

    /// Takes an output in; it is ready when, in the line of each of its keys, all that is older than its oldest input
    /// has passed. As an output waits for older inputs only, no two wait for each other.
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

    /// The next output whose turn has come.
    pub(crate) fn next(&mut self) -> Option<Event<U>> {
        self.ready.pop_front()
    }

    pub(crate) fn has_next(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Whether any output is here.
    pub(crate) fn has_outputs(&self) -> bool {
        self.waiting > 0 || self.has_next()
    }

    /// Notes that nothing of an input is inside any more. Gives `over` back where it is the input's turn; it is then to
    /// be dealt with before the input [passes](Self::pass).
    pub(crate) fn end(&mut self, key: &K, number: u64, over: Over) -> Option<Over> {
        let Some(slot) = waiting_slot(&mut self.lines, key, number) else { return Some(over) };
        slot.over = Some(over);
        None
    }

    /// Removes the first input of a line, whose outputs have left. If the next one is over already, it has to pass as
    /// well, after this has been dealt with.
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

    /// Takes all outputs out.
    pub(crate) fn clear(&mut self) -> Vec<Event<U>> {
        self.waiting = 0;
        let slots = self.lines.values_mut().flat_map(|line| &mut line.rest);
        let waiting = slots.flat_map(|slot| std::mem::take(&mut slot.outputs));
        let ready = std::mem::take(&mut self.ready);
        ready.into_iter().chain(waiting.map(|output| output.event)).collect()
    }
}

/// Where something of an input with this number, or a greater one, has to wait; `None` if it is its turn.
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
