//! Reads lines as records.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use forebay_stream::{Event, Failure, Flow, Meta, Origin, Outcome, Receipt};
use futures::future::BoxFuture;
use futures::stream::{self, Stream};
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _};
use tokio_util::sync::CancellationToken;

use crate::codes;
use crate::error::RunError;
use crate::record::{Format, Record};
use crate::source::{Left, OpenSource, RunningSource, SourceControl};

/// Size of the read buffer for lines, in bytes.
pub(crate) const READ_AHEAD: usize = 256 << 10;

/// The longest line that is read, in bytes. A longer line fails, and the lines after it are read.
const MAX_LINE: usize = 64 << 20;

/// A record of the lines that got neither a result nor an error reply.
#[derive(Debug, Default)]
struct Unanswered {
    /// The first failure that no error reply reported.
    failure: OnceLock<Failure>,
    /// The number of lines that were abandoned, which means neither done nor failed. An example are
    /// the values for which a `zip` found no partner.
    abandoned: AtomicU64,
}

/// Returns a source of the lines of `reader`. `origin` names it in failures. Blank lines are skipped
/// unless lines are text or bytes, of which a blank line is a value like any other.
pub(crate) fn start(
    title: String,
    origin: String,
    reader: impl AsyncBufRead + Send + Unpin + 'static,
    format: Format,
) -> OpenSource {
    OpenSource::Other(Box::new(move |stop| {
        let unanswered = Arc::<Unanswered>::default();
        let skip_blank = format == Format::Json;
        let lines = lines(&origin, reader, skip_blank, stop, Arc::clone(&unanswered));
        let records = Flow::from_try_events(title, lines);
        let control = Box::new(CloseLines(unanswered));
        Box::pin(std::future::ready(Ok(RunningSource { records, control })))
    }))
}

/// Lines have no position to commit, so closing only counts lines without an answer.
struct CloseLines(Arc<Unanswered>);

impl SourceControl for CloseLines {
    fn close(self: Box<Self>, _: Duration) -> BoxFuture<'static, Result<Left, RunError>> {
        let Self(unanswered) = *self;
        let dropped = unanswered.abandoned.load(Ordering::Relaxed);
        Box::pin(std::future::ready(match unanswered.failure.get() {
            Some(failure) => Err(RunError::Unanswered { failure: failure.clone() }),
            None => Ok(Left { dropped, ..Left::default() }),
        }))
    }
}

/// Returns the lines of `reader`, until it ends or `stop` is cancelled.
///
/// A line's origin is `source` and the line's number, from 1. The source keeps no position, so the
/// outcome of a line has no effect except that failed and abandoned lines are recorded in
/// `unanswered`.
fn lines(
    source: &str,
    reader: impl AsyncBufRead + Send + Unpin + 'static,
    skip_blank: bool,
    stop: CancellationToken,
    unanswered: Arc<Unanswered>,
) -> impl Stream<Item = io::Result<Event<Record>>> + Send + 'static {
    let source: Arc<str> = source.into();
    stream::unfold((reader, 0_u64), move |(mut reader, mut number)| {
        let (source, stop, unanswered) =
            (Arc::clone(&source), stop.clone(), Arc::clone(&unanswered));
        async move {
            let next = next_line(&mut reader, skip_blank, &mut number, MAX_LINE);
            let next = stop.run_until_cancelled(next).await??;
            let event = next.map(|value| {
                let origin = Origin { source, partition: None, position: number };
                let meta = Arc::new(Meta { origin, ..Meta::default() });
                let receipt = Receipt::new(move |outcome| match outcome {
                    Outcome::Done => {}
                    // Later failures are dropped: the first one is reported.
                    Outcome::Failed(failure) => drop(unanswered.failure.set(failure)),
                    Outcome::Abandoned => _ = unanswered.abandoned.fetch_add(1, Ordering::Relaxed),
                });
                Event { value, meta, receipt }
            });
            Some((event, (reader, number)))
        }
    })
}

