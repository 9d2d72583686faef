//! The debug pages of a running pipeline.

use std::fmt::Write as _;

use forebay_http::Pages;
use forebay_pipeline::{View, svg};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::metrics;

/// Returns the debug pages: `/metrics` for Prometheus, `/taps` with the last values at each `tap`,
/// `/counts` with the events that each operator has emitted, and the graph as `/graph.svg` and
/// `/graph.mmd`.
pub(crate) fn pages(view: &View, metrics: PrometheusHandle) -> Pages {
    let of = || view.clone();
    let (taps, counts, picture, mermaid, measured) = (of(), of(), of(), of(), of());
    Pages::new()
        .page("/metrics", "text/plain; version=0.0.4; charset=utf-8", move || {
            metrics::render(&metrics, &measured)
        })
        .page("/taps", "application/json", move || {
            serde_json::to_string(&taps.taps()).unwrap_or_default()
        })
        .page("/counts", "text/plain; charset=utf-8", move || table(&counts))
        .page("/graph.svg", "image/svg+xml", move || svg(picture.graph()))
        .page("/graph.mmd", "text/plain; charset=utf-8", move || mermaid.graph().to_mermaid())
}

fn table(view: &View) -> String {
    let mut text = format!("{:>12}  {:>7}  operator\n", "emitted", "waiting");
    for node in view.graph().nodes() {
        // Writing to a string cannot fail.
        writeln!(text, "{:>12}  {:>7}  {}", node.emitted(), node.depth(), node.name()).ok();
    }
    text
}
