//! `at_most`: the bounds of buffers and batches.

use std::num::NonZeroUsize;

/// Returns `bound` as the type that operators take: the size of a batch, the capacity of a buffer,
/// or a number of calls at the same time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), forebay_stream::PipelineError> {
/// use forebay_stream::{Flow, at_most};
///
/// let pairs = Flow::from_iter([1, 2, 3]).partition(at_most(2), None).into_lists();
/// assert_eq!(pairs.collect().await?, [vec![1, 2], vec![3]]);
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// If `bound` is 0. In a constant, that is an error of the compiler:
///
/// ```compile_fail
/// const NONE: std::num::NonZeroUsize = forebay_stream::at_most(0);
/// # println!("{NONE}");
/// ```
#[must_use]
pub const fn at_most(bound: usize) -> NonZeroUsize {
    NonZeroUsize::new(bound).expect("a bound must be at least 1, because nothing passes with 0")
}
