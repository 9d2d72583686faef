//! A source for each test, and a minimal client.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use forebay_http::{Config, Error, Handle, HttpSource, Replies, Reply};
use forebay_stream::{Event, Sink as _};
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longer than any deadline of the source.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A running source.
pub(crate) struct Open {
    pub(crate) address: SocketAddr,
    pub(crate) events: BoxStream<'static, Result<Event<Option<Bytes>>, Error>>,
    pub(crate) replies: Replies,
    pub(crate) handle: Handle,
    pub(crate) stop: CancellationToken,
}

pub(crate) async fn open() -> Open {
    open_with(|_| ()).await
}

pub(crate) async fn open_with(change: impl FnOnce(&mut Config)) -> Open {
    let mut config = Config::new("127.0.0.1:0");
    change(&mut config);
    let source = HttpSource::bind(config).await.unwrap();
    let address = source.local_addr();
    let replies = source.replies();
    let stop = CancellationToken::new();
    let (events, handle) = source.start(&stop);
    Open { address, events: events.boxed(), replies, handle, stop }
}

impl Open {
    /// Sends a request in the background.
    pub(crate) fn post(&self, body: &str) -> JoinHandle<Response> {
        let address = self.address;
        let body = body.to_owned();
        tokio::spawn(async move { post(address, &body).await })
    }

    /// Returns the next event; panics if none comes in time.
    pub(crate) async fn next(&mut self) -> Event<Option<Bytes>> {
        let next = tokio::time::timeout(PATIENCE, self.events.next()).await;
        next.expect("an event arrives in time")
            .expect("the stream has not ended")
            .expect("the source has not failed")
    }

    /// Sends a request, answers it with the replies, and returns the response.
    pub(crate) async fn answer(&mut self, replies: &[Reply]) -> Response {
        let response = self.post("{}");
        let event = self.next().await;
        for value in replies {
            self.replies.send(event.derive(value.clone())).await.unwrap();
        }
        event.receipt.done();
        response.await.unwrap()
    }
}

pub(crate) fn reply(value: &'static str) -> Reply {
    Reply { value: value.into(), error: None }
}

pub(crate) fn error_reply(value: &'static str) -> Reply {
    Reply { error: Some("test".to_owned()), ..reply(value) }
}

/// A response as the client reads it.
#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    /// Returns the error's code, and checks that the body has the documented shape.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(&self.body).unwrap();
        let error = body["error"].as_object().unwrap();
        assert_eq!(error.keys().collect::<Vec<_>>(), ["code", "message", "stage"]);
        assert_eq!(error["stage"], "http");
        assert!(!error["message"].as_str().unwrap().is_empty());
        error["code"].as_str().unwrap().to_owned()
    }
}

pub(crate) async fn post(address: SocketAddr, body: &str) -> Response {
    send(address, &format!("POST / HTTP/1.1\r\nContent-Length: {}\r\n", body.len()), body).await
}

/// Sends the given head and body as they are, and reads the whole response.
pub(crate) async fn send(address: SocketAddr, head: &str, body: impl AsRef<[u8]>) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    write(&mut stream, head, body).await;
    read(stream).await
}

pub(crate) async fn write(stream: &mut TcpStream, head: &str, body: impl AsRef<[u8]>) {
    let head = format!("{head}Host: test\r\nConnection: close\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body.as_ref()].concat()).await.unwrap();
}

pub(crate) async fn read(mut stream: TcpStream) -> Response {
    let mut text = String::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut text)).await;
    read.expect("the response arrives in time").unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("the response has a head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Response { status, head: head.to_owned(), body: body.to_owned() }
}
