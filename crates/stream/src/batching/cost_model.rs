//! `CostModel`: predicts how long a device takes for a batch, from how long earlier batches took.

use parking_lot::Mutex;
use std::time::Duration;

use super::{BatchLoad, Shapes};

/// Predicts how long a device takes for a batch as `A + B * elements + C * pairs`. The coefficients
/// are fitted to the times of earlier batches.
///
/// `A` is the time for a call, `B` the time for an element (such as a token), and `C` the time for
/// a pair of elements of the same member, as attention computes them. Elements and pairs include
/// padding. No coefficient is ever negative. The code that runs batches passes their times to
/// [`observe`](Self::observe).
///
/// ```
/// use std::time::Duration;
///
/// use forebay_stream::batching::{CostModel, BatchLoad, Shapes};
///
/// let costs = CostModel::new(Shapes::padded());
/// for (size, length) in [(1, 10), (8, 10), (1, 100), (8, 100)] {
///     let load = BatchLoad::from_iter(std::iter::repeat_n(length, size));
///     costs.observe(load, Duration::from_micros(3000 + 2 * size as u64 * length));
/// }
/// let took = costs.predict([50; 32].into_iter().collect());
/// assert!((6100..6300).contains(&took.as_micros()), "{took:?}");
/// ```
#[derive(Debug)]
pub struct CostModel {
    shapes: Shapes,
    fit: Mutex<Fit>,
}

/// Seconds for a call, for a thousand elements, and for a million pairs.
type Coefficients = [f64; 3];

/// The coefficients before any observation: a call costs as much as a thousand elements.
const UNKNOWN: Coefficients = [1e-3, 1e-3, 0.0];

#[derive(Debug)]
struct Fit {
    // The trial runs.
    seeds: Sums,
    // The batches after them. Each new batch lowers the weight of the earlier ones.
    recent: Sums,
    coefficients: Coefficients,
}

impl CostModel {
    /// Creates a model without observations for a device that is given these shapes.
    #[must_use]
    pub fn new(shapes: Shapes) -> Self {
        let fit = Fit { seeds: Sums::default(), recent: Sums::default(), coefficients: UNKNOWN };
        Self { shapes, fit: Mutex::new(fit) }
    }

    /// Returns the shapes that the device is given.
    #[must_use]
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// Learns from a trial run. Trial runs are never forgotten, because later batches may all have
    /// the same shape and say nothing about other shapes.
    pub fn seed(&self, load: BatchLoad, took: Duration) {
        self.learn(load, took, |fit, row, seconds| fit.seeds.add(row, seconds));
    }

    /// Learns from a batch. Only the last few hundred batches count.
    pub fn observe(&self, load: BatchLoad, took: Duration) {
        // The weight that earlier batches keep when a batch is added.
        const MEMORY: f64 = 0.99;
        self.learn(load, took, |fit, row, seconds| {
            fit.recent.scale(MEMORY);
            fit.recent.add(row, seconds);
        });
    }

    fn learn(&self, load: BatchLoad, took: Duration, add: impl FnOnce(&mut Fit, [f64; 3], f64)) {
        const SHORTEST: f64 = 1e-6;
        // The weight of a trial run once other batches have been observed.
        const SHARE_OF_SEEDS: f64 = 0.1;
        let row = self.row(load);
        let mut fit = self.fit.lock();
        add(&mut fit, row, took.as_secs_f64().max(SHORTEST));
        let mut sums = fit.seeds;
        if fit.recent.weight > 0.0 {
            sums.scale(SHARE_OF_SEEDS);
        }
        sums.merge(&fit.recent);
        fit.coefficients = sums.solve();
    }

    /// Predicts how long a batch will take.
    #[must_use]
    pub fn predict(&self, load: BatchLoad) -> Duration {
        let seconds = self.prices().seconds(load);
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// Returns a copy of the current fit, so that many predictions take the lock only once.
    pub(super) fn prices(&self) -> Prices<'_> {
        let fit = self.fit.lock();
        Prices { shapes: &self.shapes, coefficients: fit.coefficients }
    }

    fn row(&self, load: BatchLoad) -> [f64; 3] {
        row(&self.shapes, load)
    }
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn row(shapes: &Shapes, load: BatchLoad) -> [f64; 3] {
    [1.0, shapes.elements(load) as f64 / 1e3, shapes.pairs(load) as f64 / 1e6]
}

/// A copy of a fit, which does not change.
pub(super) struct Prices<'a> {
    pub(super) shapes: &'a Shapes,
    coefficients: Coefficients,
}

impl Prices<'_> {
    pub(super) fn seconds(&self, load: BatchLoad) -> f64 {
        dot(row(self.shapes, load), self.coefficients)
    }
}

fn dot(left: [f64; 3], right: [f64; 3]) -> f64 {
    left.into_iter().zip(right).map(|(left, right)| left * right).sum()
}

/// The normal equations of a least-squares fit. An error is divided by the time that the batch
/// took. If a batch took much longer than predicted, for example because of another process, its
/// error is therefore less than 1 and changes the fit only a little.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    matrix: [[f64; 3]; 3],
    vector: [f64; 3],
    weight: f64,
}

impl Sums {
    fn add(&mut self, row: [f64; 3], seconds: f64) {
        let relative = row.map(|value| value / seconds);
        for (sums, left) in self.matrix.iter_mut().zip(relative) {
            for (sum, right) in sums.iter_mut().zip(relative) {
                *sum += left * right;
            }
        }
        for (sum, value) in self.vector.iter_mut().zip(relative) {
            *sum += value;
        }
        self.weight += 1.0;
    }

    fn scale(&mut self, by: f64) {
        self.merge_scaled(&Self::default(), by);
    }

