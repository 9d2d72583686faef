//! What a model has to beat: the majority class, and a logistic regression on the words that occur.

use std::collections::{BTreeSet, HashMap};

use crate::random::Random;
use crate::reviews::{Review, words};

/// Accuracy of always answering the commoner class of the training part.
pub(crate) fn majority(train: &[Review], test: &[Review]) -> f64 {
    let positive = train.iter().filter(|review| review.positive).count() * 2 > train.len();
    share(test.iter().map(|review| review.positive == positive))
}

/// Accuracy of a logistic regression on word presence, its regularisation and length of training chosen on the
/// validation part.
pub(crate) fn bag_of_words(
    train: &[Review],
    validation: &[Review],
    test: &[Review],
    seed: u64,
) -> f64 {
    let mut index = HashMap::new();
    for word in train.iter().flat_map(|review| words(&review.text)) {
        let next = index.len();
        index.entry(word).or_insert(next);
    }
    let bags = |part: &[Review]| -> Vec<Bag> {
        part.iter().map(|review| Bag::new(review, &index)).collect()
    };
    let (train, validation, test) = (bags(train), bags(validation), bags(test));
    let mut best = (0.0, 0.0);
    for decay in [0.0, 1e-5, 1e-4, 3e-4, 1e-3] {
        let mut regression = Regression::new(index.len(), decay);
        let mut random = Random::new(seed);
        let mut order: Vec<_> = train.iter().collect();
        for _ in 0..30 {
            random.shuffle(&mut order);
            for bag in &order {
                regression.learn(bag);
            }
            let accuracy = regression.accuracy(&validation);
            if accuracy > best.0 {
                best = (accuracy, regression.accuracy(&test));
            }
        }
    }
    best.1
}

/// The known words of one review.
struct Bag {
    words: BTreeSet<usize>,
    positive: bool,
}

impl Bag {
    fn new(review: &Review, index: &HashMap<String, usize>) -> Self {
        let words = words(&review.text).filter_map(|word| index.get(&word).copied()).collect();
        Self { words, positive: review.positive }
    }
}

/// Logistic regression trained by `AdaGrad` (Duchi et al., 2011).
struct Regression {
    weights: Vec<f64>,
    squares: Vec<f64>,
    bias: f64,
    decay: f64,
}

impl Regression {
    fn new(words: usize, decay: f64) -> Self {
        Self { weights: vec![0.0; words], squares: vec![1e-8; words], bias: 0.0, decay }
    }

    fn logit(&self, bag: &Bag) -> f64 {
        self.bias + bag.words.iter().map(|&word| self.weights[word]).sum::<f64>()
    }

    fn learn(&mut self, bag: &Bag) {
        let target = if bag.positive { 1.0 } else { 0.0 };
        let error = 1.0 / (1.0 + (-self.logit(bag)).exp()) - target;
        self.bias -= 0.01 * error;
        for &word in &bag.words {
            let gradient = error + self.decay * self.weights[word];
            self.squares[word] += gradient * gradient;
            self.weights[word] -= 0.1 * gradient / self.squares[word].sqrt();
        }
    }

    fn accuracy(&self, bags: &[Bag]) -> f64 {
        share(bags.iter().map(|bag| (self.logit(bag) > 0.0) == bag.positive))
    }
}

#[expect(clippy::cast_precision_loss, reason = "thousands of reviews")]
pub(crate) fn share(hits: impl ExactSizeIterator<Item = bool>) -> f64 {
    let all = hits.len();
    hits.filter(|&hit| hit).count() as f64 / all as f64
}
