//! Requests that cannot become events.

use forebay_http::{Config, Error, HttpSource};
use futures::FutureExt as _;
use futures::StreamExt as _;
use tokio::net::TcpStream;

use crate::support::{open, open_with, post, read, reply, send, write};

#[tokio::test]
async fn a_request_to_another_path_gets_404() {
    let open = open_with(|config| config.path = "/v1".into()).await;
    for path in ["/", "/v1/", "/v10", "*", "http://test/v2"] {
        let response = send(open.address, &format!("POST {path} HTTP/1.1\r\n"), "").await;
        assert_eq!((response.status, response.code().as_str()), (404, "not_found"), "{path}");
    }
}

#[tokio::test]
async fn a_request_with_another_method_than_post_gets_405() {
    let open = open().await;
    for method in ["GET", "PUT", "OPTIONS", "BREW"] {
        let response = send(open.address, &format!("{method} / HTTP/1.1\r\n"), "").await;
        assert_eq!((response.status, response.code().as_str()), (405, "method_not_allowed"));
        assert_eq!(response.header("allow"), Some("POST"));
    }
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_whether_or_not_its_length_is_announced() {
    let mut open = open_with(|config| config.max_body = 4).await;
    // Too large for the socket's buffers: the client reads the response only after the server has
    // read the body.
    let large = "a".repeat(8 << 20);
    for (head, body) in [
        ("Content-Length: 5", "12345"),
        ("Transfer-Encoding: chunked", "3\r\n123\r\n2\r\n45\r\n0\r\n\r\n"),
        ("Content-Length: 8388608", large.as_str()),
    ] {
        let response = send(open.address, &format!("POST / HTTP/1.1\r\n{head}\r\n"), body).await;
        assert_eq!((response.status, response.code().as_str()), (413, "body_too_large"), "{head}");
    }
    assert!(open.events.next().now_or_never().is_none(), "no event");

    tokio::spawn(post(open.address, "1234"));
    assert_eq!(open.next().await.value.unwrap(), "1234");
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_refused_before_it_sends_the_body() {
    let open = open_with(|config| config.max_body = 4).await;
    let head = "POST / HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n";
    assert_eq!(send(open.address, head, "").await.status, 413);
}

#[tokio::test]
async fn a_body_with_invalid_chunks_is_refused() {
    let open = open().await;
    let response =
        send(open.address, "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "x\r\n").await;
    assert_eq!((response.status, response.code().as_str()), (400, "invalid_body"));
}

#[tokio::test(start_paused = true)]
async fn after_a_body_has_timed_out_another_request_can_be_in_flight() {
    let mut open = open_with(|config| config.max_in_flight = 1.try_into().unwrap()).await;
    let response = send(open.address, "POST / HTTP/1.1\r\nContent-Length: 2\r\n", "1").await;
    assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
    assert_eq!(open.answer(&[reply("1")]).await.status, 200);
}

#[tokio::test]
async fn requests_beyond_max_in_flight_are_refused_at_once() {
    let mut open = open_with(|config| config.max_in_flight = 2.try_into().unwrap()).await;
    let first = open.post("1");
    let first_event = open.next().await;
    let second = open.post("2");
    let second_event = open.next().await;

    let third = post(open.address, "3").await;
    assert_eq!((third.status, third.code().as_str()), (503, "overloaded"));
    assert_eq!(third.header("retry-after"), Some("1"));

    first_event.receipt.done();
    assert_eq!(first.await.unwrap().status, 204);
    assert_eq!(open.answer(&[reply("4")]).await.status, 200);
    second_event.receipt.done();
    assert_eq!(second.await.unwrap().status, 204);
}

#[tokio::test]
async fn after_bytes_that_are_not_http_the_source_still_answers_requests() {
    let mut open = open().await;
    for bytes in [&b"\x16\x03\x01\x02\x00"[..], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n\r\n"] {
        let mut client = TcpStream::connect(open.address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut client, bytes).await.unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut client).await.unwrap();
        let mut rest = Vec::new();
        // The server may also close the connection with an error.
        tokio::io::AsyncReadExt::read_to_end(&mut client, &mut rest).await.ok();
    }
    let mut client = TcpStream::connect(open.address).await.unwrap();
    write(&mut client, "POST / HTTP/1.1\r\nContent-Length: -1\r\n", "").await;
    assert_eq!(read(client).await.status, 400);
    assert_eq!(open.answer(&[]).await.status, 204);
}

#[tokio::test]
async fn the_error_for_an_address_in_use_names_the_address() {
    let open = open().await;
    let error = HttpSource::bind(Config::new(open.address.to_string())).await.unwrap_err();
    let start = format!("cannot listen at {}; ", open.address);
    assert!(error.to_string().starts_with(&start), "{error}");
    assert!(error.is_transient());
    assert!(matches!(error, Error::Bind { .. }));
}
