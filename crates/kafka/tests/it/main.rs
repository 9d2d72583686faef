//! Tests of the crate with a broker: the one in `KAFKA_BROKERS` if it is set, otherwise the
//! embedded one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod backpressure;
mod closing;
mod committed;
mod errors;
mod fuzz;
mod offsets;
mod partitions;
mod rebalance;
mod replies;
mod reply_to;
mod secure;
mod sizes;
mod stuck;
mod support;
mod transactions;
mod txn_errors;
