//! Opens a plan's sources and sinks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_http::{Handle as HttpHandle, HttpSource, Reply};
use forebay_kafka::{
    DeadLetter, Delivery, Reply as KafkaReply, Sink as KafkaSink, SinkConfig,
    Source as KafkaSource, SourceHandle,
};
use forebay_stream::{Event, Failed, Flow, Pipeline, Sink};
use tokio::fs::{File, OpenOptions};
use tokio::io::BufReader;
use tokio_util::sync::CancellationToken;

use super::RunError;
use crate::answer::Answer;
use crate::interval::IntervalSource;
use crate::lines::{Confirm, Followed, LinesSink, Unanswered, lines};
use crate::nowhere::Nowhere;
use crate::plan::{Plan, Policy, SinkEnd, SourcePlan};
use crate::record::{Record, Until};
use crate::registry::AttachSink;

/// A handle of an open source, by which the source is closed when its pipeline has ended.
pub(super) enum OpenSource {
    Kafka(SourceHandle),
    /// Lines have no position to commit, so closing only reports lines without an answer.
    Lines(Arc<Unanswered>),
    Http(HttpHandle),
    /// A source that needs no closing.
    Other,
}

/// Binds the listener of the plan's HTTP source, if it has one. Requests are not taken yet.
pub(super) async fn open_http(plan: &Plan) -> Result<Option<HttpSource>, RunError> {
    for source in &plan.sources {
        if let SourcePlan::Http(config) = source {
            return HttpSource::bind(config.clone()).await.map(Some).map_err(RunError::Listen);
        }
    }
    Ok(None)
}

/// Connects to Kafka for each Kafka source. The consumer groups are not joined yet.
pub(super) async fn connect(plan: &Plan) -> Result<Vec<Option<KafkaSource>>, RunError> {
    let mut connected = Vec::new();
    for source in &plan.sources {
        connected.push(match source {
            SourcePlan::Kafka(config) => {
                Some(KafkaSource::connect(config.clone()).await.map_err(RunError::Connect)?)
            }
            _ => None,
        });
    }
    Ok(connected)
}

/// Returns the source with exactly-once delivery, if the plan has one. The sinks write in its
/// transactions.
fn transactional<'a>(
    plan: &Plan,
    connected: &'a mut [Option<KafkaSource>],
) -> Option<&'a mut KafkaSource> {
    let exactly_once = |source: &SourcePlan| matches!(source, SourcePlan::Kafka(config) if config.delivery != Delivery::AtLeastOnce);
    let number = plan.sources.iter().position(exactly_once)?;
    connected.get_mut(number)?.as_mut()
}

/// Opens the topic for dead letters, if the plan has one.
pub(super) async fn open_dead_letters(
    plan: &Plan,
    connected: &mut [Option<KafkaSource>],
) -> Result<Option<AttachDeadLetters>, RunError> {
    let policy = &plan.on_failure.policy;
    let (Policy::DeadLetter { sink, .. }, Some(name)) = (policy, policy.title()) else {
        return Ok(None);
    };
    let config = SinkConfig::clone(sink);
    Ok(Some(if let Some(source) = transactional(plan, connected) {
        let sink = source.sink(config).await.map_err(RunError::Connect)?;
        Box::new(move |letters| letters.sink(name, DeadLetters(sink)))
    } else {
        let sink = KafkaSink::connect(config).await.map_err(RunError::Connect)?;
        Box::new(move |letters| letters.sink(name, DeadLetters(sink)))
    }))
}

/// Attaches the open sink to the flow of dead letters.
pub(super) type AttachDeadLetters = Box<dyn FnOnce(Flow<Failed<Record>>) -> Pipeline + Send>;

/// A sink that writes failed requests as dead letters.
struct DeadLetters<S>(S);

