//! Distributing texts over threads.

/// Number of tokens that a thread computes at a time: enough that its matrix products run at full
/// speed, and few enough that the intermediate results stay in the core's cache.
const TOKENS: usize = 512;

/// Divides texts of these `lengths`, in tokens, into shares with about equally many tokens. A share
/// is a list of indices into `lengths`.
///
/// The number of shares is a multiple of `threads`, so that all threads finish at about the same
/// time. There are fewer shares if there are fewer texts.
pub(crate) fn shares(lengths: &[usize], threads: usize) -> Vec<Vec<usize>> {
    let rounds = lengths.iter().sum::<usize>().div_ceil(TOKENS * threads).max(1);
    let count = (rounds * threads).min(lengths.len());
    let mut shares = vec![(0, Vec::new()); count];
    let mut longest_first: Vec<_> = (0..lengths.len()).collect();
    longest_first.sort_by_key(|&text| std::cmp::Reverse(lengths[text]));
    for text in longest_first {
        // Among equally small shares, the first one is taken, so that equal inputs give equal
        // shares.
        if let Some((tokens, share)) = shares.iter_mut().min_by_key(|(tokens, _)| *tokens) {
            *tokens += lengths[text];
            share.push(text);
        }
    }
    shares.into_iter().map(|(_, share)| share).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{TOKENS, shares};

    proptest! {
        #[test]
        fn texts_are_divided_into_shares_of_about_equally_many_tokens(
            lengths in prop::collection::vec(1_usize..512, 0..200), threads in 1_usize..9,
        ) {
            let shares = shares(&lengths, threads);
            let mut texts: Vec<_> = shares.iter().flatten().copied().collect();
            texts.sort_unstable();
            prop_assert_eq!(texts, (0..lengths.len()).collect::<Vec<_>>());
            let tokens = |share: &Vec<usize>| share.iter().map(|&text| lengths[text]).sum::<usize>();
            let least = shares.iter().map(tokens).min();
            let most = shares.iter().map(tokens).max();
            let longest = lengths.iter().max().copied().unwrap_or(0);
            prop_assert!(most.unwrap_or(0) - least.unwrap_or(0) <= longest);
            prop_assert!(most.unwrap_or(0) <= TOKENS + longest);
            prop_assert!(shares.iter().all(|share| !share.is_empty()));
        }
    }
}
