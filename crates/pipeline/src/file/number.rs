//! `AtMost`, `Interval` and `duration`: the numbers and durations of a pipeline file, with their
//! largest values. A value is checked while the file is read, before memory or threads are reserved
//! for it.

use std::fmt;
use std::num::NonZeroUsize;
use std::time::Duration;

use serde::de::{self, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};

/// A whole number from 1 to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AtMost<const MAX: usize>(NonZeroUsize);

/// A number of values that are held or remembered. The limit is far above useful numbers.
pub(crate) type Count = AtMost<10_000_000>;

/// A number of calls that run at once, each on a thread. More threads would not run at once.
pub(crate) type Parallelism = AtMost<512>;

/// A number of bytes, up to 1 TiB.
pub(crate) type Bytes = AtMost<{ 1 << 40 }>;

impl<const MAX: usize> AtMost<MAX> {
    /// Creates a default value.
    pub(crate) const fn of(number: usize) -> Self {
        assert!(number <= MAX, "a default is not too large");
        Self(NonZeroUsize::new(number).expect("a default is not zero"))
    }

    pub(crate) const fn get(self) -> NonZeroUsize {
        self.0
    }
}

impl<'de, const MAX: usize> Deserialize<'de> for AtMost<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(Number::<MAX>).map(Self)
    }
}

struct Number<const MAX: usize>;

impl<const MAX: usize> Visitor<'_> for Number<MAX> {
    type Value = NonZeroUsize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number from 1 to {MAX}")
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<NonZeroUsize, E> {
        self.visit_i128(number.into())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<NonZeroUsize, E> {
        self.visit_i128(number.into())
    }

    fn visit_i128<E: de::Error>(self, number: i128) -> Result<NonZeroUsize, E> {
        let in_range = usize::try_from(number).ok().filter(|number| *number <= MAX);
        in_range.and_then(NonZeroUsize::new).ok_or_else(|| {
            E::invalid_value(Unexpected::Other(&format!("integer `{number}`")), &self)
        })
    }

    fn visit_u128<E: de::Error>(self, number: u128) -> Result<NonZeroUsize, E> {
        self.visit_i128(number.try_into().unwrap_or(i128::MAX))
    }
}

/// A duration that is not zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Interval(pub(crate) Duration);

impl<'de> Deserialize<'de> for Interval {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let duration = duration::deserialize(deserializer)?;
        if duration.is_zero() {
            return Err(de::Error::custom("it must not be zero"));
        }
        Ok(Self(duration))
    }
}

/// Reads durations, for `#[serde(with = "..")]`.
pub(crate) mod duration {
    use super::{Deserializer, Duration, de};

    /// The longest duration, about ten years.
    const LONGEST: Duration = Duration::from_hours(24 * 3650);

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Duration, D::Error> {
        let duration: Duration = humantime_serde::deserialize(deserializer)?;
        if duration > LONGEST {
            return Err(de::Error::custom("the duration is too long: at most \"3650d\""));
        }
        Ok(duration)
    }

    /// Reads durations of settings that may be missing.
    pub(crate) mod option {
        use super::{Deserializer, Duration};

        pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Duration>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
