//! Tests of the models against reference values, through the public API.

// The condition is always true for this crate. With it, clippy treats helper functions as test
// code, which may unwrap.
#![cfg(test)]

mod answers;
mod batching;
mod classifiers;
mod common;
#[cfg(feature = "hub")]
mod hub;
mod loading;
mod minilm;
mod sentiment;
