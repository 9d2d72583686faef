//! `prepared` and `scatter`: batch functions that leave out the members that cannot be used.

use std::future::Future;

use futures::future::join_all;

use crate::{Batch, BatchResult, Failure, codes};

/// Prepares the members of a batch at the same time, and calls `f` once with those that could be
/// prepared. A member that could not be prepared gets its own failure. If none could be prepared,
/// `f` is not called.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// use forebay_stream::{Batch, Failure, prepared};
///
/// let parse = |text: &str| std::future::ready(text.parse::<i32>().map_err(|e| Failure::new("no_number", e)));
/// let double = |batch: Batch<i32>| async move { Ok(batch.iter().map(|number| Ok(number * 2)).collect()) };
/// let results = prepared(&["1".into(), "x".into()], |text: String| parse(&text), double).await.unwrap();
/// assert_eq!(results[0], Ok(2));
/// assert_eq!(results[1].as_ref().unwrap_err().code(), "no_number");
/// # }
/// ```
///
/// # Errors
///
/// The failure of `f`.
pub async fn prepared<T, U, V, P, R>(
    batch: &[T],
    prepare: impl Fn(T) -> P,
    f: impl FnOnce(Batch<U>) -> R,
) -> BatchResult<V>
where
    T: Clone,
    P: Future<Output = Result<U, Failure>>,
    R: Future<Output = BatchResult<V>>,
{
    let members = join_all(batch.iter().cloned().map(prepare)).await;
    let mut good = Vec::with_capacity(members.len());
    let places: Vec<_> = members.into_iter().map(|one| one.map(|one| good.push(one))).collect();
    let results = if good.is_empty() { Vec::new() } else { f(good.into()).await? };
    Ok(scatter(places, results))
}

/// Puts each of `results` in the place of a member that is `Ok`, in order. The other members keep
/// their failures.
#[must_use]
pub fn scatter<T, U>(
    members: Vec<Result<T, Failure>>,
    results: Vec<Result<U, Failure>>,
) -> Vec<Result<U, Failure>> {
    let mut results = results.into_iter();
    let missing =
        || Err(Failure::new(codes::WRONG_RESULT_COUNT, "the model returned too few results"));
    let place = |member: Result<T, _>| member.and_then(|_| results.next().unwrap_or_else(missing));
    members.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use proptest::prelude::*;

    use super::prepared;
    use crate::testing::block_on;
    use crate::{Batch, BatchResult, Failure};

    fn refuse(number: u8) -> Result<u8, Failure> {
        if number.is_multiple_of(3) { Err(Failure::new("three", number)) } else { Ok(number) }
    }

    proptest! {
        #[test]
        fn each_member_gets_its_own_result_or_its_own_failure(values: Vec<u8>) {
            let double = |batch: Batch<u8>| {
                assert!(!batch.is_empty(), "there is nothing to call it with");
                ready(Ok(batch.iter().map(|value| Ok(u16::from(*value) * 2)).collect()))
            };
            let results = block_on(prepared(&values, |value| ready(refuse(value)), double));
            let expected = values.iter().map(|&value| refuse(value).map(|value| u16::from(value) * 2));
            prop_assert_eq!(results.unwrap(), expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_member_without_a_result_fails() {
        let forgetful =
            |_: Batch<u8>| ready::<BatchResult<u8>>(Ok(vec![Err(Failure::new("one", 1))]));
        let results = block_on(prepared(&[1, 2, 3], |value| ready(refuse(value)), forgetful));
        let codes: Vec<_> = results
            .unwrap()
            .into_iter()
            .map(|result| result.unwrap_err().code().to_owned())
            .collect();
        assert_eq!(codes, ["one", "wrong_result_count", "three"]);
    }
}