impl<S: Sink<KafkaReply>> Sink<Failed<Record>> for DeadLetters<S> {
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

/// Opens a sink. It is called before any source is read, so that no request is taken if its answer
/// cannot be written.
pub(super) async fn open_sink(
    plan: &Plan,
    sink: &SinkEnd,
    http: Option<&HttpSource>,
    connected: &mut [Option<KafkaSource>],
) -> Result<AttachSink, RunError> {
    let name = sink.title();
    // Standard input and a file that is not followed are read from the start after a restart,
    // wherever the last run stopped. Waiting for the flush before a receipt is done would save no
    // line from being read again, so an answer counts as delivered once it is in the buffer. This
    // also keeps the answers in the order of the lines: `Flow::catch` holds back the error reply to
    // a line until all earlier lines are settled. If those waited for the flush, the results of
    // later lines would overtake the error reply.
    let from_lines = plan
        .sources
        .iter()
        .all(|source| matches!(source, SourcePlan::Stdin | SourcePlan::File { follow: false, .. }));
    let confirm = if from_lines { Confirm::Buffered } else { Confirm::Flushed };
    Ok(match sink {
        SinkEnd::Kafka(config) => {
            let config = config.clone();
            if let Some(source) = transactional(plan, connected) {
                let sink = source.sink(config).await.map_err(RunError::Connect)?;
                Box::new(|answers| answers.named("reply").map(Into::into).sink(name, sink))
            } else {
                let sink = KafkaSink::connect(config).await.map_err(RunError::Connect)?;
                Box::new(|answers| answers.named("reply").map(Into::into).sink(name, sink))
            }
        }
        SinkEnd::Stdout => {
            let sink = LinesSink::new(tokio::io::stdout(), confirm);
            Box::new(|answers| answers.sink(name, sink))
        }
        SinkEnd::File(path) => {
            // The file is truncated only if a restart reads all input again. Otherwise answers are
            // appended, because a restarted pipeline does not repeat the answers in the file.
            let mut options = OpenOptions::new();
            options.create(true).write(true).append(!from_lines).truncate(from_lines);
            let file = options.open(path).await;
            let file = file.map_err(|source| RunError::Open { path: path.clone(), source })?;
            let sink = LinesSink::new(file, confirm);
            Box::new(|answers| answers.sink(name, sink))
        }
        SinkEnd::Http => {
            // Unreachable: the plan has an HTTP source if it has an HTTP sink.
            let Some(replies) = http.map(HttpSource::replies) else {
                return Ok(Box::new(|answers| answers.sink(name, Nowhere)));
            };
            let reply = |answer: Answer| Reply { value: answer.value, error: answer.error };
            Box::new(move |answers| answers.named("reply").map(reply).sink(name, replies))
        }
        SinkEnd::Drop => Box::new(|answers| answers.sink(name, Nowhere)),
        SinkEnd::Custom { kind, open } => open
            .open(name)
            .await
            .map_err(|source| RunError::Custom { kind: kind.clone(), source })?,
    })
}

/// Opens a source, and starts to read until `stop` is cancelled.
pub(super) async fn open_source(
    source: &SourcePlan,
    connected: Option<KafkaSource>,
    http: &mut Option<HttpSource>,
    stop: &CancellationToken,
) -> Result<(Flow<Record>, OpenSource), RunError> {
    let name = source.title();
    let unanswered = Arc::<Unanswered>::default();
    let records = match source {
        SourcePlan::Kafka(config) => {
            let source = match connected {
                Some(connected) => connected,
                None => KafkaSource::connect(config.clone()).await.map_err(RunError::Connect)?,
            };
            let (records, handle) = source.start(stop).map_err(RunError::Connect)?;
            let records = futures::StreamExt::map(records, bytes);
            return Ok((Flow::from_try_events(name, records), OpenSource::Kafka(handle)));
        }
        SourcePlan::Http(config) => {
            let http = match http.take() {
                Some(http) => http,
                None => HttpSource::bind(config.clone()).await.map_err(RunError::Listen)?,
            };
            let (requests, handle) = http.start(stop);
            let records = futures::StreamExt::map(requests, bytes);
            return Ok((Flow::from_try_events(name, records), OpenSource::Http(handle)));
        }
        SourcePlan::Interval { every, count } => {
            let source = IntervalSource::new(*every, *count);
            let flow = Flow::from_source(name, Until { source, stop: stop.clone() });
            return Ok((flow, OpenSource::Other));
        }
        SourcePlan::Custom { kind, open } => {
            let flow = open.open(name, stop.clone()).await;
            let flow = flow.map_err(|source| RunError::Custom { kind: kind.clone(), source })?;
            return Ok((flow, OpenSource::Other));
        }
        SourcePlan::Stdin => {
            let stdin = BufReader::with_capacity(READ_AHEAD, tokio::io::stdin());
            let lines = lines("stdin", stdin, stop.clone(), Arc::clone(&unanswered));
            Flow::from_try_events(name, lines)
        }
        SourcePlan::File { path, follow } => {
            let failed = |source| RunError::Open { path: path.clone(), source };
            let label = path.display().to_string();
            let unanswered = Arc::clone(&unanswered);
            if *follow {
                let file = Followed::open(path, READ_AHEAD).await.map_err(failed)?;
                Flow::from_try_events(name, lines(&label, file, stop.clone(), unanswered))
            } else {
                let file = File::open(path).await.map_err(failed)?;
                let file = BufReader::with_capacity(READ_AHEAD, file);
                Flow::from_try_events(name, lines(&label, file, stop.clone(), unanswered))
            }
        }
    };
    Ok((records, OpenSource::Lines(unanswered)))
}

/// Size of the read buffer for lines, in bytes.
const READ_AHEAD: usize = 256 << 10;

fn bytes<E>(item: Result<Event<Option<bytes::Bytes>>, E>) -> Result<Event<Record>, E> {
    item.map(|event| event.map(Record::Bytes))
}

impl OpenSource {
    /// Closes the source: waits up to `patience` for the requests in flight, and commits those that
    /// are settled. `None` closes it after a failure: without waiting, and without an error if
    /// requests are left in flight.
    pub(super) async fn close(self, patience: Option<Duration>) -> Result<(), RunError> {
        let orderly = patience.is_some();
        let patience = patience.unwrap_or_default();
        let unresolved = match self {
            Self::Kafka(source) => {
                let report = source.close(patience).await.map_err(RunError::Close)?;
                report.unresolved + report.held
            }
            Self::Http(http) => http.close(patience).await.map_err(RunError::Listen)?.unresolved,
            Self::Lines(unanswered) => {
                let abandoned = unanswered.abandoned.load(Ordering::Relaxed);
                if abandoned > 0 {
                    tracing::warn!(
                        lines = abandoned,
                        "some lines got no answer: they were dropped without a result or a failure, for example because `zip` found no partner"
                    );
                }
                return match unanswered.failure.get() {
                    Some(failure) => Err(RunError::Unanswered { failure: failure.clone() }),
                    None => Ok(()),
                };
            }
            Self::Other => 0,
        };
        match unresolved {
            0 => Ok(()),
            _ if !orderly => Ok(()),
            count => Err(RunError::Unresolved { count }),
        }
    }
}
