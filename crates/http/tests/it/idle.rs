//! Connections on which nothing happens.

use std::time::Duration;

use forebay_http::Pages;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use crate::support::{PATIENCE, open_with, read, reply, write};

const LIMIT: Duration = Duration::from_secs(7);

/// Returns after how long the server closes the connection.
async fn closed_after(client: &mut TcpStream) -> Duration {
    let start = Instant::now();
    let mut rest = Vec::new();
    let read = tokio::time::timeout(PATIENCE, client.read_to_end(&mut rest)).await;
    read.expect("the connection is closed in time").ok();
    start.elapsed()
}

fn is_limit(after: Duration) -> bool {
    after + Duration::from_millis(50) >= LIMIT && after <= LIMIT + Duration::from_secs(1)
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_whole_request_head_is_closed_d1() {
    let mut open = open_with(|config| config.idle_timeout = LIMIT).await;
    for bytes in ["", "P", "POST / HTTP/1.1\r\nHost: a\r\nX-Half"] {
        let mut client = TcpStream::connect(open.address).await.unwrap();
        client.write_all(bytes.as_bytes()).await.unwrap();
        let after = closed_after(&mut client).await;
        assert!(is_limit(after), "{bytes:?} {after:?}");
    }
    assert_eq!(open.answer(&[reply("1")]).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_arrives_byte_by_byte_does_not_extend_the_limit_d1() {
    let open = open_with(|config| config.idle_timeout = LIMIT).await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    client.write_all(b"POST / HTTP/1.1\r\nX-Long: ").await.unwrap();
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        sleep(Duration::from_secs(1)).await;
        if client.write_all(b"a").await.is_err() {
            break;
        }
    }
    assert!(start.elapsed() <= LIMIT + Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_after_its_last_response_d1() {
    let mut open = open_with(|config| config.idle_timeout = LIMIT).await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    for _ in 0..2 {
        let request = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n1";
        client.write_all(request).await.unwrap();
        open.next().await.receipt.done();
        let mut status = [0; 12];
        client.read_exact(&mut status).await.unwrap();
        assert_eq!(&status, b"HTTP/1.1 204");
        sleep(LIMIT / 2).await;
        let mut rest = [0; 4096];
        assert!(client.read(&mut rest).await.unwrap() > 0, "the rest of the head");
    }
    let after = closed_after(&mut client).await;
    assert!(after <= LIMIT, "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_being_computed_is_not_idle_d1() {
    let mut open = open_with(|config| config.idle_timeout = LIMIT).await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    write(&mut client, "POST / HTTP/1.1\r\nContent-Length: 1\r\n", "1").await;
    let event = open.next().await;
    sleep(LIMIT * 5).await;
    event.receipt.done();
    assert_eq!(read(client).await.status, 204);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_is_refused_after_its_own_limit_d1() {
    let open = open_with(|config| config.body_timeout = LIMIT).await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    let start = Instant::now();
    write(&mut client, "POST / HTTP/1.1\r\nContent-Length: 2\r\n", "1").await;
    let response = read(client).await;
    assert_eq!((response.status, response.code().as_str()), (408, "request_timeout"));
    assert!(start.elapsed() <= LIMIT + Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_to_the_pages_is_closed_d1() {
    // Reserves a free port.
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let pages = Pages::new().page("/a", "text/plain", || "b".to_owned());
    let serving = tokio::spawn(async move { pages.serve(&address.to_string()).await });
    let mut client = loop {
        match TcpStream::connect(address).await {
            Ok(client) => break client,
            Err(_) => sleep(Duration::from_millis(10)).await,
        }
    };
    client.write_all(b"GET /a HTTP/1.1\r\n").await.unwrap();
    let after = closed_after(&mut client).await;
    assert!(after >= Duration::from_secs(29), "{after:?}");
    let mut client = TcpStream::connect(address).await.unwrap();
    write(&mut client, "GET /a HTTP/1.1\r\n", "").await;
    let response = read(client).await;
    assert_eq!((response.status, response.body.as_str()), (200, "b"));
    serving.abort();
}

#[tokio::test]
async fn pages_at_an_address_without_a_host_are_refused_d2() {
    let error = Pages::new().serve(":9090").await.unwrap_err().to_string();
    assert!(error.contains("such as 127.0.0.1:9090"), "{error}");
}
