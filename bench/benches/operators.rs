//! The cost of one event in each operator, next to that of the corresponding adapter of the futures
//! crate.
//!
//! In the group `forebay`, each event has metadata and a receipt that its source waits for; a run
//! panics unless every receipt is done. In `detached`, events have no receipt that a source waits
//! for, like events of Streamz without reference counters. In `futures`, the adapters of the
//! futures crate pass plain numbers.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput};
use forebay_stream::{Event, Flow, Meta, Origin, Outcome, Overflow, Receipt};
use futures::channel::mpsc;
use futures::stream::{self, Stream, StreamExt as _};
use tokio::runtime::{Builder, Runtime};

/// Events per run. A run includes its start, which is negligible at this length.
const EVENTS: u64 = 20_000;
const BATCH: NonZeroUsize = NonZeroUsize::new(32).unwrap();
const PARALLELISM: NonZeroUsize = NonZeroUsize::new(8).unwrap();
const CAPACITY: NonZeroUsize = NonZeroUsize::new(128).unwrap();

fn main() {
    let runtime = Builder::new_current_thread().build().expect("a runtime without drivers starts");
    let mut criterion = Criterion::default().configure_from_args();
    forebay(&mut criterion.benchmark_group("forebay"), &runtime);
    detached(&mut criterion.benchmark_group("detached"), &runtime);
    futures(&mut criterion.benchmark_group("futures"), &runtime);
    criterion.final_summary();
}

fn forebay(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime) {
    measure(group, runtime, "base", || through(|flow| flow));
    measure(group, runtime, "map", || through(|flow| flow.map(increment)));
    measure(group, runtime, "filter", || through(|flow| flow.filter(|value| passes(*value))));
    measure(group, runtime, "map_x4", || {
        through(|flow| flow.map(increment).map(increment).map(increment).map(increment))
    });
    measure(group, runtime, "partition_32", || {
        through(|flow| flow.partition(BATCH, None).into_lists())
    });
    measure(group, runtime, "buffer", || through(|flow| flow.buffer(CAPACITY, Overflow::Wait)));
    measure(group, runtime, "map_async_8", || {
        through(|flow| flow.map_async(|value| ready(Ok(increment(value))), PARALLELISM))
    });
    measure(group, runtime, "map_async_unordered_8", || {
        through(|flow| flow.map_async_unordered(|value| ready(Ok(increment(value))), PARALLELISM))
    });
}

fn detached(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime) {
    let numbers = || Flow::from_iter(0..EVENTS);
    measure(group, runtime, "map", || delivered(numbers().map(increment)));
    measure(group, runtime, "partition_32", || {
        delivered(numbers().partition(BATCH, None).into_lists())
    });
    measure(group, runtime, "map_async_8", || {
        delivered(numbers().map_async(|value| ready(Ok(increment(value))), PARALLELISM))
    });
}

fn futures(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime) {
    measure(group, runtime, "base", || drained(numbers()));
    measure(group, runtime, "map", || drained(numbers().map(increment)));
    measure(group, runtime, "filter", || drained(numbers().filter(|value| ready(passes(*value)))));
    measure(group, runtime, "map_x4", || {
        drained(numbers().map(increment).map(increment).map(increment).map(increment))
    });
    measure(group, runtime, "partition_32", || drained(numbers().chunks(BATCH.get())));
    measure(group, runtime, "buffer", || async {
        let (sender, receiver) = mpsc::channel(CAPACITY.get());
        let carried = tokio::spawn(numbers().map(Ok).forward(sender));
        drained(receiver).await;
        carried.await.expect("the task ends").expect("the receiver lives");
    });
    measure(group, runtime, "map_async_8", || {
        drained(numbers().map(|value| ready(increment(value))).buffered(PARALLELISM.get()))
    });
    measure(group, runtime, "map_async_unordered_8", || {
        drained(numbers().map(|value| ready(increment(value))).buffer_unordered(PARALLELISM.get()))
    });
}

/// Measures the time of a run, in which all `EVENTS` pass.
fn measure<R: Future<Output = ()>>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    runtime: &Runtime,
    name: &str,
    run: impl Fn() -> R,
) {
    group.throughput(Throughput::Elements(EVENTS));
    group.bench_function(name, |bench| bench.iter(|| runtime.block_on(run())));
}

/// Runs a flow from a source that creates receipts to a sink that settles them.
async fn through<T: Send + 'static>(operators: impl FnOnce(Flow<u64>) -> Flow<T>) {
    let settled = Arc::new(AtomicU64::new(0));
    let name: Arc<str> = "numbers".into();
    let counter = Arc::clone(&settled);
    let events = stream::iter(0..EVENTS).map(move |position| {
        let settled = Arc::clone(&counter);
        let origin = Origin { source: Arc::clone(&name), partition: Some(0), position };
        Ok::<_, Infallible>(Event {
            value: position,
            meta: Arc::new(Meta { key: None, headers: Vec::new(), timestamp: None, origin }),
            receipt: Receipt::new(move |outcome| {
                settled.fetch_add(u64::from(outcome == Outcome::Done), Ordering::Relaxed);
            }),
        })
    });
    delivered(operators(Flow::from_try_events("numbers", events))).await;
    assert_eq!(settled.load(Ordering::Relaxed), EVENTS, "every receipt is done");
}

async fn delivered<T: Send + 'static>(flow: Flow<T>) {
    flow.sink_fn(|value| _ = black_box(value)).run().await.expect("nothing fails");
}

fn numbers() -> impl Stream<Item = u64> + Send + 'static {
    stream::iter(0..EVENTS)
}

async fn drained<T>(values: impl Stream<Item = T>) {
    values
        .for_each(|value| {
            black_box(value);
            ready(())
        })
        .await;
}

fn increment(value: u64) -> u64 {
    black_box(value) + 1
}

fn passes(value: u64) -> bool {
    black_box(value) != u64::MAX
}
