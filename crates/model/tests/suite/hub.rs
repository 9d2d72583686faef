//! Tests of fetching models, from a server that behaves like the Hub: it lists the files of a
//! revision, compresses small files, redirects requests for weights to another address, and ignores
//! range requests.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use flate2::Compression;
use flate2::write::GzEncoder;
use forebay_model::{DeviceChoice, Download, Error, Hub, HubModel, TextModel, TextModelOptions};
use serde_json::json;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::common;

const OLD: &str = "0000000000000000000000000000000000000001";
const NEW: &str = "0000000000000000000000000000000000000002";
const SECRET: &str = "Bearer hf_secret";

/// A server in place of the Hub, with one model, the tiny BERT classifier.
struct FakeHub {
    address: String,
    state: Shared,
    runtime: Option<tokio::runtime::Runtime>,
    cache: TempDir,
}

type Shared = Arc<Mutex<Repository>>;

struct Repository {
    files: BTreeMap<String, Vec<u8>>,
    /// The commit that `main` points to.
    head: &'static str,
    is_private: bool,
    /// Address of the store that requests for the weights are redirected to.
    store: String,
    /// The commit that listings contain instead of the requested one, if it is set.
    listed: Option<&'static str>,
    /// Faults of the next responses, one for each.
    faults: Vec<Fault>,
    requests: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    /// The server is overloaded.
    Status(u16),
    /// Only half of the bytes are sent.
    Half,
    /// The `ETag` is a path that leads out of the cache.
    Etag,
}

impl FakeHub {
    fn start() -> Self {
        let original = common::reference("tiny-bert-classifier");
        let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
        let mut files: BTreeMap<_, _> = names
            .map(|name| (name.to_owned(), fs::read(original.join(name)).unwrap()))
            .into_iter()
            .collect();
        files.insert("1_Pooling/config.json".to_owned(), b"{}".to_vec());
        files.insert("onnx/model.onnx".to_owned(), b"of no use".to_vec());
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let [hub, store] =
            [(); 2].map(|()| runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap());
        let [address, store_address] =
            [&hub, &store].map(|listener| format!("http://{}", listener.local_addr().unwrap()));
        let state = Arc::new(Mutex::new(Repository {
            files,
            head: OLD,
            is_private: false,
            store: store_address,
            listed: None,
            faults: Vec::new(),
            requests: Vec::new(),
        }));
        let routes = Router::new()
            .route("/api/models/tiny/bert/revision/{revision}", get(listing))
            .route("/tiny/bert/resolve/{commit}/{*file}", get(renamed))
            .route("/small/bert/resolve/{commit}/{*file}", get(file))
            .with_state(Arc::clone(&state));
        let stored =
            Router::new().route("/store/{*file}", get(weights)).with_state(Arc::clone(&state));
        runtime.spawn(async move { axum::serve(hub, routes).await });
        runtime.spawn(async move { axum::serve(store, stored).await });
        Self { address, state, runtime: Some(runtime), cache: tempfile::tempdir().unwrap() }
    }

    fn hub(&self) -> Hub {
        let cache = self.cache.path().to_owned();
        Hub { endpoint: self.address.clone(), cache, token: None, offline: false }
    }

    fn change(&self, change: impl FnOnce(&mut Repository)) {
        change(&mut self.state.lock());
    }

    /// Returns the requests since the last call.
    fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().requests)
    }

    /// Returns the model's folder in the cache.
    fn folder(&self) -> std::path::PathBuf {
        self.cache.path().join("models--tiny--bert")
    }

    fn stop(&mut self) {
        self.runtime.take().unwrap().shutdown_background();
    }
}

