//! The topic for dead letters: `policy = { dead_letter = { .. } }` in `[on_failure]`.

use forebay_kafka::{DeadLetter, Reply, SinkConfig};
use forebay_stream::{Event, Failed, Flow, Pipeline, Sink};

use super::{OpenSources, SinkEnd as _};
use crate::error::RunError;
use crate::record::Record;

/// Attaches the open topic to the flow of failed requests.
pub(crate) type AttachDeadLetters = Box<dyn FnOnce(Flow<Failed<Record>>) -> Pipeline + Send>;

pub(crate) async fn open(
    config: &SinkConfig,
    sources: &mut OpenSources,
) -> Result<AttachDeadLetters, RunError> {
    let title = config.title();
    let config = config.clone();
    Ok(if let Some(source) = sources.exactly_once() {
        let sink = source.sink(config).await.map_err(RunError::Connect)?;
        Box::new(move |letters| letters.sink(title, DeadLetters(sink)))
    } else {
        let sink = forebay_kafka::Sink::connect(config).await.map_err(RunError::Connect)?;
        Box::new(move |letters| letters.sink(title, DeadLetters(sink)))
    })
}

/// A sink that writes failed requests as dead letters.
struct DeadLetters<S>(S);

impl<S: Sink<Reply>> Sink<Failed<Record>> for DeadLetters<S> {
    type Error = S::Error;

    async fn send(&mut self, event: Event<Failed<Record>>) -> Result<(), S::Error> {
        let Failed { failure, input } = &event.value;
        let letter = DeadLetter::of(&event.meta, input.bytes(), failure);
        self.0.send(event.map(|_| letter)).await
    }

    async fn flush(&mut self) -> Result<(), S::Error> {
        self.0.flush().await
    }

    async fn close(&mut self) -> Result<(), S::Error> {
        self.0.close().await
    }
}
