//! `Followed`: a reader of a file that grows.

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::fs::File;
use tokio::io::{AsyncBufRead, AsyncRead, BufReader, ReadBuf};
use tokio::time::{Sleep, sleep};

/// The interval at which the file is checked for new bytes.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A reader that waits for more bytes at the end of its file.
///
/// A file that was truncated, or replaced by another as when logs are rotated, is read from its
/// beginning. An unfinished line at the end of the old file counts as a line.
pub(crate) struct Followed {
    path: PathBuf,
    capacity: usize,
    reader: BufReader<File>,
    opened: Metadata,
    // The number of bytes of the open file that have been consumed.
    position: u64,
    pause: Pin<Box<Sleep>>,
    // True after the file was reopened, until the reader has returned a newline. The newline ends
    // the last line of the old file, which may be unfinished.
    separator: bool,
}

const SEPARATOR: &[u8] = b"\n";

impl Followed {
    pub(crate) async fn open(path: &Path, capacity: usize) -> io::Result<Self> {
        let file = File::open(path).await?;
        let opened = file.metadata().await?;
        let reader = BufReader::with_capacity(capacity, file);
        let pause = Box::pin(sleep(Duration::ZERO));
        Ok(Self {
            path: path.into(),
            capacity,
            reader,
            opened,
            position: 0,
            pause,
            separator: false,
        })
    }

    /// Reopens the file if the path now names another file, or if the file has become shorter than
    /// the bytes consumed.
    fn look_again(&mut self) -> io::Result<()> {
        let now = match fs::metadata(&self.path) {
            Ok(now) => now,
            // During a rotation there may be no file for a moment.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        if same_file(&now, &self.opened) && now.len() >= self.position {
            return Ok(());
        }
        tracing::info!(path = %self.path.display(), "the file was replaced or truncated; reading it from its beginning");
        let file = fs::File::open(&self.path)?;
        self.opened = file.metadata()?;
        self.reader = BufReader::with_capacity(self.capacity, File::from_std(file));
        self.position = 0;
        self.separator = true;
        Ok(())
    }
}

#[cfg(unix)]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

#[cfg(not(unix))]
fn same_file(one: &Metadata, other: &Metadata) -> bool {
    one.created().ok() == other.created().ok()
}

impl AsyncBufRead for Followed {
    fn poll_fill_buf(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        loop {
            let this = &mut *self;
            if this.separator {
                return Poll::Ready(Ok(SEPARATOR));
            }
            if !ready!(Pin::new(&mut this.reader).poll_fill_buf(cx))?.is_empty() {
                break;
            }
            // The end of the file: waits, then checks for a new file and tries to read again.
            ready!(this.pause.as_mut().poll(cx));
            this.pause.set(sleep(LOOK_AGAIN));
            this.look_again()?;
        }
        Pin::new(&mut self.get_mut().reader).poll_fill_buf(cx)
    }

    fn consume(mut self: Pin<&mut Self>, amount: usize) {
        if std::mem::take(&mut self.separator) {
            return;
        }
        self.position += amount as u64;
        Pin::new(&mut self.reader).consume(amount);
    }
}

impl AsyncRead for Followed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let available = ready!(self.as_mut().poll_fill_buf(cx))?;
        let amount = available.len().min(buffer.remaining());
        buffer.put_slice(&available[..amount]);
        self.consume(amount);
        Poll::Ready(Ok(()))
    }
}
