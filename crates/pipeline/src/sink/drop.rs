//! `Nowhere`: a sink that discards its events.

use std::convert::Infallible;

use forebay_stream::{Event, Sink};

/// The sink of `[sink.drop]`, and of pipelines that are only drawn.
pub(crate) struct Nowhere;

impl<T: Send> Sink<T> for Nowhere {
    type Error = Infallible;

    async fn send(&mut self, event: Event<T>) -> Result<(), Infallible> {
        event.receipt.done();
        Ok(())
    }
}
