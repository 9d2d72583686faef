//! HTTP as a source of events and a sink of replies.
//!
//! A [`HttpSource`] yields every `POST` as an event, and answers it when the event's receipt
//! settles. [`Replies`] is the sink that sets the body of the response. In a program, a pipeline
//! between the two turns requests into replies; this example sends each body back:
//!
//! ```
//! use std::time::Duration;
//!
//! use forebay_http::{Config, HttpSource, Reply};
//! use forebay_stream::Flow;
//! use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
//! use tokio::net::TcpStream;
//! use tokio_util::sync::CancellationToken;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let source = HttpSource::bind(Config::new("127.0.0.1:0")).await?;
//! let (address, replies) = (source.local_addr(), source.replies());
//! let (events, handle) = source.start(&CancellationToken::new());
//! let echo = Flow::from_try_events("http", events)
//!     .map(|body| Reply { value: body.unwrap_or_default(), error: None })
//!     .sink("reply", replies);
//! let echo = tokio::spawn(echo.run());
//!
//! let mut client = TcpStream::connect(address).await?;
//! client.write_all(b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 2\r\n\r\n42").await?;
//! let mut response = String::new();
//! client.read_to_string(&mut response).await?;
//! assert!(response.starts_with("HTTP/1.1 200 OK") && response.ends_with("\r\n\r\n42"));
//!
//! assert_eq!(handle.close(Duration::from_secs(5)).await?.unresolved, 0);
//! echo.await??;
//! # Ok(())
//! # }
//! ```

pub mod codes;
mod config;
mod error;
mod pages;
mod pending;
mod replies;
mod server;
mod source;

pub use config::{Config, check_listen};
pub use error::Error;
pub use pages::Pages;
pub use replies::{Replies, Reply};
pub use source::{CloseReport, Handle, HttpSource, RequestItem};
