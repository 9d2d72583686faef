//! `Replay`: writes the requests of dead letters again to the topics that they came from.

use std::time::Duration;

use forebay_kafka::{DeadLetter, Error};
use tokio::time::Instant;

use crate::letters::Letters;
use crate::writer::{Confirmed, Writer};
use crate::{Letter, ReplayConfig, ReplayTo};

const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

/// The counts of a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Number of dead letters that were read.
    pub letters: u64,
    /// Number of letters that were written and confirmed.
    pub written: u64,
    /// Number of letters whose requests the brokers refused, for example because of their size. The
    /// next replay reads them again.
    pub refused: u64,
    /// Number of letters whose requests came from topics that the replay does not write to. The
    /// next replay reads them again.
    pub elsewhere: u64,
    /// Number of records that are not dead letters. They are not read again.
    pub others: u64,
    /// Number of letters that were written and will be written again by the next replay, because
    /// the commit cannot list all the scattered offsets that are done.
    pub forgotten: u64,
}

/// Writes the requests of dead letters to the topics that they came from: key, value and their own
/// headers byte for byte, with a new timestamp.
///
/// [`next`](Self::next) returns the letters that were not replayed before, up to the last one that
/// existed when the replay connected, so that a request that fails again is not replayed forever.
/// Letters that are passed to [`send`](Self::send) are written; the others remain for another
/// replay. A letter is noted as replayed after its request is confirmed, so after a crash some
/// requests may be written twice, but none is lost.
///
/// At most 1,000 requests, or 16 MiB of them, are sent and not yet confirmed.
pub struct Replay {
    letters: Letters,
    writer: Writer,
    replayed: Replayed,
    next_commit: Instant,
}

impl Replay {
    /// Connects to the brokers, checks that the topics exist, and finds the offsets at which the
    /// replay begins and ends.
    ///
    /// # Errors
    ///
    /// Returns an error if the configuration is invalid, if no broker answers within ten seconds,
    /// or if a topic does not exist.
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

    /// Returns the next dead letter that can be replayed; `None` at the end. Records that are not
    /// dead letters, and letters whose requests came from topics that the replay does not write to,
    /// are counted and skipped. This method is cancel safe.
    ///
    /// # Errors
    ///
    /// Returns an error if the topic can no longer be read, or if letters that were sent could not
    /// be written.
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
                tracing::debug!(at = %record.at, "skipped a record that is not a dead letter");
                self.replayed.others += 1;
                let offset = i64::try_from(record.at.position).unwrap_or(i64::MAX);
                self.letters.done(record.at.partition.unwrap_or_default(), offset);
                continue;
            };
            self.replayed.letters += 1;
            if self.topic_for(&about).is_none() {
                tracing::debug!(at = %record.at, origin = %about.origin, "skipped a letter whose request came from a topic that the replay does not write to");
                self.replayed.elsewhere += 1;
                continue;
            }
            let headers = DeadLetter::original_headers(record.headers);
            let key = record.key;
            let value = record.value;
            let at = record.at;
            return Ok(Some(Letter { about, key, value, headers, at }));
        }
    }

    /// Returns the topic that the request of this letter is written to, if the replay writes it.
    #[must_use]
    pub fn topic_for(&self, letter: &DeadLetter) -> Option<&str> {
        self.writer.topic_for(&letter.origin.source)
    }

    /// Queues a letter's request. Waits while too many are not confirmed.
    ///
    /// # Errors
    ///
    /// Returns an error if this letter or one before it could not be written, or if the progress
    /// cannot be committed.
    pub async fn send(&mut self, letter: &Letter) -> Result<(), Error> {
        while self.writer.is_full(letter) {
            let confirmed = self.writer.confirmed().await?;
            self.note(confirmed);
        }
        while !self.writer.send(letter)? {
            // librdkafka's queue has room once a record has left it.
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

    /// Returns the counts so far. A replay that is dropped commits no further progress.
    #[must_use]
    pub fn replayed(&self) -> Replayed {
        self.replayed
    }

    /// Waits until every request is confirmed, and commits the progress.
    ///
    /// # Errors
    ///
    /// Returns an error if letters could not be written, or if the progress cannot be committed.
    /// The progress of confirmed letters is committed in either case, if possible.
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
                tracing::warn!(partition, offset, %error, "the brokers refused a dead letter's request");
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
