//! Tests of the source on a socket, with a minimal HTTP client.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod idle;
mod refusals;
mod requests;
mod responses;
mod stopping;
mod support;
