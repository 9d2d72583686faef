//! Events of requests, and replies to them.

use bytes::Bytes;
use forebay_http::Reply;
use forebay_stream::{Event, Flow, Header, Meta, Origin, Outcome, Receipt, Sink as _};
use futures::{StreamExt as _, stream};
use tokio::net::TcpStream;

use crate::support::{PATIENCE, open, open_with, post, reply, send, write};

#[tokio::test]
async fn an_event_has_the_key_the_headers_and_the_number_of_its_request() {
    let mut open = open_with(|config| config.path = "/v1".into()).await;
    let address = open.address;
    let head = "POST /v1?q=1 HTTP/1.1\r\nContent-Length: 3\r\nFOREBAY-KEY: caf\u{e9}\r\nAuthorization: secret\r\n\
                Forebay-Correlation-Id: 7\r\ntraceparent: 00-1\r\ntracestate: a=b\r\n";
    let response = tokio::spawn(send(address, head, [0, 255, b'\n']));

    let Event { value, meta, receipt } = open.next().await;
    receipt.done();
    assert_eq!(response.await.unwrap().status, 204);
    assert_eq!(value.as_deref(), Some(&[0, 255, b'\n'][..]));
    let header = |name: &str, value| Header {
        name: name.to_owned(),
        value: Some(Bytes::from_static(value)),
    };
    assert_eq!(
        *meta,
        Meta {
            key: Some("caf\u{e9}".into()),
            headers: vec![
                header("forebay-correlation-id", b"7"),
                header("traceparent", b"00-1"),
                header("tracestate", b"a=b"),
            ],
            timestamp: meta.timestamp,
            origin: Origin { source: "http".into(), partition: None, position: 1 },
        }
    );
    assert!(meta.timestamp.is_some());

    tokio::spawn(send(address, "POST /v1 HTTP/1.1\r\n", ""));
    let event = open.next().await;
    assert_eq!((event.value, &event.meta.key), (Some(Bytes::new()), &None));
    assert_eq!(event.meta.origin.to_string(), "http:2");
}

#[tokio::test]
async fn the_header_that_holds_the_key_can_be_configured() {
    let mut open = open_with(|config| config.key_header = "Forebay-Customer".into()).await;
    let head = "POST / HTTP/1.1\r\nForebay-Key: a\r\nForebay-Customer: b\r\n";
    tokio::spawn(send(open.address, head, ""));
    let meta = open.next().await.meta;
    assert_eq!(meta.key.as_deref(), Some(&b"b"[..]));
    assert_eq!(meta.header("forebay-key").unwrap(), "a");
    assert_eq!(meta.headers.len(), 1);
}

#[tokio::test]
async fn a_flow_with_source_and_sink_answers_requests() {
    let open = open().await;
    let echo = Flow::from_try_events("http", open.events)
        .map(|body| Reply { value: body.unwrap(), error: None })
        .sink("reply", open.replies);
    let echo = tokio::spawn(echo.run());
    for text in ["\"a\"", "\"b\""] {
        let response = post(open.address, text).await;
        assert_eq!((response.status, response.body.as_str()), (200, text));
    }
    assert_eq!(open.handle.close(PATIENCE).await.unwrap().unresolved, 0);
    echo.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_thousand_requests_get_their_own_replies_in_any_order() {
    let open = open().await;
    let mut replies = open.replies;
    tokio::spawn(async move {
        let mut batches = open.events.map(Result::unwrap).chunks(100);
        while let Some(batch) = batches.next().await {
            for event in batch.into_iter().rev() {
                let answer = |body: Option<Bytes>| Reply { value: body.unwrap(), error: None };
                replies.send(event.map(answer)).await.unwrap();
            }
        }
    });
    let address = open.address;
    let answered = stream::iter(0..1000).map(|n| async move {
        let body = n.to_string();
        let response = post(address, &body).await;
        assert_eq!((response.status, response.body), (200, body));
    });
    // The events are answered a hundred at a time, so that many requests must be in flight.
    assert_eq!(answered.buffer_unordered(200).count().await, 1000);
    assert_eq!(open.handle.close(PATIENCE).await.unwrap().unresolved, 0);
}

#[tokio::test]
async fn the_request_of_a_client_that_has_gone_stays_in_flight_until_it_settles() {
    let mut open = open_with(|config| config.max_in_flight = 1.try_into().unwrap()).await;
    let mut client = TcpStream::connect(open.address).await.unwrap();
    write(&mut client, "POST / HTTP/1.1\r\nContent-Length: 1\r\n", "1").await;
    let event = open.next().await;
    drop(client);
    assert_eq!(post(open.address, "2").await.code(), "overloaded", "the event is still in flight");
    open.replies.send(event.map(|_| reply("1"))).await.unwrap();

    assert_eq!(open.answer(&[reply("2")]).await.body, "2");
}

#[tokio::test]
async fn a_reply_to_a_request_that_is_not_in_flight_fails() {
    let mut open = open().await;
    let (settled, outcomes) = std::sync::mpsc::channel();
    for origin in ["http", "requests"] {
        let settled = settled.clone();
        let event = Event {
            meta: Meta {
                origin: Origin { source: origin.into(), position: 1, ..Origin::default() },
                ..Meta::default()
            }
            .into(),
            receipt: Receipt::new(move |outcome| settled.send(outcome).unwrap()),
            value: reply("1"),
        };
        if origin == "requests" {
            // A request with the event's position is in flight, but the event's source differs.
            let _response = open.post("");
            let _open = open.next().await;
            open.replies.send(event).await.unwrap();
        } else {
            open.replies.send(event).await.unwrap();
        }
        let Ok(Outcome::Failed(failure)) = outcomes.try_recv() else { panic!("not failed") };
        assert_eq!(failure.code(), "no_request");
        assert_eq!(failure.message(), format!("no request waits for the reply to {origin}:1"));
    }
}
