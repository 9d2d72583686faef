//! End-to-end tests: the binary, a broker, and clients that know nothing of Forebay.
//!
//! The broker is the one that `KAFKA_BROKERS` names, or an embedded one. What a machine lacks is said and skipped,
//! except in CI (`CI` set), where it fails.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails where it stands")]

mod binary;
mod broker;
mod cli;
mod clients;
mod crash;
mod demo;
mod headers;
mod hub;
mod kcat;
mod lines;
mod operators;
mod replay;
mod round_trip;
mod secure;
mod software_gpu;
mod stuck;
