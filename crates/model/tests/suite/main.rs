//! What a user sees of the models, checked against reference values.

// Always on here; it tells clippy that helpers are tests too, and may unwrap.
#![cfg(test)]

mod answers;
mod batching;
mod classifiers;
mod common;
mod hub;
mod loading;
mod minilm;
mod sentiment;
