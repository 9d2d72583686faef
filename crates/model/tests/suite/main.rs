//! Tests of the models against reference values, through the public API.

// Always enabled here. It makes clippy treat helpers as test code, which may unwrap.
#![cfg(test)]

mod answers;
mod batching;
mod classifiers;
mod common;
mod hub;
mod loading;
mod minilm;
mod sentiment;
