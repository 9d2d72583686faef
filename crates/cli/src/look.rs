//! The pages of a running pipeline.

use std::time::{SystemTime, UNIX_EPOCH};

use forebay_http::Pages;
use forebay_pipeline::{LastFailure, ModelView, StepView, svg};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::health::Health;
use crate::metrics;

/// Returns the pages: `/livez` and `/readyz` for probes, `/metrics` for Prometheus, `/state.json` with everything that the pages show,
/// `/taps` with the last values at each `tap`, and the graph as `/graph.svg` and `/graph.mmd`.
pub(crate) fn pages(name: &str, health: &Health, metrics: PrometheusHandle) -> Pages {
    let of = || health.clone();
    let (taps, state, picture, mermaid, measured, ready) = (of(), of(), of(), of(), of(), of());
    let (name, started) = (name.to_owned(), Instant::now());
    let handle = metrics.clone();
    Pages::new()
        // Touches neither a device nor a broker: it only tells that the process answers.
        .probe("/livez", || Ok("alive".to_owned()))
        .probe("/readyz", move || ready.unready().map_or_else(|| Ok("ready".to_owned()), Err))
        .page("/metrics", "text/plain; version=0.0.4; charset=utf-8", move || {
            metrics::render(&metrics, &measured.view())
        })
        .page("/state.json", "application/json", move || {
            let unready = state.unready();
            let state = state.view();
            let samples = metrics::samples(&metrics::render(&handle, &state));
            let (results, errors) = state.answers();
            let state = json!({
                "pipeline": name,
                "version": env!("CARGO_PKG_VERSION"),
                "uptime_seconds": started.elapsed().as_secs_f64(),
                "ready": unready.is_none(),
                "unready": unready,
                "answers": {"results": results, "errors": errors},
                "steps": state.steps().iter().map(step).collect::<Vec<_>>(),
                "edges": state.graph().edges().collect::<Vec<_>>(),
                "models": state.models().iter().map(model).collect::<Vec<_>>(),
                "failures": state.last_failures().iter().map(failure).collect::<Vec<_>>(),
                "samples": samples,
            });
            state.to_string()
        })
        .page("/taps", "application/json", move || {
            serde_json::to_string(&taps.view().taps()).unwrap_or_default()
        })
        .page("/graph.svg", "image/svg+xml", move || svg(picture.view().graph()))
        .page("/graph.mmd", "text/plain; charset=utf-8", move || {
            mermaid.view().graph().to_mermaid()
        })
}

fn step(step: &StepView) -> Value {
    json!({
        "name": step.name,
        "kind": format!("{:?}", step.kind).to_lowercase(),
        "received": step.received,
        "emitted": step.emitted,
        "items": step.items,
        "failed": step.failed,
        "discarded": step.discarded,
        "made": step.made,
        "inside": step.inside(),
        "waiting": step.waiting,
    })
}

fn model(model: &ModelView) -> Value {
    json!({
        "name": model.name,
        "description": model.description,
        "inputs": model.work.inputs,
        "batches": model.work.batches,
        "busy_seconds": model.work.busy.as_secs_f64(),
        "warm_up_seconds": model.work.warm_up.as_secs_f64(),
        "rebuilds": model.work.rebuilds,
    })
}

/// Shows a failure. Its message is left out, because it may quote the request.
fn failure(last: &LastFailure) -> Value {
    let LastFailure { at, origin, key, failure, .. } = last;
    json!({
        "at": unix_seconds(*at),
        "origin": origin,
        "key": key,
        "code": failure.code(),
        "step": failure.stage(),
    })
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
