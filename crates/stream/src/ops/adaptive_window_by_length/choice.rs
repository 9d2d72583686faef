//! The choice of the waiting events that make the next batch.

use tokio::time::Instant;

use crate::AdaptiveWindow;
use crate::batching::{BatchLoad, CostModel, split};

/// The properties of a waiting event that the choice depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) length: u64,
    /// The time by which the event should be chosen. The candidate with the earliest time is the
    /// most urgent one.
    pub(super) urgent: Instant,
}

/// The next batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Choice {
    /// For each candidate, whether it is a member.
    pub(super) is_member: Vec<bool>,
    pub(super) load: BatchLoad,
    /// The limit that the batch has reached; `None` if it has all candidates and there is room for
    /// more.
    pub(super) limit: Option<Limit>,
}

/// The reason why a batch is no larger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// The batch has `max_size` members.
    Size,
    /// Another member would exceed the maximum cost, or would cost more than in a separate batch.
    Cost,
}

/// Returns the batch that contains the most urgent candidate.
pub(super) fn choose(
    candidates: &[Candidate],
    limits: AdaptiveWindow,
    costs: &CostModel,
) -> Choice {
    let mut order: Vec<usize> = (0..candidates.len()).collect();
    let most_urgent = order.iter().copied().min_by_key(|&index| candidates[index].urgent);
    // Without padding, mixing lengths is free, so urgency alone decides.
    if costs.shapes().pads() {
        order.sort_by_key(|&index| (candidates[index].length, candidates[index].urgent));
    } else {
        order.sort_by_key(|&index| candidates[index].urgent);
    }
    let lengths: Vec<_> = order.iter().map(|&index| candidates[index].length).collect();
    let batches = split(&lengths, limits.max_size.get(), limits.max_cost, costs);
    let members = batches
        .into_iter()
        .map(|batch| &order[batch])
        .find(|members| most_urgent.is_some_and(|index| members.contains(&index)))
        .unwrap_or_default();
    let mut is_member = vec![false; candidates.len()];
    for &member in members {
        is_member[member] = true;
    }
    let limit = match members.len() {
        size if size == limits.max_size.get() => Some(Limit::Size),
        size if size < candidates.len() => Some(Limit::Cost),
        _ => None,
    };
    let load = members.iter().map(|&member| candidates[member].length).collect();
    Choice { is_member, load, limit }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::{Candidate, Choice, Limit, choose};
    use crate::AdaptiveWindow;
    use crate::batching::{BatchLoad, CostModel, Shapes};
    use crate::testing::size;

    /// Returns costs of 3 ms for a call and 2 us for an element.
    fn costs(shapes: Shapes) -> CostModel {
        let costs = CostModel::new(shapes);
        for (size, length) in [(1, 8), (16, 8), (1, 128), (16, 128)] {
            let load: BatchLoad = std::iter::repeat_n(length, size).collect();
            let micros = 3000 + 2 * costs.shapes().elements(load);
            costs.seed(load, Duration::from_micros(micros));
        }
        costs
    }

    fn limits(max_size: usize, max_cost: u64) -> AdaptiveWindow {
        AdaptiveWindow { max_size: size(max_size), max_wait: Duration::ZERO, max_cost }
    }

    /// Returns candidates with these lengths. The one at the index `urgent` is the most urgent; the
    /// others are less urgent the later they stand in the list.
    fn candidates(lengths: &[u64], urgent: usize) -> Vec<Candidate> {
        let now = Instant::now();
        let at = |index| {
            if index == urgent { now } else { now + Duration::from_millis(1 + index as u64) }
        };
        let lengths = lengths.iter().enumerate();
        lengths.map(|(index, &length)| Candidate { length, urgent: at(index) }).collect()
    }

    fn chosen(
        lengths: &[u64],
        urgent: usize,
        limits: AdaptiveWindow,
        shapes: Shapes,
    ) -> (Vec<usize>, Option<Limit>) {
        let Choice { is_member, limit, .. } =
            choose(&candidates(lengths, urgent), limits, &costs(shapes));
        ((0..lengths.len()).filter(|&index| is_member[index]).collect(), limit)
    }

    #[test]
    fn the_most_urgent_event_is_batched_with_events_of_similar_length() {
        let lengths: Vec<_> = (0..40).map(|n| if n % 2 == 0 { 10 } else { 250 }).collect();
        let short: Vec<_> = (0..40).step_by(2).collect();
        let long: Vec<_> = (1..40).step_by(2).collect();
        let limits = limits(64, u64::MAX);
        assert_eq!(chosen(&lengths, 0, limits, Shapes::padded()), (short, Some(Limit::Cost)));
        assert_eq!(chosen(&lengths, 7, limits, Shapes::padded()), (long, Some(Limit::Cost)));
        let (all, limit) = chosen(&[10, 250, 10], 1, limits, Shapes::padded());
        assert_eq!((all.len(), limit), (3, None), "another call would cost more than the padding");
    }

    #[test]
    fn without_padding_the_most_urgent_events_are_chosen() {
        let lengths = [10, 250, 10, 250];
        let size = limits(2, u64::MAX);
        let cost = limits(9, 510);
        assert_eq!(chosen(&lengths, 3, size, Shapes::ragged()), (vec![0, 3], Some(Limit::Size)));
        assert_eq!(chosen(&lengths, 3, cost, Shapes::ragged()), (vec![0, 1, 3], Some(Limit::Cost)));
    }

    proptest! {
        #[test]
        fn the_most_urgent_event_is_always_chosen_and_the_limits_are_kept(
            lengths in prop::collection::vec(1_u64..600, 1..60), urgent: prop::sample::Index,
            max_size in 1_usize..20, max_cost in 1_u64..9000,
        ) {
            let urgent = urgent.index(lengths.len());
            for shapes in [Shapes::ragged(), Shapes::padded()] {
                let costs = costs(shapes);
                let choice = choose(&candidates(&lengths, urgent), limits(max_size, max_cost), &costs);
                prop_assert!(choice.is_member[urgent]);
                let members = lengths.iter().zip(&choice.is_member).filter(|(_, is_member)| **is_member);
                let load: BatchLoad = members.map(|(length, _)| *length).collect();
                prop_assert_eq!(load, choice.load);
                prop_assert!(load.size <= max_size);
                prop_assert!(load.size == 1 || costs.shapes().elements(load) <= max_cost);
                prop_assert_eq!(choice.limit.is_none(), load.size == lengths.len() && load.size < max_size);
            }
        }
    }
}
