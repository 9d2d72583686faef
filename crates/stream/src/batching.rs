//! What batches cost: which shapes a device is given, how long it takes for them, and which division of what waits is
//! the cheapest.

mod cost_model;
mod shapes;
mod split;

pub use cost_model::CostModel;
pub use shapes::Shapes;
pub use split::split;

/// The lengths of a batch's members, summed up. What a length counts (tokens, points, frames) is the model's affair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLoad {
    /// How many members.
    pub size: usize,
    /// The length of the longest.
    pub longest: u64,
    /// The sum of their lengths.
    pub total: u64,
    /// The sum of the squares of their lengths.
    pub squares: u64,
}

impl BatchLoad {
    /// With one more member.
    #[must_use]
    pub fn with(self, length: u64) -> Self {
        Self {
            size: self.size + 1,
            longest: self.longest.max(length),
            total: self.total.saturating_add(length),
            squares: self.squares.saturating_add(length.saturating_mul(length)),
        }
    }
}

impl FromIterator<u64> for BatchLoad {
    fn from_iter<I: IntoIterator<Item = u64>>(lengths: I) -> Self {
        lengths.into_iter().fold(Self::default(), Self::with)
    }
}
