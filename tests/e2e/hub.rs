//! The binary with a model from the Hugging Face Hub. A server of this test takes the place of the
//! Hub.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::binary::{forebay, output, root};

const COMMIT: &str = "0000000000000000000000000000000000000001";

type Files = Arc<BTreeMap<&'static str, Vec<u8>>>;

async fn listing(State(files): State<Files>, Path(revision): Path<String>) -> Response {
    if revision != "main" {
        return StatusCode::NOT_FOUND.into_response();
    }
    let files: Vec<_> = files.keys().map(|file| json!({ "rfilename": file })).collect();
    json!({ "sha": COMMIT, "siblings": files }).to_string().into_response()
}

async fn file(State(files): State<Files>, Path(file): Path<String>) -> Response {
    let Some(bytes) = files.get(file.as_str()) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [("etag", format!("\"{file}\"")), ("x-repo-commit", COMMIT.to_owned())];
    (headers, bytes.clone()).into_response()
}

fn start() -> (Runtime, SocketAddr) {
    let model = root().join("crates/model/tests/reference/tiny-bert-classifier");
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    let files: Files =
        Arc::new(names.map(|name| (name, fs::read(model.join(name)).unwrap())).into());
    let runtime = Runtime::new().unwrap();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let routes = Router::new()
        .route("/api/models/tiny/bert/revision/{revision}", get(listing))
        .route(&format!("/tiny/bert/resolve/{COMMIT}/{{*file}}"), get(file))
        .with_state(files);
    runtime.spawn(async move { axum::serve(listener, routes).await });
    (runtime, address)
}

const PIPELINE: &str = r#"
[source.stdin]
[[step]]
adaptive_window = {}
[[step]]
map_batch = { model = "tiny" }
[sink.stdout]
[model.tiny]
HUB
device = "cpu"
"#;

#[test]
fn a_model_is_fetched_once_and_then_runs_without_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let (server, address) = start();
    let run = |command: &str, model: &str, offline: &str| -> Output {
        let file = folder.path().join("hub.toml");
        fs::write(&file, PIPELINE.replace("HUB", model)).unwrap();
        let mut command_line = forebay();
        command_line
            .arg(command)
            .arg(file)
            .env("HF_ENDPOINT", format!("http://{address}"))
            .env("HF_HUB_CACHE", folder.path().join("cache"))
            .env("HF_HUB_OFFLINE", offline)
            .current_dir(root());
        output(&mut command_line, "\"hello world\"\n")
    };
    let log = |output: &Output| String::from_utf8_lossy(&output.stderr).into_owned();
    let tiny = "hub = \"tiny/bert\"";

    let missing = run("run", tiny, "1");
    assert!(log(&missing).contains("tiny/bert@main is not in the cache"), "{}", log(&missing));
    assert!(!missing.status.success() && missing.stdout.is_empty());

    let checked = run("check", tiny, "0");
    assert!(checked.status.success(), "{}", log(&checked));
    let fetched = run("run", tiny, "0");
    assert!(fetched.status.success(), "{}", log(&fetched));
    let path = "path = \"crates/model/tests/reference/tiny-bert-classifier\"";
    assert_eq!(fetched.stdout, run("run", path, "1").stdout);
    let answer: Value = serde_json::from_slice(&fetched.stdout).unwrap();
    assert!(answer["label"].is_string(), "{answer}");

    let unknown = run("run", "hub = \"tiny/bert\"\nrevision = \"v9\"", "0");
    assert!(log(&unknown).contains("tiny/bert@v9 was not found on the Hub"), "{}", log(&unknown));
    server.shutdown_background();
    assert_eq!(
        run("run", tiny, "0").stdout,
        fetched.stdout,
        "from the cache, with a Hub that is down"
    );
    assert_eq!(run("run", tiny, "1").stdout, fetched.stdout, "from the cache, offline");
}
