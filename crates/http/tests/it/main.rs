//! The crate on a socket, asked by a client that knows no more of HTTP than it has to.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod refusals;
mod requests;
mod responses;
mod stopping;
mod support;
