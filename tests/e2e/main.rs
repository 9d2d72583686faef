//! End-to-end tests: the binary, a broker, and plain Kafka clients.
//!
//! The broker is the one that `KAFKA_BROKERS` names, or an embedded one. A test that needs
//! something the machine lacks prints that it is skipped; in CI (`CI` is set), it fails.

#![expect(clippy::unwrap_used, reason = "a test fails at the line that cannot go on")]

mod binary;
mod broker;
mod cli;
mod clients;
mod committed;
mod crash;
mod demo;
mod deployed;
mod enrich;
mod errors;
mod headers;
mod hub;
mod kcat;
mod lines;
mod metrics;
mod models;
mod operators;
mod replay;
mod request_reply;
mod round_trip;
mod secure;
mod software_gpu;
mod stop;
mod stuck;
mod tidy;
mod top;
