//! `Replay`: dead letters, written again where they came from.

mod letters;
mod progress;
mod writer;

use std::time::Duration;

use bytes::Bytes;
use forebay_stream::{Header, Origin};
use tokio::time::Instant;

use self::letters::Letters;
use self::writer::{Confirmed, Writer};
use crate::{DeadLetter, Error, SinkConfig, SourceConfig};

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// Where dead letters are, and where their requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplayConfig {
    /// The topic of the dead letters, and the group under whose name is noted what was replayed. No other consumer may
    /// be in that group.
    pub letters: SourceConfig,
    /// Where requests are written.
    pub to: ReplayTo,
    /// Whether to read letters that were replayed before, too.
    pub from_beginning: bool,
}

/// Where requests are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplayTo {
    /// To the topic and the partition that they came from, if the topic is one of these.
    Origins(Vec<SinkConfig>),
    /// To this topic, wherever they came from, in their key's partition.
    Topic(SinkConfig),
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// What went wrong, and where the request came from.
    pub about: DeadLetter,
    /// The request's key.
    pub key: Option<Bytes>,
    /// The request's value.
    pub value: Option<Bytes>,
    /// The request's own headers.
    pub headers: Vec<Header>,
    /// Where the letter lies.
    pub at: Origin,
}

/// What a replay has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Dead letters that were read.
    pub letters: u64,
    /// Those of them that were written, and confirmed.
    pub written: u64,
    /// Those that the brokers refused, such as for their size. They stay where they are.
    pub refused: u64,
    /// Those that came from topics that the replay does not write. They stay where they are.
    pub elsewhere: u64,
    /// Records that are no dead letters. They are not read again.
    pub others: u64,
    /// Letters that were written, and will be again by the next replay: too many lie scattered among others.
    pub forgotten: u64,
}

/// Writes the requests of dead letters to the topics that they came from: key, value and their own headers byte for
/// byte, with a new timestamp.
///
/// [`next`](Self::next) gives the letters one by one, from those that were not replayed before up to the last that there
/// was when the replay connected, so that what fails again is not replayed for ever. What is handed to
/// [`send`](Self::send) is written; what is not stays for another replay. Letters are noted as replayed after they are
/// confirmed, so that a crash may lead to some being written twice, and to none being lost.
///
/// At most 1,000 letters, or 16 MiB of them, are written and not yet confirmed.
pub struct Replay {
    letters: Letters,
    writer: Writer,
    replayed: Replayed,
    next_commit: Instant,
}

impl Replay {
    /// Connects to the brokers, checks that the topics exist, and looks up where to begin and to end.
    ///
    /// # Errors
    ///
    /// When the configuration cannot work, when no broker answers within ten seconds, and when there is no such topic.
    pub async fn connect(config: ReplayConfig) -> Result<Self, Error> {
        if let ReplayTo::Topic(to) = &config.to
            && to.topic == config.letters.topic
        {
            let reason = format!("{} is the topic of the dead letters itself", to.topic);
            return Err(Error::Setting { setting: "to", reason });
        }
        let letters = Letters::open(config.letters, config.from_beginning).await?;
        let writer = Writer::connect(config.to).await?;
        let next_commit = Instant::now() + COMMIT_INTERVAL;
        Ok(Self { letters, writer, replayed: Replayed::default(), next_commit })
    }

    /// The next dead letter that can be replayed; `None` at the end. Records that are no dead letters, and letters from
    /// topics that the replay does not write, are counted and passed over. May be cancelled.
    ///
    /// # Errors
    ///
    /// When the topic cannot be read any more, and when letters that were sent could not be written.
    pub async fn next(&mut self) -> Result<Option<Letter>, Error> {
        loop {
            let record = tokio::select! {
                confirmed = self.writer.confirmed(), if !self.writer.is_idle() => {
                    self.note(confirmed?);
                    continue;
                }
                record = self.letters.next() => record?,
            };
            let Some(record) = record else { return Ok(None) };
            let Some(about) = DeadLetter::read(&record.headers) else {
                tracing::debug!(at = %record.at, "is no dead letter");
                self.replayed.others += 1;
                let offset = i64::try_from(record.at.position).unwrap_or(i64::MAX);
                self.letters.done(record.at.partition.unwrap_or_default(), offset);
                continue;
            };
            self.replayed.letters += 1;
            if self.topic_for(&about).is_none() {
                tracing::debug!(at = %record.at, origin = %about.origin, "came from elsewhere");
                self.replayed.elsewhere += 1;
                continue;
            }
            let headers = DeadLetter::original_headers(record.headers);
            let (key, value, at) = (record.key, record.value, record.at);
            return Ok(Some(Letter { about, key, value, headers, at }));
        }
    }

    /// The topic that the request of such a letter is written to, if the replay writes it.
    #[must_use]
    pub fn topic_for(&self, letter: &DeadLetter) -> Option<&str> {
        self.writer.topic_for(&letter.origin.source)
    }

    /// Queues a letter's request; waits while too many are not confirmed yet.
    ///
    /// # Errors
    ///
    /// When a letter could not be written, this one or one before it, and when what was replayed cannot be noted.
    pub async fn send(&mut self, letter: &Letter) -> Result<(), Error> {
        while self.writer.is_full(letter) {
            let confirmed = self.writer.confirmed().await?;
            self.note(confirmed);
        }
        while !self.writer.send(letter)? {
            // librdkafka's queue has room when something has left it.
            let confirmed = self.writer.confirmed().await?;
            self.note(confirmed);
            tokio::task::yield_now().await;
        }
        if Instant::now() >= self.next_commit {
            self.replayed.forgotten = self.letters.commit().await?;
            self.next_commit = Instant::now() + COMMIT_INTERVAL;
        }
        Ok(())
    }

    /// What has been done so far. To drop the replay then notes nothing more.
    #[must_use]
    pub fn replayed(&self) -> Replayed {
        self.replayed
    }

    /// Waits until everything is confirmed, and notes what was replayed.
    ///
    /// # Errors
    ///
    /// When letters could not be written, or what was replayed cannot be noted. What was confirmed is noted all the
    /// same, if it can be.
    pub async fn close(mut self) -> (Replayed, Result<(), Error>) {
        let mut result = Ok(());
        loop {
            match self.writer.confirmed().await {
                Ok(None) => break,
                Ok(confirmed) => self.note(confirmed),
                Err(error) => result = Err(error),
            }
        }
        match self.letters.commit().await {
            Ok(forgotten) => self.replayed.forgotten = forgotten,
            Err(error) => result = result.and(Err(error)),
        }
        (self.replayed, result)
    }

    fn note(&mut self, confirmed: Option<Confirmed>) {
        let Some(Confirmed { partition, offset, result }) = confirmed else { return };
        match result {
            Ok(()) => {
                self.replayed.written += 1;
                self.letters.done(partition, offset);
            }
            Err(error) => {
                tracing::warn!(partition, offset, %error, "a dead letter was refused");
                self.replayed.refused += 1;
            }
        }
    }
}

impl std::fmt::Debug for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replay").field("replayed", &self.replayed).finish_non_exhaustive()
    }
}
