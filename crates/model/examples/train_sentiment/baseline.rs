//! Simple classifiers to compare the network with: always the more common class, and a logistic
//! regression on the TF-IDF weights of words and pairs of words.

use std::collections::HashMap;

use crate::random::Random;
use crate::reviews::{Review, words};

const EPOCHS: usize = 30;

/// Returns the accuracy of always predicting the more common class of the training part.
pub(crate) fn majority(train: &[Review], test: &[Review]) -> f64 {
    let positive = train.iter().filter(|review| review.positive).count() * 2 > train.len();
    share(test.iter().map(|review| review.positive == positive))
}

/// Returns the accuracy of a logistic regression on the validation part and on the test part. Tries
/// several features, regularisations, learning rates and numbers of epochs, and takes those with
/// the highest accuracy on the validation part.
pub(crate) fn tf_idf(
    train: &[Review],
    validation: &[Review],
    test: &[Review],
    seed: u64,
) -> [f64; 2] {
    let mut best = [0.0; 2];
    for longest in [1, 2] {
        let features = Features::new(train, longest);
        let [train, validation, test] = [train, validation, test]
            .map(|part| part.iter().map(|review| features.document(review)).collect::<Vec<_>>());
        for decay in [0.0, 1e-6, 1e-5, 1e-4] {
            for rate in [0.1, 0.3, 1.0] {
                let mut regression = Regression::new(features.known.len(), decay, rate);
                let mut random = Random::new(seed);
                let mut order: Vec<_> = train.iter().collect();
                for _ in 0..EPOCHS {
                    random.shuffle(&mut order);
                    for document in &order {
                        regression.learn(document);
                    }
                    let accuracy = regression.accuracy(&validation);
                    if accuracy > best[0] {
                        best = [accuracy, regression.accuracy(&test)];
                    }
                }
            }
        }
    }
    best
}

/// The features: all sequences of one to `longest` words that the training part contains, each with
/// an index and its inverse document frequency.
struct Features {
    known: HashMap<String, (usize, f64)>,
    longest: usize,
}

/// The TF-IDF weights of a review by feature, scaled to Euclidean length 1.
struct Document {
    weights: Vec<(usize, f64)>,
    positive: bool,
}

impl Features {
    fn new(train: &[Review], longest: usize) -> Self {
        let mut documents: HashMap<String, usize> = HashMap::new();
        for review in train {
            for run in counts(review, longest).into_keys() {
                *documents.entry(run).or_default() += 1;
            }
        }
        let mut runs: Vec<_> = documents.into_iter().collect();
        runs.sort_unstable();
        let all = number(train.len());
        let known = runs.into_iter().enumerate().map(|(index, (run, documents))| {
            (run, (index, ((1.0 + all) / (1.0 + number(documents))).ln() + 1.0))
        });
        Self { known: known.collect(), longest }
    }

    fn document(&self, review: &Review) -> Document {
        let counts = counts(review, self.longest);
        let weights = counts.iter().filter_map(|(run, &count)| {
            let &(index, idf) = self.known.get(run)?;
            Some((index, number(count) * idf))
        });
        let mut weights: Vec<_> = weights.collect();
        weights.sort_unstable_by_key(|&(index, _)| index);
        let length = weights.iter().map(|(_, weight)| weight * weight).sum::<f64>().sqrt();
        for (_, weight) in &mut weights {
            *weight /= length;
        }
        Document { weights, positive: review.positive }
    }
}

/// Counts each sequence of one to `longest` words in a review.
fn counts(review: &Review, longest: usize) -> HashMap<String, usize> {
    let words: Vec<_> = words(&review.text).collect();
    let mut counts = HashMap::new();
    for run in (1..=longest).flat_map(|length| words.windows(length)) {
        *counts.entry(run.join(" ")).or_default() += 1;
    }
    counts
}

/// A logistic regression, trained by `AdaGrad` (Duchi et al., 2011).
struct Regression {
    weights: Vec<f64>,
    squares: Vec<f64>,
    bias: f64,
    decay: f64,
    rate: f64,
}

impl Regression {
    fn new(features: usize, decay: f64, rate: f64) -> Self {
        Self { weights: vec![0.0; features], squares: vec![1e-8; features], bias: 0.0, decay, rate }
    }

    fn logit(&self, document: &Document) -> f64 {
        let weighted = document.weights.iter().map(|&(index, value)| self.weights[index] * value);
        self.bias + weighted.sum::<f64>()
    }

    fn learn(&mut self, document: &Document) {
        let target = if document.positive { 1.0 } else { 0.0 };
        let error = 1.0 / (1.0 + (-self.logit(document)).exp()) - target;
        self.bias -= 0.01 * error;
        for &(index, value) in &document.weights {
            let gradient = error * value + self.decay * self.weights[index];
            self.squares[index] += gradient * gradient;
            self.weights[index] -= self.rate * gradient / self.squares[index].sqrt();
        }
    }

    fn accuracy(&self, documents: &[Document]) -> f64 {
        share(documents.iter().map(|document| (self.logit(document) > 0.0) == document.positive))
    }
}

#[expect(clippy::cast_precision_loss, reason = "thousands of reviews")]
fn number(count: usize) -> f64 {
    count as f64
}

/// Returns the share of `true` among `hits`.
pub(crate) fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
    let all = hits.len();
    number(hits.filter(|&hit| hit).count()) / number(all)
}
