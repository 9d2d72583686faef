//! The profile that this binary was compiled in, for commands that measure.

/// Named with every measurement, because only the release profile's count.
pub(crate) fn describe() -> &'static str {
    // The development profile alone checks for overflow and asserts.
    if cfg!(debug_assertions) {
        "development profile; to measure, use `cargo run --release`"
    } else {
        "release profile"
    }
}
