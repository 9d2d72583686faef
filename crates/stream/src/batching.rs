//! The cost of batches: the shapes that a device computes, the time that they take, and the
//! cheapest division of waiting events into batches.

mod cost_model;
mod shapes;
mod split;

pub use cost_model::CostModel;
pub use shapes::Shapes;
pub use split::split;

/// The size of a batch and the lengths of its members, summed up. The model decides what a length
/// counts (tokens, points, frames).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchLoad {
    /// The number of members.
    pub size: usize,
    /// The length of the longest member.
    pub longest: u64,
    /// The sum of the members' lengths.
    pub total: u64,
    /// The sum of the squares of the members' lengths.
    pub squares: u64,
}

impl BatchLoad {
    /// Returns the load of the batch with one more member of this length.
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
