//! Tests that operators which emit one event for each event do not allocate memory for it.

#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::convert::Infallible;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_stream::{Event, Flow, Missing, Outcome, Overflow, Receipt};
use futures::stream::{self, StreamExt as _};

/// The system's allocator, with a count of each thread's allocations.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

fn count() {
    // If the thread is ending, `ALLOCATIONS` may be destroyed already.
    ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1)).ok();
}

// SAFETY: every call is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of this method, which is the same as that of
        // `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: see `alloc`.
        unsafe { System.realloc(memory, layout, size) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: see `alloc`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Operators = fn(Flow<u64>) -> Flow<u64>;

/// Returns the number of allocations of a whole run with this many events, each with a receipt that
/// its source waits for.
fn allocations(events: u64, operators: Operators) -> u64 {
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let runtime = runtime.expect("a runtime without drivers starts");
    let before = ALLOCATIONS.get();
    let done = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&done);
    let source = stream::iter(0..events).map(move |value| {
        let done = Arc::clone(&counter);
        let receipt = Receipt::new(move |outcome| {
            done.fetch_add(u64::from(outcome == Outcome::Done), Ordering::Relaxed);
        });
        Ok::<_, Infallible>(Event { receipt, ..Event::detached(()) }.with(value))
    });
    let flow = operators(Flow::from_try_events("numbers", source));
    runtime.block_on(flow.sink_fn(|value| _ = black_box(value)).run()).expect("nothing fails");
    assert_eq!(done.load(Ordering::Relaxed), events);
    ALLOCATIONS.get() - before
}

/// Returns the number of allocations that a thousand more events cause. The allocations for
/// building and starting a flow cancel out.
fn per_thousand(operators: Operators) -> u64 {
    // The first run stores the names of the stages, which are kept for good. A task that the machine
    // interrupts for a millisecond yields, for which tokio may allocate once in a run, so the
    // smallest number of several runs counts.
    allocations(1, operators);
    let least = |events| (0..9).map(|_| allocations(events, operators)).min().expect("nine runs");
    least(2_000) - least(1_000)
}

#[test]
fn operators_that_emit_one_event_for_each_event_allocate_nothing_per_event() {
    const ONE: NonZeroUsize = NonZeroUsize::MIN;
    let cases: [(&str, Operators); 8] = [
        ("accumulate", |flow| flow.accumulate(0, |sum, value| Ok(sum + value))),
        ("filter", |flow| flow.filter(|_| true)),
        ("inspect", |flow| flow.inspect(|value| _ = black_box(*value))),
        ("map", |flow| flow.map(|value| value + 1)),
        ("pluck", |flow| flow.pluck(|value| Some(*value), Missing::Fail)),
        ("slice", |flow| flow.slice(0, None, ONE)),
        ("try_map", |flow| flow.try_map(|value| Ok(value + 1))),
        ("four in a row", |flow| {
            let flow = flow.map(|value| value + 1).filter(|_| true);
            flow.inspect(|value| _ = black_box(*value)).slice(0, None, ONE)
        }),
    ];
    let ends = per_thousand(|flow| flow);
    for (name, operators) in cases {
        assert_eq!(per_thousand(operators), ends, "{name}");
    }
}

#[test]
fn a_buffer_allocates_nothing_per_event() {
    // The queue reaches its full capacity within the first thousand events.
    let hop: Operators = |flow| flow.buffer(NonZeroUsize::new(64).unwrap(), Overflow::Wait);
    assert_eq!(per_thousand(hop), per_thousand(|flow| flow));
}

#[test]
fn the_test_detects_an_allocation_per_event() {
    let boxed: Operators = |flow| flow.map(|value| *black_box(Box::new(value)));
    assert_eq!(per_thousand(boxed), per_thousand(|flow| flow) + 1_000);
}
