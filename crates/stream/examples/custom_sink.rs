//! A sink for a custom system: writes rows in batches, and counts them as delivered when they are
//! written.
//!
//! Run it with `cargo run -p forebay-stream --example custom_sink`.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_stream::{Event, Flow, Outcome, Receipt, Sink};
use tokio::io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Writes rows to a file, or to anything else that takes bytes.
struct Rows<W> {
    output: W,
    waiting: Vec<Event<String>>,
}

impl<W: AsyncWrite + Unpin + Send + 'static> Sink<String> for Rows<W> {
    type Error = io::Error;

    async fn send(&mut self, row: Event<String>) -> io::Result<()> {
        const MAX_ROWS: usize = 100;
        self.waiting.push(row);
        if self.waiting.len() == MAX_ROWS { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> io::Result<()> {
        let rows: String = self.waiting.iter().flat_map(|row| [row.value.as_str(), "\n"]).collect();
        self.output.write_all(rows.as_bytes()).await?;
        self.output.flush().await?;
        // Receipts are resolved only now. If the write fails, every row is dropped with its
        // receipt, and read again.
        self.waiting.drain(..).for_each(|row| row.receipt.done());
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flush().await
    }
}

/// A flow of 250 rows. Each adds one to `delivered` when it is done.
fn rows(delivered: &Arc<AtomicUsize>) -> Flow<String> {
    let delivered = Arc::clone(delivered);
    let events = (1..=250).map(move |number| {
        let delivered = Arc::clone(&delivered);
        let receipt = Receipt::new(move |outcome| {
            delivered.fetch_add(usize::from(outcome == Outcome::Done), Ordering::Relaxed);
        });
        Ok::<_, io::Error>(Event { receipt, ..Event::detached(()) }.with(format!("row {number}")))
    });
    Flow::from_try_events("rows", futures::stream::iter(events))
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (output, mut input) = tokio::io::duplex(1 << 16);
    let delivered = Arc::default();
    rows(&delivered).sink("table", Rows { output, waiting: Vec::new() }).run().await?;
    let mut text = String::new();
    input.read_to_string(&mut text).await?;
    assert_eq!((text.lines().count(), text.lines().last()), (250, Some("row 250")));
    assert_eq!(delivered.load(Ordering::Relaxed), 250);

    let (output, input) = tokio::io::duplex(1 << 16);
    drop(input);
    let delivered = Arc::default();
    let run = rows(&delivered).sink("table", Rows { output, waiting: Vec::new() }).run().await;
    assert!(run.is_err(), "nobody reads the output");
    assert_eq!(delivered.load(Ordering::Relaxed), 0);
    println!("250 rows were delivered, and none when the output was closed");
    Ok(())
}
