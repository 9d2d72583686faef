//! Reading, labelling and splitting the rated snippets of movie reviews.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};

use crate::random::Random;

/// Ratings are from -4 to 4. Snippets whose rating is closer to 0 than this are neutral, and are
/// not used.
const NEUTRAL: f64 = 0.5;
/// Two snippets are duplicates if at least this percentage of all their words is in both.
const NEAR_DUPLICATE: usize = 80;

/// One snippet.
#[derive(Clone, Debug)]
pub(crate) struct Review {
    pub(crate) text: String,
    /// Whether the snippet's mean rating is positive.
    pub(crate) positive: bool,
}

/// All snippets that are not neutral, without duplicates.
pub(crate) struct Reviews(Vec<Review>);

/// The snippets in three parts: 80% for training, 10% for choosing epochs and seeds (validation),
/// and 10% for measuring the accuracy that is reported (test).
pub(crate) struct Split {
    pub(crate) train: Vec<Review>,
    pub(crate) validation: Vec<Review>,
    pub(crate) test: Vec<Review>,
}

impl Reviews {
    /// Reads lines of id, mean rating and text, separated by tabs.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let file = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut kept: Vec<Review> = Vec::new();
        let mut seen: Vec<BTreeSet<String>> = Vec::new();
        for (number, line) in file.lines().enumerate() {
            let mut fields = line.splitn(3, '\t').skip(1);
            let parsed =
                fields.next().and_then(|field| field.parse::<f64>().ok()).zip(fields.next());
            let (rating, text) = parsed.with_context(|| {
                format!("{}: line {} has no rating", path.display(), number + 1)
            })?;
            let words = words(text).collect();
            if rating.abs() < NEUTRAL || seen.iter().any(|other| near_duplicates(&words, other)) {
                continue;
            }
            seen.push(words);
            kept.push(Review { text: text.to_owned(), positive: rating > 0.0 });
        }
        Ok(Self(kept))
    }

    pub(crate) fn split(mut self, seed: u64) -> Split {
        Random::new(seed).shuffle(&mut self.0);
        let tenth = self.0.len() / 10;
        let test = self.0.split_off(self.0.len() - tenth);
        let validation = self.0.split_off(self.0.len() - tenth);
        Split { train: self.0, validation, test }
    }
}

/// Splits a text into lower-case words of letters, digits and apostrophes.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric() && c != '\'')
        .map(|word| word.trim_matches('\''))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

fn near_duplicates(one: &BTreeSet<String>, other: &BTreeSet<String>) -> bool {
    let few = one.len().min(other.len());
    let many = one.len().max(other.len());
    // At most `few` words are in both snippets, and together they have at least `many`. If even
    // these numbers are below the limit, the words need not be compared.
    if few * 100 < many * NEAR_DUPLICATE {
        return false;
    }
    let shared = one.intersection(other).count();
    shared * 100 >= (few + many - shared) * NEAR_DUPLICATE
}
