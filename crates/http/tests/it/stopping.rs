//! Stopping and closing the source.

use std::time::Duration;

use forebay_http::CloseReport;
use forebay_stream::Sink as _;
use futures::StreamExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, open, open_with, post, read, reply, write};

#[tokio::test]
async fn a_stopped_source_refuses_new_requests_but_answers_those_in_flight() {
    // One request fills the source. It still has to answer `unavailable`, not `overloaded`.
    let mut open = open_with(|config| config.max_in_flight = 1.try_into().unwrap()).await;
    let response = open.post("1");
    let event = open.next().await;
    open.stop.cancel();
    assert!(open.events.next().await.is_none(), "no event after the stop");
    let closing = tokio::spawn(open.handle.close(PATIENCE));
    for body in ["2", "3"] {
        let refused = post(open.address, body).await;
        assert_eq!((refused.status, refused.code().as_str()), (503, "unavailable"));
        assert_eq!(refused.header("retry-after"), Some("1"));
    }

    assert!(!closing.is_finished());
    open.replies.send(event.map(|_| reply("1"))).await.unwrap();
    assert_eq!(response.await.unwrap().body, "1");
    assert_eq!(closing.await.unwrap().unwrap(), CloseReport { unresolved: 0 });
    assert!(TcpStream::connect(open.address).await.is_err(), "the listener is closed");
}

#[tokio::test]
async fn requests_in_flight_at_the_deadline_of_close_get_503() {
    let mut open = open().await;
    let response = open.post("1");
    let _event = open.next().await;
    let report = open.handle.close(Duration::ZERO).await.unwrap();
    assert_eq!(report, CloseReport { unresolved: 1 });
    let response = response.await.unwrap();
    assert_eq!((response.status, response.code().as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn a_body_that_is_still_arriving_does_not_delay_the_stop() {
    let mut open = open().await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n";
    write(&mut client, head, "").await;
    // The server sends `100 Continue` when it starts to read the body.
    let mut go_on = [0; 25];
    client.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n");
    open.stop.cancel();
    assert_eq!(read(client).await.code(), "unavailable");
    assert!(open.events.next().await.is_none());
    assert_eq!(open.handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn dropping_the_stream_leaves_no_client_waiting() {
    let mut open = open().await;
    drop(open.events);
    let response = post(open.address, "1").await;
    assert_eq!((response.status, response.code().as_str()), (503, "unavailable"));
    open.events = futures::stream::empty().boxed();
    assert_eq!(open.handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn dropping_the_handle_cuts_every_connection() {
    let mut open = open().await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    write(&mut client, "POST / HTTP/1.1\r\nContent-Length: 1\r\n", "1").await;
    let _event = open.next().await;
    drop(open.handle);
    assert!(open.events.next().await.is_none());
    expect_close(client).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_with_an_unfinished_request_is_cut_after_the_deadline() {
    let mut open = open().await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nHost:").await.unwrap();
    // Waits for the response to another client. By then the server has read the unfinished
    // request.
    open.answer(&[]).await;
    assert_eq!(open.handle.close(PATIENCE).await.unwrap().unresolved, 0);
    expect_close(client).await;
}

async fn expect_close(mut client: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    read.expect("the connection is closed in time").ok();
}
