//! Resolves the guarantees for answers: `delivery`, `order` and `[on_failure]`.

use std::time::Duration;

use forebay_kafka::{Delivery, OnUnanswered, SinkConfig, TransactionSettings};
use forebay_stream::{Breaker, Ratio, Retry};
use toml::Spanned;

use crate::diagnostic::{Places, Problem, chain};
use crate::file::{self, BreakerTable, Count, DeadLetterTable, OnFailureTable, Placed, RetryTable};
use crate::sink::{AnySink, connection};
use crate::source::{AnySource, KafkaSource};

/// The handling of requests that fail.
#[derive(Clone, Debug, Default)]
pub(crate) struct OnFailure {
    pub(crate) retry: Option<Retry>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) policy: Policy,
}

/// The handling of a request that failed and is not retried again.
#[derive(Clone, Debug, Default)]
pub(crate) enum Policy {
    #[default]
    Reply,
    Stop,
    DeadLetter {
        sink: Box<SinkConfig>,
        /// Whether the request gets an error reply too.
        reply: bool,
    },
}

/// The name, in graphs and logs, of the sink that takes the failures under `policy = "stop"`.
pub(crate) const STOP: &str = "stop";

impl Policy {
    /// Returns the name of the dead letters' sink in graphs and logs.
    pub(crate) fn title(&self) -> Option<String> {
        match self {
            Self::DeadLetter { sink, .. } => Some(format!("kafka: {}", sink.topic)),
            Self::Reply | Self::Stop => None,
        }
    }
}

/// The default of `max_backoff`.
const MAX_BACKOFF: Duration = Duration::from_secs(10);

pub(super) fn on_failure(
    table: Option<Placed<OnFailureTable>>,
    sources: &mut [AnySource],
    sinks: &[AnySink],
) -> Result<OnFailure, Problem> {
    let Some(table) = table else { return Ok(OnFailure::default()) };
    let Placed { value: OnFailureTable { policy, retry, breaker }, places } = table;
    let policy = match policy {
        file::Policy::Reply => Policy::Reply,
        file::Policy::Stop => {
            // `run/stop.rs` stops all sources. The source of the failed record must not end with an
            // error before that, so that the requests in flight are still answered.
            halt_at_failures(sources);
            Policy::Stop
        }
        file::Policy::DeadLetter(table) => dead_letter(table, sources, sinks, &places)?,
    };
    let breaker =
        breaker.as_ref().map(breaker_of).transpose().map_err(|problem| problem.at(places.table))?;
    Ok(OnFailure { retry: retry.as_ref().map(retry_of), breaker, policy })
}

fn retry_of(table: &RetryTable) -> Retry {
    Retry {
        attempts: table.attempts,
        backoff: table.backoff.0,
        max_backoff: table.max_backoff.map_or(MAX_BACKOFF, |most| most.0).max(table.backoff.0),
    }
}

/// Makes Kafka sources halt a partition at a record that failed without an answer, instead of
/// ending the source with an error. A record fails without an answer under the policy `stop`, or if
/// its dead letter could not be written.
fn halt_at_failures(sources: &mut [AnySource]) {
    for source in sources.iter_mut().filter_map(AnySource::kafka_mut) {
        source.on_unanswered = OnUnanswered::HaltPartition;
    }
}

fn dead_letter(
    table: DeadLetterTable,
    sources: &mut [AnySource],
    sinks: &[AnySink],
    places: &Places,
) -> Result<Policy, Problem> {
    let problem = |message: std::fmt::Arguments<'_>| Problem::new(message, places.table.clone());
    if !sources.iter().all(|source| source.kafka().is_some()) {
        return Err(problem(format_args!("only requests from Kafka can become dead letters"))
            .help(
                "use `policy = \"reply\"`, which sends error replies to the clients of any source",
            ));
    }
    let (brokers, options) = connection(table.brokers, table.options, sources)?;
    let mut sink = SinkConfig::new(brokers, table.topic);
    sink.delivery_timeout = table.delivery_timeout.unwrap_or(sink.delivery_timeout);
    sink.options = options;
    sink.validate().map_err(|error| Problem::of(&error, places))?;
    let same = |brokers: &str, topic: &str| brokers == sink.brokers && topic == sink.topic;
    if sources
        .iter()
        .filter_map(AnySource::kafka)
        .any(|source| same(&source.brokers, &source.topic))
    {
        return Err(problem(format_args!("dead letters would be read as requests"))
            .help("give dead letters their own topic"));
    }
    if sinks.iter().filter_map(AnySink::kafka).any(|to| same(&to.brokers, &to.topic)) {
        return Err(problem(format_args!("dead letters and replies would go to the same topic"))
            .help("give dead letters their own topic"));
    }
    halt_at_failures(sources);
    Ok(Policy::DeadLetter { sink: Box::new(sink), reply: table.reply })
}

