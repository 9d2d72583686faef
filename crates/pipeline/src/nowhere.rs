//! `Nowhere`: a sink that takes answers and does nothing with them.

use std::convert::Infallible;

use forebay_stream::{Event, Sink};

/// `[sink.drop]`, and the end of pipelines that are only drawn.
pub(crate) struct Nowhere;

impl<T: Send> Sink<T> for Nowhere {
    type Error = Infallible;

    async fn send(&mut self, event: Event<T>) -> Result<(), Infallible> {
        event.receipt.done();
        Ok(())
    }
}
