//! The operators, one file each.

mod accumulate;
pub(crate) mod adaptive_window;
mod adaptive_window_by_length;
mod admit;
mod branch;
pub(crate) mod breaker;
pub(crate) mod buffer;
pub(crate) mod catch;
mod collect_until;
pub(crate) mod combine_latest;
mod delay;
mod detach;
pub(crate) mod feedback;
mod filter;
mod flatten;
mod fold;
mod frequencies;
mod in_key_order;
mod inspect;
mod map;
mod map_async;
pub(crate) mod map_batch;
mod partition;
pub(crate) mod partition_unique;
pub(crate) mod pluck;
mod rate_limit;
mod rejoin;
pub(crate) mod retry;
mod slice;
pub(crate) mod sliding_window;
pub(crate) mod tap;
mod timed_window;
mod try_map;
mod union;
mod unique;
mod zip;
mod zip_latest;

#[cfg(test)]
mod tests {
    use std::future::ready;
    use std::num::NonZeroU32;
    use std::time::Duration;

    use futures::stream::{self, BoxStream, StreamExt as _};

    use crate::batching::{CostModel, Shapes};
    use crate::testing::size;
    use crate::{
        AdaptiveWindow, Batch, Batches, Breaker, EmitOn, Empty, Event, Failure, Flow, Graph, Keep,
        Missing, Overflow, Partial, Ratio, Retry,
    };

    /// A flow that ends in an operator.
    struct Ended {
        name: &'static str,
        stream: BoxStream<'static, ()>,
        graph: Graph,
    }

