//! A source for a custom system: reads the lines of a log, and remembers the line up to which all
//! lines are processed.
//!
//! Run it with `cargo run -p forebay-stream --example custom_source`.

use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_stream::{Event, Failure, Flow, InOrder, Meta, Origin, Outcome, Receipt, Source};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, Lines};

/// Reads the lines of a file, or of anything else that has lines.
struct Log<R> {
    lines: Lines<R>,
    read: u64,
    open: Arc<Mutex<InOrder<u64>>>,
    // The number of lines at the beginning of the log that are all done. After a restart, a source
    // would go on after them.
    committed: Arc<AtomicU64>,
}

impl<R: AsyncBufRead + Unpin + Send + 'static> Source<String> for Log<R> {
    type Error = io::Error;

    async fn next(&mut self) -> io::Result<Option<Event<String>>> {
        let Some(line) = self.lines.next_line().await? else { return Ok(None) };
        self.read += 1;
        let position = self.read;
        let ticket = self.open.lock().open();

        let open = Arc::clone(&self.open);
        let committed = Arc::clone(&self.committed);
        let receipt = Receipt::new(move |outcome| {
            // A line that failed, or whose event was dropped, stays open; nothing after it is
            // committed.
            if outcome == Outcome::Done {
                let mut open = open.lock();
                if let Some(last) = open.complete(ticket, position).last() {
                    committed.store(last, Ordering::Relaxed);
                }
            }
        });
        let origin = Origin { source: "log".into(), partition: None, position };
        let meta = Arc::new(Meta { origin, ..Meta::default() });
        Ok(Some(Event { value: line, meta, receipt }))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), forebay_stream::PipelineError> {
    let committed = Arc::<AtomicU64>::default();
    let lines = b"1\n2\nthree\n4\n".lines();
    let log = Log { lines, read: 0, open: Arc::default(), committed: Arc::clone(&committed) };

    let numbers = Flow::from_source("log", log)
        .try_map(|line| line.parse::<u32>().map_err(|e| Failure::new("not_a_number", e)));
    assert_eq!(numbers.collect().await?, [1, 2, 4]);
    assert_eq!(committed.load(Ordering::Relaxed), 2, "line 3 failed, and is read again");
    println!("2 of 4 lines are committed");
    Ok(())
}
