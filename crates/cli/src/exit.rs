//! Exit codes, which follow BSD's `sysexits.h`, and the report of an error that ends the program.

use forebay_kafka::Error as KafkaError;
use forebay_pipeline::{ConfigError, RunError};

use crate::{LogFormat, print};

/// Wrong usage, or an invalid pipeline file.
pub(crate) const USAGE: u8 = 64;
/// The input ended, and some requests got errors, or some dead letters could not be replayed.
pub(crate) const SOME_FAILED: u8 = 65;
/// A file, a model or a device is missing or unusable.
const NO_INPUT: u8 = 66;
/// Kafka or a pipeline could not be reached, or a topic is missing.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Another error ended a running pipeline.
const SOFTWARE: u8 = 70;
/// Stopped before all requests in flight were answered; they will be read again.
const UNANSWERED: u8 = 75;
/// Stopped by a signal before the work was done.
pub(crate) const INTERRUPTED: u8 = 130;

/// The codes, for `--help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done, or stopped after a drain
  64   wrong usage, or an invalid pipeline file
  65   some lines got errors (stdin and file sources), or some dead letters
       could not be replayed
  66   a file, model or device is missing or unusable
  69   Kafka cannot be reached, a topic is missing, or an address is in use
  70   a source, sink or model failed while running
  75   stopped before all requests in flight were answered; they are read again
  130  interrupted: `demo` and `bench` by a signal, others by a second signal

Environment:
  FOREBAY_LOG         log filter, such as `debug` or `forebay_kafka=debug,info`
  FOREBAY_LOG_FORMAT  `text` or `json`, as --log-format";

/// Reports an error with its causes, and returns its exit code.
pub(crate) fn report(error: &anyhow::Error, format: LogFormat) -> u8 {
    if print::is_closed_pipe(error) {
        return 0;
    }
    let code = code(error);
    match (error.downcast_ref(), format) {
        (Some(ConfigError::Invalid(diagnostic)), LogFormat::Text) => eprintln!("{diagnostic}"),
        (Some(ConfigError::Invalid(diagnostic)), LogFormat::Json) => {
            tracing::error!(exit_code = code, "{diagnostic}");
        }
        (_, LogFormat::Text) => eprintln!("error: {error:#}"),
        (_, LogFormat::Json) => tracing::error!(exit_code = code, "{error:#}"),
    }
    code
}

fn code(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return match error {
            ConfigError::NoModel { .. } | ConfigError::UnreadableModel { .. } => NO_INPUT,
            _ => USAGE,
        };
    }
    if let Some(error) = error.downcast_ref::<KafkaError>() {
        return match error {
            KafkaError::Setting { .. }
            | KafkaError::ReservedOption { .. }
            | KafkaError::Configure(_) => USAGE,
            KafkaError::Read { .. } | KafkaError::Write { .. } | KafkaError::Commit { .. } => {
                SOFTWARE
            }
            _ => UNAVAILABLE,
        };
    }
    if error.downcast_ref::<forebay_http::Error>().is_some() {
        return UNAVAILABLE;
    }
    match error.downcast_ref::<RunError>() {
        Some(RunError::Model { .. } | RunError::Open { .. } | RunError::Custom { .. }) => NO_INPUT,
        Some(RunError::Connect(_) | RunError::Listen(_)) => UNAVAILABLE,
        Some(RunError::Overdue { .. } | RunError::Unresolved { .. } | RunError::Close(_)) => {
            UNANSWERED
        }
        _ => SOFTWARE,
    }
}
