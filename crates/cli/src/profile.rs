//! The profile that this binary was compiled in, for commands that measure.

/// The profile's name. The development profile alone checks for overflow and asserts.
pub(crate) const NAME: &str = if cfg!(debug_assertions) { "development" } else { "release" };

/// Printed with every measurement, because only the release profile's count.
pub(crate) fn describe() -> &'static str {
    if cfg!(debug_assertions) {
        "development profile; to measure, use `cargo run --release`"
    } else {
        "release profile"
    }
}
