//! Models that cannot be fetched from the Hub. A server of the test takes its place.

use std::fs;
use std::net::TcpListener;

use serde_json::json;
use tempfile::TempDir;

use super::{MODEL, answer_with, case, exits_with, explain, neighbour, stderr};
use crate::binary::{forebay, output};

#[test]
fn a_model_that_cannot_be_fetched_is_explained_b1_b9() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("hub.toml");
    fs::write(&file, MODEL.replace("path = \"m\"", "hub = \"tiny/bert\"")).unwrap();
    let blocked = directory.path().join("blocked");
    fs::write(&blocked, "").unwrap();
    let blocked = blocked.join("cache").display().to_string();
    let empty = directory.path().join("empty").display().to_string();
    let hub = |status: &'static str| {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", server.local_addr().unwrap());
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        answer_with(server, Box::leak(answer.into_boxed_str()));
        address
    };
    let at = |address: String| {
        vec![
            ("HF_ENDPOINT", address),
            ("HF_HUB_CACHE", empty.clone()),
            ("HF_HUB_OFFLINE", "0".into()),
        ]
    };
    let home = directory.path().join("blocked").display().to_string();
    let homeless = vec![("HF_ENDPOINT", listing()), ("HOME", home)];
    let offline = vec![("HF_HUB_OFFLINE", "1".into()), ("HF_HUB_CACHE", empty.clone())];
    let unwritable = vec![("HF_ENDPOINT", listing()), ("HF_HUB_CACHE", blocked)];
    explain(
        &[
            case(
                "b1",
                at(hub("500 Internal Server Error")),
                [
                    "500",
                    "cannot fetch tiny/bert@main from the Hub",
                    "check the network, or download it and set `path`",
                ],
            ),
            neighbour(
                "b1",
                at("http://127.0.0.1:1".to_owned()),
                [
                    "refused",
                    "cannot fetch tiny/bert@main from the Hub",
                    "check the network, or download it and set `path`",
                ],
            ),
            case(
                "b9",
                at(hub("401 Unauthorized")),
                [
                    "access is denied (status 401)",
                    "tiny/bert@main",
                    "set HF_TOKEN if it is private or gated",
                ],
            ),
            case(
                "b9",
                homeless,
                [
                    "Not a directory",
                    "blocked/.cache/huggingface/hub",
                    "set HF_HUB_CACHE to a folder that has room",
                ],
            ),
            case(
                "b9",
                unwritable,
                ["Not a directory", "blocked/cache", "set HF_HUB_CACHE to a folder that has room"],
            ),
            neighbour(
                "b9",
                offline,
                [
                    "HF_HUB_OFFLINE forbids fetching it",
                    "tiny/bert@main is not in the cache",
                    "unset it, or fetch the model first",
                ],
            ),
            neighbour(
                "b9",
                at(hub("404 Not Found")),
                ["was not found on the Hub", "tiny/bert@main", "check its name and revision"],
            ),
        ],
        |variables| {
            let mut command = forebay();
            command.arg("run").arg(&file);
            for name in ["HOME", "HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN"] {
                command.env_remove(name);
            }
            command.envs(variables.iter().map(|(name, value)| (name, value)));
            let output = output(&mut command, "");
            let log = stderr(&output);
            (log.lines().last().unwrap_or_default().to_owned(), exits_with(&output, 66))
        },
    );
}

/// Starts a Hub that lists the files of a model, and whose files have no useful content.
fn listing() -> String {
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", server.local_addr().unwrap());
    let files = ["config.json", "tokenizer.json", "model.safetensors"];
    let files: Vec<_> = files.iter().map(|file| json!({ "rfilename": file })).collect();
    let body = json!({ "sha": "0".repeat(40), "siblings": files }).to_string();
    let length = body.len();
    let names = format!("ETag: \"one\"\r\nX-Repo-Commit: {}\r\n", "0".repeat(40));
    let answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n{names}\r\n{body}"
    );
    answer_with(server, Box::leak(answer.into_boxed_str()));
    address
}
