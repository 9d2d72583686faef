//! Fetching models, from a server that answers as the Hub does: listings by revision, files by range, weights from
//! another address.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use forebay_model::{DeviceChoice, Download, Error, Hub, HubModel, TextModel, TextModelOptions};
use serde_json::json;
use tempfile::TempDir;

use crate::common;

const OLD: &str = "0000000000000000000000000000000000000001";
const NEW: &str = "0000000000000000000000000000000000000002";
const SECRET: &str = "Bearer hf_secret";

/// The tiny BERT classifier, on a Hub of its own.
struct StandIn {
    address: String,
    state: Shared,
    runtime: Option<tokio::runtime::Runtime>,
    cache: TempDir,
}

type Shared = Arc<Mutex<Repository>>;

struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    /// What `main` is.
    head: &'static str,
    is_private: bool,
    requests: Vec<String>,
}

impl StandIn {
    fn start() -> Self {
        let original = common::reference("tiny-bert-classifier");
        let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
        let mut files: BTreeMap<_, _> = names
            .map(|name| (name.to_owned(), fs::read(original.join(name)).unwrap()))
            .into_iter()
            .collect();
        files.insert("1_Pooling/config.json".to_owned(), b"{}".to_vec());
        files.insert("onnx/model.onnx".to_owned(), b"of no use".to_vec());
        let repository = Repository { files, head: OLD, is_private: false, requests: Vec::new() };
        let state = Arc::new(Mutex::new(repository));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route("/api/models/tiny/bert/revision/{revision}", get(listing))
            .route("/tiny/bert/resolve/{commit}/{*file}", get(file))
            .route("/elsewhere/{*file}", get(weights))
            .with_state(Arc::clone(&state));
        runtime.spawn(async move { axum::serve(listener, routes).await });
        Self { address, state, runtime: Some(runtime), cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        let cache = self.cache.path().to_owned();
        Hub { endpoint: self.address.clone(), cache, token: None, offline: false }
    }

    fn change(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut self.state.lock().unwrap());
    }