    fn ended<T: Send + 'static>(name: &'static str, flow: Flow<T>) -> Ended {
        let graph = flow.graph().clone();
        Ended { name, stream: flow.0.stream.map(drop).boxed(), graph }
    }

    /// A flow of a stream that panics if it is polled after its end.
    fn source() -> Flow<u8> {
        Flow::from_stream(stream::unfold(0, |n| ready((n < 7).then_some((n, n + 1)))))
    }

    fn one_at_a_time() -> Vec<Ended> {
        let wait = Duration::from_millis(1);
        let fail = |value| if value == 3 { Err(Failure::new("three", value)) } else { Ok(value) };
        let retry = Retry { attempts: NonZeroU32::MIN, backoff: wait, max_backoff: wait };
        let breaker = Breaker { ratio: Ratio::new(0.5).unwrap(), of: size(2), run: None };
        let (tapped, _) = source().tap(size(2));
        vec![
            ended("accumulate", source().accumulate(0, |sum, value| Ok(sum + value))),
            ended("breaker", source().breaker(breaker).try_map(fail)),
            ended("buffer", source().buffer(size(2), Overflow::Wait)),
            ended("delay", source().delay(wait, size(2))),
            ended("detach", source().detach()),
            ended("filter", source().filter(|value| value % 2 == 0)),
            ended("flatten", source().map(|value| vec![value; 2]).flatten()),
            ended("frequencies", source().frequencies(size(9))),
            ended("in_key_order", source().in_key_order(size(2), |flow| flow.map(|value| value))),
            ended("in_order_by", source().in_order_by(size(2), |_| (), |flow| flow.try_map(fail))),
            ended("inspect", source().inspect(|_| ())),
            ended("latest", source().latest()),
            ended("map_async", source().map_async(move |value| ready(fail(value)), size(2))),
            ended(
                "map_async_unordered",
                source().map_async_unordered(move |value| ready(fail(value)), size(2)),
            ),
            ended("pluck", source().pluck(|value| value.checked_sub(2), Missing::Fail)),
            ended("rate_limit", source().rate_limit(wait, size(2))),
            ended("retry", source().retry(retry, size(2)).try_map(fail)),
            ended("slice", source().slice(1, Some(5), size(2))),
            ended("tap", tapped),
            ended("try_map", source().try_map(fail)),
            ended("unique", source().unique(|value| value % 2, size(2))),
        ]
    }

    fn windows_and_junctions() -> Vec<Ended> {
        let wait = Duration::from_millis(1);
        let limits = AdaptiveWindow { max_size: size(2), max_wait: wait, max_cost: 2 };
        let double =
            |batch: Batch<u8>| ready(Ok(batch.iter().map(|value| Ok(value * 2)).collect()));
        let batches = || source().partition(size(2), Some(wait));
        let window = |name, batches: Batches<u8>| ended(name, batches.into_lists());
        let [left, right] = source().branch(size(9));
        let (even, odd) = source().split(|value| value % 2 == 0, size(9));
        let flush = Flow::from_iter([(); 2]);
        vec![
            window("adaptive_window", source().adaptive_window(limits, |_| 1)),
            window("adaptive_window_by_length", {
                let costs = CostModel::new(Shapes::padded()).into();
                source().adaptive_window_by_length(limits, costs, |_| 1, |_| Ok(None))
            }),
            window("collect_until", source().collect_until(flush, size(3), Empty::Emit)),
            window("partition", batches()),
            window("partition_unique", source().partition_unique(size(2), |v| v % 3, Keep::Last)),
            window("sliding_window", source().sliding_window(size(3), size(2), Partial::Emit)),
            window("timed_window", source().timed_window_with(wait, size(2), Empty::Emit)),
            ended("flatten", batches().flatten()),
            ended("fold", batches().fold(0, |sum, value| Ok(sum + value))),
            ended("lengths", batches().lengths()),
            ended("map_batch", batches().map_batch(double)),
            ended("branch", left.union(right)),
            ended("split", even.union(odd)),
            ended("combine_latest", source().combine_latest(source(), EmitOn::Any)),
            ended("rejoin", source().rejoin(source())),
            ended("union", source().union(source())),
            ended("zip", source().zip(source(), size(2))),
            ended("zip_latest", source().zip_latest(source())),
        ]
    }

    #[tokio::test(start_paused = true)]
    async fn every_operator_that_is_polled_after_its_end_returns_none_again() {
        let events = stream::unfold(0, |n| {
            ready((n < 3).then(|| (Ok::<_, std::io::Error>(Event::detached(n)), n + 1)))
        });
        let sources = vec![
            ended("from_iter", Flow::from_iter(0..3)),
            ended("from_stream", source()),
            ended("from_try_events", Flow::from_try_events("events", events)),
        ];
        for Ended { name, mut stream, .. } in
            [sources, one_at_a_time(), windows_and_junctions()].into_iter().flatten()
        {
            let mut emitted = 0;
            while stream.next().await.is_some() {
                emitted += 1;
            }
            assert!(emitted > 0, "{name} emits something");
            for _ in 0..3 {
                assert_eq!(stream.next().await, None, "{name} has ended");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn at_rest_what_came_to_an_operator_left_it_failed_or_was_discarded() {
        let empty = Flow::from_iter(Vec::<u8>::new()).partition(size(2), None);
        let more = vec![
            ended("admit", source().admit(|_| Err(Failure::new("refused", "")))),
            ended("buffer, newest dropped", source().buffer(size(2), Overflow::DropNewest)),
            ended("buffer, failing", source().buffer(size(2), Overflow::Fail)),
            ended("fold of nothing", empty.fold(0, |sum, value: u8| Ok(sum + value))),
            ended("sliding_window, no partial ones", {
                source().sliding_window(size(2), size(4), Partial::Drop).into_lists()
            }),
            ended("flatten of empty lists", source().map(|_| Vec::<u8>::new()).flatten()),
            ended("emit on one side", {
                source().combine_latest(Flow::from_iter(0..3), EmitOn::First)
            }),
        ];
        for Ended { name, stream, graph } in
            [one_at_a_time(), windows_and_junctions(), more].into_iter().flatten()
        {
            stream.collect::<Vec<_>>().await;
            for (index, node) in graph.nodes().iter().enumerate() {
                if graph.edges().all(|(_, to)| to != index) || &**node.name() == "failures" {
                    continue;
                }
                let number = |count: u64| i64::try_from(count).unwrap();
                let came = number(node.events_in()) + node.made();
                let failed = number(node.failed().values().sum());
                let went = number(node.events_out()) + failed + number(node.discarded());
                assert!(
                    node.events_in() > 0 || name == "fold of nothing",
                    "{name}: {}",
                    node.name()
                );
                assert_eq!(came, went, "{name}: {}: {node:?}", node.name());
            }
        }
    }
}
