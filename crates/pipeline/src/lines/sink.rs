//! `LinesSink`: writes answers as lines.

use std::io;
use std::time::Duration;

use forebay_stream::{Event, Receipt, Sink};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio::time::Instant;

use crate::answer::Answer;

/// The moment at which a line counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// When it is in the write buffer. Used if every source is read from its start after a restart:
    /// an answer that is lost with the buffer is then computed again. It also keeps error replies
    /// in the order of the input: an error reply waits until all lines before it are settled.
    Buffered,
    /// When it has been flushed to the operating system.
    Flushed,
}

/// Writes one line for each answer. The flow calls `flush` when no answer is ready. While answers
/// keep coming, the sink itself flushes with the first line after `MAX_WAIT`.
pub(crate) struct LinesSink<W> {
    writer: BufWriter<W>,
    // The time of the last flush or, before the first flush, the time of the first line.
    flushed: Option<Instant>,
    confirm: Confirm,
    // The receipts of lines that are not flushed yet, at most `MAX_UNFLUSHED`.
    unflushed: Vec<Receipt>,
}

const MAX_UNFLUSHED: usize = 1024;

/// The longest time between two flushes while answers keep coming. Without it, lines would stay in
/// the buffer as long as there is always another answer ready.
const MAX_WAIT: Duration = Duration::from_millis(20);

impl<W: AsyncWrite + Send + Unpin + 'static> LinesSink<W> {
    pub(crate) fn new(writer: W, confirm: Confirm) -> Self {
        let writer = BufWriter::with_capacity(64 << 10, writer);
        Self { writer, flushed: None, confirm, unflushed: Vec::new() }
    }
}

impl<W: AsyncWrite + Send + Unpin + 'static> Sink<Answer> for LinesSink<W> {
    type Error = io::Error;

    async fn send(&mut self, event: Event<Answer>) -> io::Result<()> {
        self.writer.write_all(&event.value.value).await?;
        self.writer.write_all(b"\n").await?;
        match self.confirm {
            Confirm::Buffered => event.receipt.done(),
            Confirm::Flushed => self.unflushed.push(event.receipt),
        }
        let now = Instant::now();
        let waited = now - *self.flushed.get_or_insert(now);
        if self.unflushed.len() >= MAX_UNFLUSHED || waited >= MAX_WAIT {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await?;
        self.flushed = Some(Instant::now());
        self.unflushed.drain(..).for_each(Receipt::done);
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.writer.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use forebay_stream::{Event, Sink as _};
    use tokio::time::sleep;

    use super::{Confirm, LinesSink, MAX_WAIT};
    use crate::answer::Answer;
    use crate::json::Json;

    #[tokio::test(start_paused = true)]
    async fn lines_are_flushed_in_time_although_the_flow_never_pauses() {
        let (writer, mut reader) = tokio::io::duplex(1024);
        let mut sink = LinesSink::new(writer, Confirm::Buffered);
        let mut seen = [0; 4];
        for number in 0..2_usize {
            sink.send(Event::detached(Answer::result(&Json::from(number)).unwrap())).await.unwrap();
            sleep(MAX_WAIT).await;
        }
        // The sink has flushed without a call of `flush`.
        tokio::io::AsyncReadExt::read_exact(&mut reader, &mut seen).await.unwrap();
        assert_eq!(&seen, b"0\n1\n");
    }
}
