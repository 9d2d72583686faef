//! The build profile of this binary, for commands that measure.

/// The name of the profile. Only the development profile has debug assertions.
pub(crate) const NAME: &str = if cfg!(debug_assertions) { "development" } else { "release" };

/// Describes the profile. Every measurement prints this, because only those of the release profile
/// are meaningful.
pub(crate) fn describe() -> &'static str {
    if cfg!(debug_assertions) {
        "development profile; to measure, use `cargo run --release`"
    } else {
        "release profile"
    }
}
