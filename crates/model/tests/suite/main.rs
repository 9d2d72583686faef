//! What a user sees of the models, checked against reference values.

mod batching;
mod classifiers;
mod common;
mod loading;
mod minilm;
mod sentiment;
