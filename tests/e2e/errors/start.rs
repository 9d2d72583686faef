//! Runs that cannot start.

use std::fs;
use std::net::TcpListener;

use tempfile::TempDir;

use super::{answer_with, brokers, case, exits_with, explain, listen, neighbour, stderr, step};
use crate::binary::{forebay, output};

/// The arguments of a command that cannot start, and its exit code.
type Start = (Vec<String>, i32);

#[test]
fn a_run_that_cannot_start_is_explained_c10_d2() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let file = directory.path().join(name);
        fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    let run = |more: &[&str], text: &str, name: &str, code: i32| -> Start {
        let mut arguments = vec!["run".to_owned()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        arguments.push(file(name, text));
        (arguments, code)
    };
    // Something else than a broker: it answers like an HTTP server.
    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let http = server.local_addr().unwrap().to_string();
    answer_with(server, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let lines = "[source.file]\npath = \"/no/such.jsonl\"\n[sink.stdout]\n";
    explain(
        &[
            case(
                "c10",
                run(&[], &brokers(&http), "http.toml", 69),
                [
                    "it speaks HTTP",
                    "no broker answers at 127.0.0.1:",
                    "use the port of Kafka's own protocol",
                ],
            ),
            neighbour(
                "c10",
                run(&[], &brokers("127.0.0.1:1"), "down.toml", 69),
                [
                    "Connection refused",
                    "no broker answered at 127.0.0.1:1 ",
                    "check the address and that Kafka runs there",
                ],
            ),
            case(
                "d2",
                run(&["--listen", ":9090"], &step("map = \".\""), "debug.toml", 64),
                ["\":9090\" is not host:port", "--listen", "0.0.0.0:9090 for all interfaces"],
            ),
            neighbour(
                "d2",
                run(&[], &listen(&taken), "taken.toml", 69),
                [
                    "Address already in use",
                    "cannot listen at 127.0.0.1:",
                    "choose an address of this machine",
                ],
            ),
            case(
                "files",
                run(&[], lines, "lines.toml", 66),
                ["No such file or directory", "cannot open /no/such.jsonl", "check `path`"],
            ),
            neighbour(
                "files",
                (vec!["run".into(), "/no/such.toml".into()], 64),
                ["No such file or directory", "/no/such.toml", "check its path"],
            ),
        ],
        |(arguments, code)| {
            let output = output(forebay().args(arguments), "");
            (stderr(&output), exits_with(&output, *code))
        },
    );
}