    /// What it was asked for since it was asked last.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for StandIn {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Notes the request; says no to strangers.
fn enter(state: &Shared, headers: &HeaderMap, request: String) -> Result<(), StatusCode> {
    let mut repository = state.lock().unwrap();
    repository.requests.push(request);
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if repository.is_private && token != Some(SECRET) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    Ok(())
}

async fn listing(
    State(state): State<Shared>,
    UrlPath(revision): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    enter(&state, &headers, format!("list {revision}"))?;
    let repository = state.lock().unwrap();
    let sha = match revision.as_str() {
        "main" => repository.head,
        OLD => OLD,
        NEW => NEW,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let siblings: Vec<_> =
        repository.files.keys().map(|file| json!({ "rfilename": file })).collect();
    Ok(json!({ "sha": sha, "siblings": siblings }).to_string().into_response())
}

async fn file(
    State(state): State<Shared>,
    UrlPath((commit, file)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    enter(&state, &headers, format!("get {file}"))?;
    let etag = format!("\"{commit}-{}\"", file.replace('/', "-"));
    if file == "model.safetensors" {
        let address = headers[header::HOST].to_str().unwrap();
        let elsewhere = format!("http://{address}/elsewhere/{file}");
        let headers = [("location", elsewhere), ("x-linked-etag", etag), ("x-repo-commit", commit)];
        return Ok((StatusCode::FOUND, headers).into_response());
    }
    let mut response = bytes(&state, &file, &headers)?;
    response.headers_mut().insert("etag", etag.parse().unwrap());
    response.headers_mut().insert("x-repo-commit", commit.parse().unwrap());
    Ok(response)
}

async fn weights(
    State(state): State<Shared>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    bytes(&state, &file, &headers)
}

/// The bytes of the range that is asked for: `bytes=FIRST-` or `bytes=FIRST-LAST`.
fn bytes(state: &Shared, file: &str, headers: &HeaderMap) -> Result<Response, StatusCode> {
    let repository = state.lock().unwrap();
    let bytes = repository.files.get(file).ok_or(StatusCode::NOT_FOUND)?;
    let range = headers[header::RANGE].to_str().unwrap().strip_prefix("bytes=").unwrap();
    let (first, last) = range.split_once('-').unwrap();
    let first: usize = first.parse().unwrap();
    let last = last.parse().unwrap_or(bytes.len() - 1);
    let range = format!("bytes {first}-{last}/{}", bytes.len());
    let body = bytes[first..=last].to_vec();
    Ok((StatusCode::PARTIAL_CONTENT, [("content-range", range)], body).into_response())
}

fn fetch(hub: &Hub, model: &HubModel) -> Result<std::path::PathBuf, String> {
    hub.fetch(model, &mut |_| {}).map_err(|error| error.to_string())
}

fn tiny() -> HubModel {
    HubModel::new("tiny/bert")
}

fn load(path: &Path) -> TextModel {
    TextModel::load(&TextModelOptions { device: DeviceChoice::Cpu, ..TextModelOptions::new(path) })
        .unwrap()
}

#[test]
fn what_is_fetched_can_be_loaded_and_the_progress_is_told() {
    let server = StandIn::start();
    let mut steps: Vec<Download> = Vec::new();
    let path = server.hub().fetch(&tiny(), &mut |step| steps.push(step)).unwrap();
    load(&path);
    let weights = fs::metadata(path.join("model.safetensors")).unwrap().len();
    let last = steps.iter().rfind(|step| step.file == "model.safetensors").unwrap();
    assert_eq!((last.done, last.total), (weights, weights));
    assert!(steps.is_sorted_by(|a, b| a.file != b.file || a.done <= b.done));
    assert!(path.join("1_Pooling/config.json").is_file());
    assert!(!path.join("onnx").exists(), "nothing that is of no use");
}

#[test]
fn a_commit_is_fetched_once_and_a_branch_is_followed() {
    let server = StandIn::start();
    let pinned = HubModel { revision: OLD.to_owned(), ..tiny() };
    let old = fetch(&server.hub(), &pinned).unwrap();
    assert!(!server.requests().is_empty());
    assert_eq!(fetch(&server.hub(), &pinned), Ok(old.clone()));
    assert!(server.requests().is_empty(), "a commit never changes");

    assert_eq!(fetch(&server.hub(), &tiny()), Ok(old.clone()));
    assert_eq!(server.requests(), ["list main"], "its files are there");
    server.change(|repository| repository.head = NEW);
    let new = fetch(&server.hub(), &tiny()).unwrap();
    assert_ne!(old, new);
    load(&new);
}

#[test]
fn without_the_hub_what_is_in_the_cache_is_used() {
    let mut server = StandIn::start();
    let hub = server.hub();
    let offline = Hub { offline: true, ..hub.clone() };
    let message = fetch(&offline, &tiny()).unwrap_err();
    assert!(message.starts_with("tiny/bert@main is not in the cache"), "{message}");
    assert!(message.contains("HF_HUB_OFFLINE"), "{message}");
    let path = fetch(&hub, &tiny()).unwrap();
    server.requests();
    assert_eq!(fetch(&offline, &tiny()), Ok(path.clone()));
    assert!(server.requests().is_empty());

    server.stop();
    assert_eq!(fetch(&hub, &tiny()), Ok(path));
    let other = HubModel { revision: NEW.to_owned(), ..tiny() };
    let error = hub.fetch(&other, &mut |_| {}).unwrap_err();
    assert!(matches!(error, Error::Hub { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains("check the network, or download it and set `path`"), "{message}");
}

#[test]
fn a_private_model_needs_a_token() {
    let server = StandIn::start();
    server.change(|repository| repository.is_private = true);
    let message = fetch(&server.hub(), &tiny()).unwrap_err();
    assert!(message.contains("(status 401)") && message.contains("set HF_TOKEN"), "{message}");
    let token = Some("hf_secret".to_owned());
    load(&fetch(&Hub { token, ..server.hub() }, &tiny()).unwrap());
}

#[test]
fn what_is_no_model_is_refused_and_leaves_nothing_that_looks_like_one() {
    let server = StandIn::start();
    let unknown = HubModel { revision: "v9".to_owned(), ..tiny() };
    let message = fetch(&server.hub(), &unknown).unwrap_err();
    assert!(message.starts_with("the Hub has no tiny/bert@v9"), "{message}");
    server.change(|repository| drop(repository.files.remove("model.safetensors")));
    let message = fetch(&server.hub(), &tiny()).unwrap_err();
    assert!(message.starts_with("tiny/bert@main has no model.safetensors on the Hub"), "{message}");
    assert!(fetch(&Hub { offline: true, ..server.hub() }, &tiny()).is_err());
}
