//! Tests of the models against reference values, through the public API.

// The condition is always true for this crate. With it, clippy treats helper functions as test
// code, which may unwrap.
#![cfg(test)]

mod answers;
mod batching;
mod classifiers;
mod common;
mod config_fuzz;
mod formats;
#[cfg(feature = "hub")]
mod hub;
mod labels;
mod loading;
mod meaning;
mod minilm;
mod sentence;
mod sentiment;
mod tokens;
mod unused;