impl Drop for FakeHub {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Records the request, and refuses it if the model is private and the token is wrong.
fn admit(state: &Shared, headers: &HeaderMap, request: String) -> Result<(), StatusCode> {
    let mut repository = state.lock();
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
    admit(&state, &headers, format!("list {revision}"))?;
    let repository = state.lock();
    let sha = match revision.as_str() {
        "main" => repository.head,
        OLD | "refs/pr/1" => OLD,
        NEW => NEW,
        _ => return Err(StatusCode::NOT_FOUND),
    };
    let sha = repository.listed.unwrap_or(sha);
    let siblings: Vec<_> =
        repository.files.keys().map(|file| json!({ "rfilename": file })).collect();
    Ok(compressed(json!({ "sha": sha, "siblings": siblings }).to_string().as_bytes()))
}

/// Redirects requests under the model's old name to its new name on the same host.
async fn renamed(UrlPath((commit, file)): UrlPath<(String, String)>) -> Response {
    let moved = format!("/small/bert/resolve/{commit}/{file}");
    (StatusCode::TEMPORARY_REDIRECT, [("location", moved)]).into_response()
}

async fn file(
    State(state): State<Shared>,
    UrlPath((commit, file)): UrlPath<(String, String)>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    admit(&state, &headers, format!("get {file}"))?;
    let mut repository = state.lock();
    let bytes = repository.files.get(&file).ok_or(StatusCode::NOT_FOUND)?.clone();
    // Like the Hub's `ETag`, this one does not depend on the commit, only on the file.
    let mut etag = format!("\"{}-{}\"", file.replace('/', "-"), bytes.len());
    if file == "model.safetensors" {
        let store = format!("{}/store/{file}", repository.store);
        let size = bytes.len().to_string();
        let headers = [
            ("location", store),
            ("x-linked-etag", etag),
            ("x-linked-size", size),
            ("x-repo-commit", commit),
        ];
        return Ok((StatusCode::FOUND, headers).into_response());
    }
    if repository.faults.pop_if(|fault| matches!(fault, Fault::Etag)).is_some() {
        etag = "\"../../../escaped\"".to_owned();
    }
    let headers = [("etag", format!("W/{etag}")), ("x-repo-commit", commit)];
    Ok((headers, compressed(&bytes)).into_response())
}

/// Serves the weights as the Hub's store does: refuses requests with a token, and sends an `ETag`
/// that differs from the Hub's.
async fn weights(
    State(state): State<Shared>,
    UrlPath(file): UrlPath<String>,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    if headers.contains_key(header::AUTHORIZATION) {
        return Err(StatusCode::BAD_REQUEST);
    }
    let mut repository = state.lock();
    repository.requests.push(format!("store {file}"));
    let mut bytes = repository.files.get(&file).ok_or(StatusCode::NOT_FOUND)?.clone();
    match (!repository.faults.is_empty()).then(|| repository.faults.remove(0)) {
        Some(Fault::Status(status)) => return Err(StatusCode::from_u16(status).unwrap()),
        Some(Fault::Half) => bytes.truncate(bytes.len() / 2),
        Some(Fault::Etag) | None => {}
    }
    Ok(([("etag", "\"the-store's-own\"")], bytes).into_response())
}

fn compressed(bytes: &[u8]) -> Response {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    ([("content-encoding", "gzip")], encoder.finish().unwrap()).into_response()
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
fn a_fetched_model_can_be_loaded_and_its_progress_is_reported() {
    let server = FakeHub::start();
    let mut steps: Vec<Download> = Vec::new();
    let path = server.hub().fetch(&tiny(), &mut |step| steps.push(step)).unwrap();
    load(&path);
    let weights = fs::metadata(path.join("model.safetensors")).unwrap().len();
    let last = steps.iter().rfind(|step| step.file == "model.safetensors").unwrap();
    assert_eq!((last.done, last.total), (weights, weights));
    assert!(steps.is_sorted_by(|a, b| a.file != b.file || a.done <= b.done));
    assert!(path.join("1_Pooling/config.json").is_file());
    assert!(!path.join("onnx").exists(), "files that Forebay does not need are left out");
}

#[test]
fn the_cache_has_the_layout_of_the_hubs_own_client() {
    let server = FakeHub::start();
    let revision = "refs/pr/1".to_owned();
    let path = fetch(&server.hub(), &HubModel { revision, ..tiny() }).unwrap();
    assert_eq!(path, server.folder().join("snapshots").join(OLD));
    let commit = fs::read_to_string(server.folder().join("refs/refs/pr/1")).unwrap();
    assert_eq!(commit, OLD);
    for (file, up) in [("config.json", "../.."), ("1_Pooling/config.json", "../../..")] {
        let length = server.state.lock().files[file].len();
        let blob = format!("{}-{length}", file.replace('/', "-"));
        assert_eq!(fs::read_link(path.join(file)).unwrap(), Path::new(up).join("blobs").join(blob));
        assert_eq!(fs::read(path.join(file)).unwrap(), server.state.lock().files[file]);
    }
    let blobs = fs::read_dir(server.folder().join("blobs")).unwrap().map(Result::unwrap);
    let unfinished =
        blobs.filter(|blob| blob.path().extension().is_some_and(|e| e == "incomplete"));
    assert_eq!(unfinished.count(), 0);
}

#[test]
fn only_the_changed_files_of_a_new_commit_are_downloaded() {
    let server = FakeHub::start();
    fetch(&server.hub(), &tiny()).unwrap();
    server.requests();
    server.change(|repository| {
        repository.head = NEW;
        repository.files.get_mut("config.json").unwrap().push(b'\n');
    });
    let path = fetch(&server.hub(), &tiny()).unwrap();
    assert!(!server.requests().contains(&"store model.safetensors".to_owned()));
    load(&path);
    assert!(fs::read(path.join("config.json")).unwrap().ends_with(b"\n"));
}

#[test]
fn a_transfer_that_fails_is_tried_again() {
    let server = FakeHub::start();
    server.change(|it| it.faults = vec![Fault::Half, Fault::Status(503), Fault::Half]);
    let path = fetch(&server.hub(), &tiny()).unwrap();
    load(&path);
    let tries = server.requests().iter().filter(|it| *it == "store model.safetensors").count();
    assert_eq!(tries, 4);
}

#[test]
fn a_transfer_that_keeps_failing_leaves_no_partial_file() {
    let server = FakeHub::start();
    server.change(|it| it.faults = vec![Fault::Half; 100]);
    let error = server.hub().fetch(&tiny(), &mut |_| {}).unwrap_err();
    let Error::Hub { what, source, .. } = error else { panic!("{error:?}") };
    assert_eq!(what, "model.safetensors");
    let weights = server.state.lock().files["model.safetensors"].len();
    assert_eq!(source.to_string(), format!("received {} of {weights} bytes", weights / 2));
    let blobs: Vec<_> = fs::read_dir(server.folder().join("blobs"))
        .unwrap()
        .map(|blob| blob.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("safetensors") || name.contains("incomplete"))
        .collect();
    assert_eq!(blobs, [""; 0]);

    server.change(|it| it.faults.clear());
    load(&fetch(&server.hub(), &tiny()).unwrap());
}

#[test]
fn file_names_that_lead_out_of_the_cache_are_refused() {
    let server = FakeHub::start();
    server.change(|it| it.faults = vec![Fault::Etag]);
    let error = server.hub().fetch(&tiny(), &mut |_| {}).unwrap_err();
    assert!(format!("{error:?}").contains("no ETag"), "{error:?}");
    server.change(|it| it.listed = Some("../../elsewhere"));
    let error = server.hub().fetch(&tiny(), &mut |_| {}).unwrap_err();
    assert!(format!("{error:?}").contains("elsewhere"), "{error:?}");
    assert!(!server.folder().join("snapshots").exists());
}

#[test]
fn a_cached_commit_is_not_requested_again_but_a_branch_is() {
    let server = FakeHub::start();
    let pinned = HubModel { revision: OLD.to_owned(), ..tiny() };
    let old = fetch(&server.hub(), &pinned).unwrap();
    assert!(!server.requests().is_empty());
    assert_eq!(fetch(&server.hub(), &pinned), Ok(old.clone()));
    assert!(server.requests().is_empty(), "a commit never changes");

    assert_eq!(fetch(&server.hub(), &tiny()), Ok(old.clone()));
    assert_eq!(server.requests(), ["list main"], "its files are cached already");
    server.change(|repository| repository.head = NEW);
    let new = fetch(&server.hub(), &tiny()).unwrap();
    assert_ne!(old, new);
    load(&new);
}

#[test]
fn the_cached_copy_is_used_if_the_hub_cannot_be_reached() {
    let mut server = FakeHub::start();
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
    let server = FakeHub::start();
    server.change(|repository| repository.is_private = true);
    let message = fetch(&server.hub(), &tiny()).unwrap_err();
    assert!(message.contains("(status 401)") && message.contains("set HF_TOKEN"), "{message}");
    let token = Some("hf_secret".to_owned());
    let path = fetch(&Hub { token, ..server.hub() }, &tiny()).unwrap();
    load(&path);
    assert_eq!(
        fetch(&server.hub(), &tiny()),
        Ok(path),
        "access is denied, but the cache has a copy"
    );
}

#[test]
fn a_revision_that_is_unknown_or_lacks_a_file_is_refused() {
    let server = FakeHub::start();
    let unknown = HubModel { revision: "v9".to_owned(), ..tiny() };
    let message = fetch(&server.hub(), &unknown).unwrap_err();
    assert!(message.starts_with("tiny/bert@v9 was not found on the Hub"), "{message}");
    server.change(|repository| drop(repository.files.remove("model.safetensors")));
    let message = fetch(&server.hub(), &tiny()).unwrap_err();
    assert!(message.starts_with("tiny/bert@main has no model.safetensors on the Hub"), "{message}");
    assert!(fetch(&Hub { offline: true, ..server.hub() }, &tiny()).is_err());
}

fn write_all(repository: &mut Repository, files: &[(&str, &[u8])]) {
    for (name, bytes) in files {
        repository.files.insert((*name).to_owned(), bytes.to_vec());
    }
}

#[test]
fn every_file_that_changes_the_answer_is_fetched_a5() {
    let server = FakeHub::start();
    let files = [
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_distilbert_config.json",
        "special_tokens_map.json",
        "2_Dense/config.json",
        "2_Dense/model.safetensors",
        "3_Pooling/config.json",
    ];
    let others = [
        "README.md",
        "vocab.txt",
        "onnx/config.json",
        "2_Dense/../../config.json",
        "model-1.safetensors",
    ];
    server.change(|it| {
        write_all(it, &files.map(|name| (name, &b"{}"[..])));
        write_all(it, &others.map(|name| (name, &b"of no use"[..])));
    });
    let path = fetch(&server.hub(), &tiny()).unwrap();
    for file in files {
        assert!(path.join(file).is_file(), "{file}");
    }
    for file in others {
        assert!(!path.join(file).exists(), "{file}");
    }
}

#[test]
fn weights_in_several_files_are_fetched_b7() {
    let server = FakeHub::start();
    let index = r#"{"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}"#;
    server.change(|it| {
        it.files.remove("model.safetensors");
        let parts = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
        write_all(it, &parts.map(|name| (name, &b"part"[..])));
        write_all(it, &[("model.safetensors.index.json", index.as_bytes())]);
    });
    let path = fetch(&server.hub(), &tiny()).unwrap();
    assert!(path.join("model-00002-of-00002.safetensors").is_file());
    let offline = Hub { offline: true, ..server.hub() };
    assert_eq!(fetch(&offline, &tiny()), Ok(path.clone()));
    fs::remove_file(path.join("model-00001-of-00002.safetensors")).unwrap();
    assert!(fetch(&offline, &tiny()).unwrap_err().contains("is not in the cache"));
}

#[test]
fn a_model_with_weights_of_pytorch_only_is_refused_with_a_remedy_b7() {
    let server = FakeHub::start();
    server.change(|it| {
        let weights = it.files.remove("model.safetensors").unwrap();
        it.files.insert("pytorch_model.bin".to_owned(), weights);
    });
    let message = fetch(&server.hub(), &tiny()).unwrap_err();
    let start =
        "tiny/bert@main has no model.safetensors on the Hub; it has them as pytorch_model.bin";
    assert!(message.starts_with(start), "{message}");
}

#[test]
fn a_cached_commit_that_another_program_fetched_in_part_is_completed_a5() {
    let server = FakeHub::start();
    let pinned = HubModel { revision: OLD.to_owned(), ..tiny() };
    let path = fetch(&server.hub(), &pinned).unwrap();
    // Another program fetches only the files that it needs, and remembers nothing about the others.
    fs::remove_file(path.join("1_Pooling/config.json")).unwrap();
    fs::remove_dir_all(server.folder().join(".no_exist")).unwrap();
    server.requests();
    assert_eq!(fetch(&server.hub(), &pinned), Ok(path.clone()));
    assert!(path.join("1_Pooling/config.json").is_file());
    server.requests();
    assert_eq!(fetch(&server.hub(), &pinned), Ok(path));
    assert!(server.requests().is_empty(), "the cache is complete now");
}

#[test]
fn the_error_for_a_cache_that_cannot_be_written_names_the_folder_and_the_variable_b9() {
    let server = FakeHub::start();
    // Every user, also root, fails to make a folder in a file.
    let file = server.cache.path().join("file");
    fs::write(&file, "").unwrap();
    let cache = file.join("hub");
    let error =
        Hub { cache: cache.clone(), ..server.hub() }.fetch(&tiny(), &mut |_| {}).unwrap_err();
    let message = format!("{:#}", anyhow::Error::from(error));
    assert!(
        message.starts_with(&format!(
            "cannot write to the cache of models, {}; set HF_HUB_CACHE",
            cache.display()
        )),
        "{message}"
    );
    assert!(message.ends_with("Not a directory (os error 20)"), "{message}");
    let tries = server.requests().iter().filter(|it| it.starts_with("get ")).count();
    assert_eq!(tries, 1, "another attempt would not help");
}

#[test]
fn a_copy_in_a_cache_that_cannot_be_written_is_used_b9() {
    let server = FakeHub::start();
    let path = fetch(&server.hub(), &tiny()).unwrap();
    let refs = server.folder().join("refs/main");
    fs::remove_file(&refs).unwrap();
    std::os::unix::fs::symlink(server.folder().join("missing/ref"), &refs).unwrap();
    let pinned = HubModel { revision: OLD.to_owned(), ..tiny() };
    assert_eq!(fetch(&server.hub(), &pinned), Ok(path.clone()));
    assert!(fetch(&server.hub(), &tiny()).unwrap_err().starts_with("cannot write to the cache"));
    fs::remove_file(&refs).unwrap();
    fs::write(&refs, OLD).unwrap();
    fs::remove_dir_all(server.folder().join(".no_exist")).unwrap();
    fs::write(server.folder().join(".no_exist"), "in the way").unwrap();
    assert_eq!(fetch(&server.hub(), &tiny()), Ok(path));
}
