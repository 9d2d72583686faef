//! Resolves the tables of sources and sinks by their kinds.

use crate::diagnostic::Problem;
use crate::file::{Entry, unknown, value};
use crate::registry::Registry;
use crate::sink::{self, AnySink};
use crate::source::{self, AnySource};

/// Resolves `[source.KIND]`.
pub(super) fn source(entry: Entry<'_>, registry: &Registry) -> Result<AnySource, Problem> {
    const KINDS: [&str; 5] = ["file", "http", "interval", "kafka", "stdin"];
    let Entry { key, settings, .. } = entry;
    Ok(match key.get_ref().as_str() {
        "kafka" => AnySource::Kafka(source::kafka::parse(settings)?),
        "http" => AnySource::Http(source::http::parse(settings)?),
        "stdin" => AnySource::Stdin(value(settings)?),
        "file" => AnySource::File(value(settings)?),
        "interval" => AnySource::Interval(value(settings)?),
        kind => {
            let Some(source) = registry.parse_source(kind, settings) else {
                let known = KINDS.into_iter().chain(registry.sources());
                return Err(unknown("source", kind, key.span(), known));
            };
            AnySource::Custom(source?)
        }
    })
}

/// Resolves `[sink.KIND]`.
pub(super) fn sink(
    entry: Entry<'_>,
    sources: &[AnySource],
    registry: &Registry,
) -> Result<AnySink, Problem> {
    const KINDS: [&str; 5] = ["drop", "file", "http", "kafka", "stdout"];
    let Entry { key, settings, span, .. } = entry;
    Ok(match key.get_ref().as_str() {
        "kafka" => AnySink::Kafka(sink::kafka::parse(settings, sources)?),
        "http" => AnySink::Http(sink::http::parse(settings, sources, span)?),
        "stdout" => AnySink::Stdout(value(settings)?),
        "file" => AnySink::File(sink::file::parse(settings, sources, span)?),
        "drop" => AnySink::Drop(value(settings)?),
        kind => {
            let Some(sink) = registry.parse_sink(kind, settings) else {
                let known = KINDS.into_iter().chain(registry.sinks());
                return Err(unknown("sink", kind, key.span(), known));
            };
            AnySink::Custom(sink?)
        }
    })
}