async fn next_line(
    reader: &mut (impl AsyncBufRead + Unpin),
    skip_blank: bool,
    number: &mut u64,
    longest: usize,
) -> Option<io::Result<Record>> {
    *number += 1;
    let mut line = Vec::new();
    loop {
        let left = longest - line.len();
        match (&mut *reader).take(left as u64).read_until(b'\n', &mut line).await {
            Ok(0) => return None,
            Ok(_) if line.len() == longest && !line.ends_with(b"\n") => {
                if let Err(error) = skip_line(reader).await {
                    return Some(Err(error));
                }
                let message =
                    format_args!("line {number} is longer than {longest} bytes; split it");
                return Some(Ok(Record::Unreadable(Failure::new(codes::LINE_TOO_LONG, message))));
            }
            Ok(_) if skip_blank && line.trim_ascii().is_empty() => {
                *number += 1;
                line.clear();
            }
            Ok(_) => {
                let end = line.strip_suffix(b"\n").unwrap_or(&line);
                let end = end.strip_suffix(b"\r").unwrap_or(end).len();
                line.truncate(end);
                return Some(Ok(Record::Bytes(Some(line.into()))));
            }
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Reads the rest of a line without keeping it.
async fn skip_line(reader: &mut (impl AsyncBufRead + Unpin)) -> io::Result<()> {
    loop {
        let bytes = reader.fill_buf().await?;
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let length = end.map_or(bytes.len(), |end| end + 1);
        reader.consume(length);
        if end.is_some() || length == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use forebay_stream::Event;
    use futures::StreamExt as _;
    use proptest::prelude::*;
    use tokio_util::sync::CancellationToken;

    use super::{lines, next_line};
    use crate::record::Record;

    async fn read(text: Vec<u8>) -> Vec<(u64, Vec<u8>)> {
        let reader = std::io::Cursor::new(text);
        let stop = CancellationToken::new();
        let lines = lines("stdin", reader, true, stop, Arc::default());
        let line = |event: std::io::Result<Event<Record>>| async {
            let event = event.unwrap();
            let Record::Bytes(Some(line)) = event.value else { panic!("a line is bytes") };
            (event.meta.origin.position, line.to_vec())
        };
        lines.then(line).collect().await
    }

    #[tokio::test]
    async fn blank_lines_are_skipped_but_counted() {
        let seen = read(b"1\r\n\n  \n{}".to_vec()).await;
        assert_eq!(seen, [(1, b"1".to_vec()), (4, b"{}".to_vec())]);
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_fails_alone_d9() {
        let text = b"1234567\n12345678\n\n123456789012345678901234567890\n2\n123456789".to_vec();
        let mut reader = tokio::io::BufReader::with_capacity(4, std::io::Cursor::new(text));
        let mut number = 0;
        let mut seen = Vec::new();
        while let Some(record) = next_line(&mut reader, true, &mut number, 8).await {
            seen.push(match record.unwrap() {
                Record::Bytes(Some(line)) => String::from_utf8(line.to_vec()).unwrap(),
                Record::Unreadable(failure) => failure.to_string(),
                other => panic!("{other:?}"),
            });
        }
        let long = |line| format!("line_too_long: line {line} is longer than 8 bytes; split it");
        assert_eq!(seen, ["1234567", &long(2), &long(4), "2", &long(6)]);
        let record = Record::Unreadable(forebay_stream::Failure::new("line_too_long", "x"));
        assert_eq!(record.decode(crate::record::Format::Json).unwrap_err().code(), "line_too_long");
    }

    proptest! {
        #[test]
        fn fuzz_any_bytes_are_read_to_their_end(bytes: Vec<u8>) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let seen = runtime.block_on(read(bytes.clone()));
            let expected = bytes.split(|&byte| byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
            prop_assert_eq!(seen.len(), expected.count());
        }
    }
}
