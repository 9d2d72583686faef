use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Outcome, Receipt, Settle};
use crate::Failure;

type Seen = Arc<Mutex<Vec<Outcome>>>;

fn watched() -> (Receipt, Seen) {
    let seen = Seen::default();
    let log = Arc::clone(&seen);
    (Receipt::new(move |outcome| log.lock().push(outcome)), seen)
}

#[test]
fn a_forgotten_receipt_abandons_its_input() {
    let (receipt, seen) = watched();
    drop(receipt);
    assert_eq!(*seen.lock(), [Outcome::Abandoned]);
}

#[test]
fn a_joined_receipt_settles_every_member_once() {
    let (first, first_seen) = watched();
    let (second, second_seen) = watched();
    let joined = Receipt::join([first, Receipt::detached(), second]);
    let other = joined.share();
    joined.done();
    assert!(first_seen.lock().is_empty());
    other.done();
    assert_eq!(*first_seen.lock(), [Outcome::Done]);
    assert_eq!(*second_seen.lock(), [Outcome::Done]);
}

/// An input with a number, which is added to the set when the input is settled.
struct Numbered(usize, Arc<Mutex<BTreeSet<usize>>>);

impl Settle for Numbered {
    fn settle(self: Box<Self>, _outcome: Outcome) {
        assert!(self.1.lock().insert(self.0));
    }
}

/// The receiver of an operator that wraps each event's receipt in another one.
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
fn an_input_is_found_and_settled_however_deep_its_receipt_is_nested() {
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
    assert_eq!(settled.lock().len(), 1);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Share,
    Done,
    Fail,
    Drop,
}

fn steps() -> impl Strategy<Value = Vec<(Step, prop::sample::Index)>> {
    let step = prop_oneof![Just(Step::Share), Just(Step::Done), Just(Step::Fail), Just(Step::Drop)];
    prop::collection::vec((step, any::<prop::sample::Index>()), 0..40)
}

proptest! {
    #[test]
    fn visit_finds_exactly_the_inputs_that_are_open(
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
            prop_assert_eq!(&*settled.lock(), &(&(0..inputs).collect::<BTreeSet<_>>() - &unsettled));
        }
    }

    #[test]
    fn an_input_settles_exactly_once_with_the_worst_outcome_of_its_shares(steps in steps()) {
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
            prop_assert!(seen.lock().is_empty());
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
            prop_assert!(seen.lock().is_empty());
            dropped = true;
            shares.clear();
        }
        let expected = match failed {
            Some(failure) => Outcome::Failed(failure),
            None if dropped => Outcome::Abandoned,
            None => Outcome::Done,
        };
        prop_assert_eq!(&*seen.lock(), &[expected]);
    }
}
