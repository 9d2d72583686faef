//! Lines and HTTP requests that fail.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use tempfile::TempDir;

use super::{case, exits_with, explain, listen, neighbour, step};
use crate::binary::{Service, forebay};

#[test]
fn a_line_that_fails_is_explained_b5_d3_d9() {
    let gzip = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x33\xe4\x02\x00".to_vec();
    let deep = [vec![b'['; 128], vec![b']'; 128]].concat();
    let deeper = b"{\"a\":".repeat(200);
    let long = [b"\"", vec![b'a'; (64 << 20) + 1].as_slice(), b"\""].concat();
    let utf16 = b"\xff\xfe1\x00".to_vec();
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("p.toml");
    fs::write(&file, step("map = '.'")).unwrap();
    explain(
        &[
            case("b5", utf16, ["it is UTF-16", "invalid_json", "send UTF-8 text"]),
            neighbour(
                "b5",
                b"\xfe\xff\x001".to_vec(),
                ["it is UTF-16", "invalid_json", "send UTF-8"],
            ),
            case(
                "d3",
                gzip,
                ["compressed with gzip", "invalid_json", "send UTF-8 text, uncompressed"],
            ),
            neighbour("d3", b"BZh91AY&SY".to_vec(), ["with bzip2", "invalid_json", "uncompressed"]),
            neighbour(
                "d3",
                b"\x28\xb5\x2f\xfd\x24".to_vec(),
                ["with zstd", "decode", "uncompressed"],
            ),
            case("d9", deep, ["nested too deep", "more than 127 arrays", "send a flatter one"]),
            neighbour(
                "d9",
                deeper,
                ["nested too deep", "more than 127 arrays", "send a flatter one"],
            ),
            case("d9", long, ["is longer than 67108864 bytes", "line 1", "split it"]),
        ],
        |input| {
            let mut child = forebay()
                .arg("run")
                .arg(&file)
                .stdin(std::process::Stdio::piped())
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(input).unwrap();
            stdin.write_all(b"\n7\n").unwrap();
            drop(stdin);
            let output = child.wait_with_output().unwrap();
            let lines = String::from_utf8(output.stdout.clone()).unwrap();
            let (reply, rest) = lines.split_once('\n').unwrap_or_default();
            let others = (rest != "7\n").then(|| format!("the next line gives {rest:?}"));
            (reply.to_owned(), exits_with(&output, 65).or(others))
        },
    );
}

#[test]
fn an_http_request_that_is_refused_is_explained_d1_d3_d9() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("http.toml");
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let settings = "path = \"/ask\"\nmax_body = 1000\nidle_timeout = \"5s\"\nbody_timeout = \"1s\"\n[[step]]\nmap = \".\"\n[sink.http]";
    fs::write(&file, listen(&address.to_string()).replace("[sink.http]", settings)).unwrap();
    let service = Service::start(forebay().arg("run").arg(&file));
    let post = |length: usize, body: &[u8]| {
        let head = format!(
            "POST /ask HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
        );
        [head.as_bytes(), body].concat()
    };
    let deep = vec![b'['; 900];
    explain(
        &[
            case(
                "d1",
                post(9, b"{\"te"),
                [
                    "the body did not come within 1s",
                    "`body_timeout`",
                    "send it again, without pauses",
                ],
            ),
            neighbour(
                "d1",
                post(1001, b""),
                ["the body has more than 1000 bytes", "`max_body`", "send a smaller one"],
            ),
            case(
                "d3",
                post(10, b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"),
                ["compressed with gzip", "decode", "send UTF-8 text, uncompressed"],
            ),
            neighbour(
                "d3",
                post(4, b"\xff\xfe1\x00"),
                ["it is UTF-16", "decode", "send UTF-8 text"],
            ),
            case("d9", post(900, &deep), ["nested too deep", "decode", "send a flatter one"]),
            neighbour(
                "d9",
                b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
                    .to_vec(),
                ["not_found", "/ask", "requests are sent to"],
            ),
        ],
        |request| {
            let mut client = TcpStream::connect(address).unwrap();
            client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            client.write_all(request).unwrap();
            let mut response = String::new();
            client.read_to_string(&mut response).unwrap();
            let refused = response.starts_with("HTTP/1.1 4");
            (response, (!refused).then(|| "it is not refused".to_owned()))
        },
    );
    service.stop();
}