fn breaker_of(table: &BreakerTable) -> Result<Breaker, Problem> {
    let ratio = Ratio::new(table.ratio).ok_or_else(|| {
        Problem::anywhere("a breaker's `ratio` must be more than 0 and at most 1")
            .help("0.5 ends the pipeline when half of the last requests have failed")
    })?;
    Ok(Breaker { ratio, of: table.of.get(), run: table.run.map(Count::get) })
}

/// Enables transactions on the source if the file asks for exactly once, and checks that the
/// sources and sinks support it. Returns whether the file asks for it.
pub(super) fn delivery(
    delivery: Option<Spanned<file::Delivery>>,
    transactions: Option<Placed<file::TransactionsTable>>,
    sources: &mut [AnySource],
    sinks: &[AnySink],
) -> Result<bool, Problem> {
    let Some(delivery) =
        delivery.filter(|delivery| *delivery.get_ref() == file::Delivery::ExactlyOnce)
    else {
        return match transactions {
            None => Ok(false),
            Some(table) => {
                Err(Problem::new("transactions need exactly-once delivery", table.places.table)
                    .help("add `delivery = \"exactly_once\"`, or leave this table out"))
            }
        };
    };
    let span = delivery.span();
    let problem = |message: std::fmt::Arguments<'_>| Problem::new(message, span.clone());
    let [AnySource::Kafka(KafkaSource { config: source, .. })] = sources else {
        return Err(problem(format_args!(
            "exactly-once delivery needs one Kafka source and no other source"
        )));
    };
    let other = sinks.iter().find(|sink| match sink {
        AnySink::Kafka(sink) => sink.brokers != source.brokers,
        AnySink::Drop(_) => false,
        _ => true,
    });
    if let Some(other) = other {
        let message = format_args!("`{}` cannot be written exactly once", other.end().title());
        return Err(problem(message).help("only Kafka topics at the brokers of the source can"));
    }
    if !sinks.iter().any(|sink| sink.kafka().is_some()) {
        return Err(problem(format_args!("exactly-once delivery needs a Kafka sink")));
    }
    let mut settings = TransactionSettings::default();
    let (table, places) = match transactions {
        Some(Placed { value, places }) => (value, Some(places)),
        None => (file::TransactionsTable::default(), None),
    };
    settings.id = table.id;
    settings.commit_interval = table.commit_interval.unwrap_or(settings.commit_interval);
    settings.timeout = table.timeout;
    source.delivery = Delivery::ExactlyOnce(settings);
    source.validate().map_err(|error| match places {
        Some(places) => Problem::of(&error, &places),
        None => Problem::new(chain(&error), span),
    })?;
    Ok(true)
}

/// Resolves `order`. Answers can be ordered only if the plan has one source and one sink.
pub(super) fn order(
    order: Option<Spanned<file::Order>>,
    sources: &[AnySource],
    sinks: &[AnySink],
) -> Result<file::Order, Problem> {
    let Some(order) = order else { return Ok(file::Order::None) };
    let kept = sinks.iter().filter(|sink| !sink.drops()).count();
    if *order.get_ref() == file::Order::Key && (sources.len() > 1 || sinks.len() > 1 || kept == 0) {
        let message = "`order = \"key\"` needs exactly one source and one sink";
        return Err(Problem::new(message, order.span()));
    }
    Ok(order.into_inner())
}
