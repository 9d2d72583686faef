//! A plan's source and sink, opened.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use forebay_kafka::{Sink as KafkaSink, Source as KafkaSource, SourceHandle};
use forebay_stream::{Failure, Flow, Pipeline};
use tokio::fs::{File, OpenOptions};
use tokio::io::BufReader;
use tokio_util::sync::CancellationToken;

use super::{RunError, SHUTDOWN};
use crate::answer::Answer;
use crate::assemble::{sink_name, source_name};
use crate::lines::{Confirm, LinesSink, lines};
use crate::plan::{Plan, SinkPlan, SourcePlan};

/// Ends a flow in a sink that is open already.
pub(super) type AttachSink = Box<dyn FnOnce(Flow<Answer>) -> Pipeline + Send>;

/// What remains to be done about a source when its pipeline has ended.
pub(super) enum OpenSource {
    Kafka(SourceHandle),
    /// Lines cannot be read again; a failure that nothing answered is all that there is to tell.
    Lines(Arc<OnceLock<Failure>>),
}

/// Opens the sink, and fails where it cannot take answers.
pub(super) async fn open_sink(plan: &Plan) -> Result<AttachSink, RunError> {
    let name = sink_name(plan);
    let from_kafka = matches!(plan.source, SourcePlan::Kafka(_));
    let confirm = if from_kafka { Confirm::Flushed } else { Confirm::Buffered };
    Ok(match &plan.sink {
        SinkPlan::Kafka(config) => {
            let sink = KafkaSink::connect(config.clone()).await.map_err(RunError::Connect)?;
            Box::new(|answers| answers.named("reply").map(Into::into).sink(name, sink))
        }
        SinkPlan::Stdout => {
            let sink = LinesSink::new(tokio::io::stdout(), confirm);
            Box::new(|answers| answers.sink(name, sink))
        }
        SinkPlan::File(path) => {
            // Answers whose offsets are committed are not made again, so they must outlive a restart.
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(from_kafka).truncate(!from_kafka);
            let file = options.open(path).await;
            let file = file.map_err(|source| RunError::Open { path: path.clone(), source })?;
            let sink = LinesSink::new(file, confirm);
            Box::new(|answers| answers.sink(name, sink))
        }
    })
}

/// Opens the source and begins to read, until `stop` is cancelled.
pub(super) async fn open_source(
    plan: &Plan,
    stop: &CancellationToken,
) -> Result<(Flow<Option<Bytes>>, OpenSource), RunError> {
    let name = source_name(plan);
    let unanswered = Arc::<OnceLock<Failure>>::default();
    let records = match &plan.source {
        SourcePlan::Kafka(config) => {
            let source = KafkaSource::connect(config.clone()).await.map_err(RunError::Connect)?;
            let (records, handle) = source.start(stop).map_err(RunError::Connect)?;
            return Ok((Flow::from_try_events(name, records), OpenSource::Kafka(handle)));
        }
        SourcePlan::Stdin => {
            let stdin = BufReader::new(tokio::io::stdin());
            Flow::from_try_events(
                name,
                lines("stdin", stdin, stop.clone(), Arc::clone(&unanswered)),
            )
        }
        SourcePlan::File(path) => {
            let file = File::open(path).await;
            let file = file.map_err(|source| RunError::Open { path: path.clone(), source })?;
            let label = path.display().to_string();
            let lines = lines(&label, BufReader::new(file), stop.clone(), Arc::clone(&unanswered));
            Flow::from_try_events(name, lines)
        }
    };
    Ok((records, OpenSource::Lines(unanswered)))
}

impl OpenSource {
    /// Commits what is resolved. After a failure nothing is waited for: what is unresolved will be read again.
    pub(super) async fn close(self, orderly: bool) -> Result<(), RunError> {
        let source = match self {
            Self::Kafka(source) => source,
            Self::Lines(unanswered) => {
                return match unanswered.get() {
                    Some(failure) => Err(RunError::Unanswered { failure: failure.clone() }),
                    None => Ok(()),
                };
            }
        };
        let patience = if orderly { SHUTDOWN } else { Duration::ZERO };
        let report = source.close(patience).await.map_err(RunError::Close)?;
        match report.unresolved + report.held {
            0 => Ok(()),
            _ if !orderly => Ok(()),
            count => Err(RunError::Unresolved { count }),
        }
    }
}
