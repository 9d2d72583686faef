//! Answers as lines.

use std::io;

use forebay_stream::{Event, Receipt, Sink};
use tokio::io::{AsyncWrite, AsyncWriteExt as _, BufWriter};

use crate::answer::Answer;

/// When a line counts as delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirm {
    /// When it is in the buffer: for inputs that cannot be read again anyway, so that answers can be put in order.
    Buffered,
    /// When the operating system has it.
    Flushed,
}

/// Writes one line for each answer, and flushes whenever nothing more is ready.
pub(crate) struct LinesSink<W> {
    writer: BufWriter<W>,
    confirm: Confirm,
    // Receipts of lines that are not flushed yet; at most `MAX_UNFLUSHED`.
    unflushed: Vec<Receipt>,
}

const MAX_UNFLUSHED: usize = 1024;

impl<W: AsyncWrite + Send + Unpin + 'static> LinesSink<W> {
    pub(crate) fn new(writer: W, confirm: Confirm) -> Self {
        Self { writer: BufWriter::with_capacity(64 << 10, writer), confirm, unflushed: Vec::new() }
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
        if self.unflushed.len() >= MAX_UNFLUSHED {
            self.flush().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.writer.flush().await?;
        self.unflushed.drain(..).for_each(Receipt::done);
        Ok(())
    }

    async fn close(&mut self) -> io::Result<()> {
        self.flush().await?;
        self.writer.shutdown().await
    }
}