    fn merge(&mut self, other: &Self) {
        self.merge_scaled(other, 1.0);
    }

    fn merge_scaled(&mut self, other: &Self, by: f64) {
        for (mine, theirs) in
            self.matrix.as_flattened_mut().iter_mut().zip(other.matrix.as_flattened())
        {
            *mine = *mine * by + theirs;
        }
        for (mine, theirs) in self.vector.iter_mut().zip(other.vector) {
            *mine = *mine * by + theirs;
        }
        self.weight = self.weight * by + other.weight;
    }

    /// Returns the coefficients with the least error of which none is negative: the best of the
    /// fits with each choice of coefficients, in which the others are 0.
    fn solve(&self) -> Coefficients {
        let candidates = (1_u8..8).filter_map(|used| {
            let found = self.solve_with([0, 1, 2].map(|index| used & (1 << index) != 0))?;
            Some((self.error(found), found))
        });
        let best = candidates.min_by(|left, right| left.0.total_cmp(&right.0));
        best.map_or(UNKNOWN, |(_, coefficients)| coefficients)
    }

    /// Fits the coefficients for which `used` is true by Gaussian elimination, and sets the others
    /// to 0; `None` if one would be negative.
    fn solve_with(&self, used: [bool; 3]) -> Option<Coefficients> {
        // Keeps the equations solvable if the data does not distinguish two coefficients.
        const RIDGE: f64 = 1e-9;
        let mut rows = [[0.0; 4]; 3];
        for (index, row) in rows.iter_mut().enumerate() {
            if !used[index] {
                row[index] = 1.0;
                continue;
            }
            for other in (0..3).filter(|other| used[*other]) {
                row[other] = self.matrix[index][other];
            }
            row[index] *= 1.0 + RIDGE;
            row[3] = self.vector[index];
        }
        for pivot in 0..3 {
            if rows[pivot][pivot] <= 0.0 {
                return None;
            }
            for other in (0..3).filter(|other| *other != pivot) {
                let factor = rows[other][pivot] / rows[pivot][pivot];
                let from = rows[pivot];
                for (value, from) in rows[other].iter_mut().zip(from) {
                    *value -= factor * from;
                }
            }
        }
        let found = [0, 1, 2].map(|index| rows[index][3] / rows[index][index]);
        found.iter().all(|value| value.is_finite() && *value >= 0.0).then_some(found)
    }

    /// Returns the sum of the squares of the relative errors.
    fn error(&self, coefficients: Coefficients) -> f64 {
        let product = self.matrix.map(|row| dot(row, coefficients));
        dot(product, coefficients) - 2.0 * dot(self.vector, coefficients) + self.weight
    }
}

#[cfg(test)]
#[expect(clippy::cast_precision_loss, reason = "lengths are small")]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::{BatchLoad, CostModel, Shapes};

    fn load(size: usize, length: u64) -> BatchLoad {
        std::iter::repeat_n(length, size).collect()
    }

    fn near(costs: &CostModel, load: BatchLoad, expected: f64, tolerance: f64) -> bool {
        let predicted = costs.predict(load).as_secs_f64();
        (predicted / expected - 1.0).abs() <= tolerance
    }

    proptest! {
        #[test]
        fn predictions_agree_with_a_noisy_device(
            a in 1e-4..3e-2_f64, b in 0.0..1e-5_f64, c in 0.0..1e-7_f64,
            noise in prop::collection::vec(0.95..1.05_f64, 200),
        ) {
            let costs = CostModel::new(Shapes::padded());
            let seconds = |size: usize, length: u64| {
                let elements = size as f64 * length as f64;
                a + b * elements + c * elements * length as f64
            };
            for (n, noise) in noise.iter().enumerate() {
                let size = 1 + n * 7 % 64;
                let length = 8 + (n as u64 * 31) % 248;
                costs.observe(load(size, length), Duration::from_secs_f64(seconds(size, length) * noise));
            }
            for (size, length) in [(1, 8), (16, 100), (64, 250)] {
                prop_assert!(near(&costs, load(size, length), seconds(size, length), 0.1));
            }
        }

        #[test]
        fn no_observation_makes_a_prediction_negative_or_infinite(
            seen in prop::collection::vec((1_usize..99, 1_u64..999, 0_u64..u64::MAX), 0..20),
        ) {
            let costs = CostModel::new(Shapes::ragged());
            for (size, length, nanos) in seen {
                costs.observe(load(size, length), Duration::from_nanos(nanos));
                let least = costs.prices().seconds(load(1, 1));
                let most = costs.prices().seconds(load(99, 999));
                prop_assert!(least >= 0.0 && most.is_finite() && most >= least, "{least} {most}");
            }
        }
    }

    #[test]
    fn predictions_follow_a_device_that_has_become_slower() {
        let costs = CostModel::new(Shapes::padded());
        for factor in [1, 3] {
            for n in 0..1000 {
                let size = 1 + n % 32;
                let length = 10 + n as u64 % 90;
                let micros = factor * (3000 + 2 * size as u64 * length);
                costs.observe(load(size, length), Duration::from_micros(micros));
            }
        }
        assert!(near(&costs, load(16, 50), 3.0 * 4.6e-3, 0.01));
    }

    #[test]
    fn batches_that_are_all_alike_do_not_erase_the_trial_runs() {
        let costs = CostModel::new(Shapes::padded());
        for (size, length) in [(1, 8), (16, 8), (1, 128), (16, 128)] {
            costs.seed(load(size, length), Duration::from_micros(3000 + 2 * size as u64 * length));
        }
        for _ in 0..10_000 {
            costs.observe(load(4, 10), Duration::from_micros(3080));
        }
        assert!(near(&costs, load(64, 128), 19.4e-3, 0.05));
    }
}
