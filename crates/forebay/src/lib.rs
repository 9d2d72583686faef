#![cfg_attr(any(not(doctest), all(feature = "kafka", feature = "model")), doc = include_str!("../README.md"))]

/// Flows, events, receipts and operators.
pub use forebay_stream as stream;

/// HTTP as a source of events and a sink of replies.
#[cfg(feature = "http")]
pub use forebay_http as http;

/// Kafka sources and sinks.
#[cfg(feature = "kafka")]
pub use forebay_kafka as kafka;

/// Models and the devices they run on.
#[cfg(feature = "model")]
pub use forebay_model as model;

/// Pipelines from TOML files.
#[cfg(feature = "pipeline")]
pub use forebay_pipeline as pipeline;

/// The types that most programs need.
pub mod prelude {
    #[cfg(feature = "kafka")]
    pub use forebay_kafka::{Reply, SinkConfig, SourceConfig};
    #[cfg(feature = "model")]
    pub use forebay_model::{Model, ModelHandle, TextHandle, TextModel, TextModelOptions};
    pub use forebay_stream::{
        AdaptiveWindow, Batch, Event, Failed, Failure, Flow, MapBatch, Overflow, Pipeline,
        PipelineError, Release, Retry, at_most,
    };
}

// Compiles and runs the README's example as a documentation test.
#[cfg(all(doctest, feature = "kafka", feature = "model"))]
#[doc = include_str!("../../../README.md")]
struct Readme;
