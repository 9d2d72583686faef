//! A worker: a `forebay run` under test, as a child process with a log file.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::proc;
use crate::violation::Invariant;

/// Longest time from start to ready, with a wide margin.
const START: Duration = Duration::from_mins(1);

/// The exit codes that `forebay --help` lists.
const DOCUMENTED: [i32; 8] = [0, 64, 65, 66, 69, 70, 75, 130];

pub(crate) struct Worker {
    pub(crate) name: String,
    pub(crate) pid: u32,
    // Dropping this kills the process (`kill_on_drop`).
    child: Child,
    log: PathBuf,
    ready: PathBuf,
}

/// How a worker ended.
#[derive(Debug)]
pub(crate) struct Exit {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) took: Duration,
    pub(crate) last_line: String,
}

impl Worker {
    /// Starts `forebay run` with a pipeline file that has the text `pipeline`. The paths of the
    /// log, the ready file and the pipeline file begin with `files`.
    pub(crate) fn start(forebay: &Path, name: &str, files: &Path, pipeline: &str) -> Result<Self> {
        let file = |suffix: &str| {
            let mut path = files.as_os_str().to_owned();
            path.push(suffix);
            PathBuf::from(path)
        };
        let log = file(".log");
        let ready = file(".ready");
        let toml = file(".toml");
        std::fs::write(&toml, pipeline)?;
        let child = Command::new(forebay)
            .args(["run", "--ready-file"])
            .args([&ready, &toml])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| forebay.display().to_string())?;
        let pid = child.id().context("the worker has ended already")?;
        Ok(Self { name: name.to_owned(), pid, child, log, ready })
    }

    /// Waits until the worker is ready for requests.
    pub(crate) async fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + START;
        while !self.ready.exists() {
            if let Some(status) = self.child.try_wait()? {
                return Err(self.broken(&format!("ended before it was ready ({status})")));
            }
            if Instant::now() > deadline {
                return Err(self.broken("was not ready in time"));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    pub(crate) async fn signal(&self, name: &str) -> Result<()> {
        proc::signal(self.pid, name).await
    }

    /// Kills the worker with SIGKILL, as in a crash, and waits for its end.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await?;
        Ok(())
    }

    pub(crate) fn try_exit(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits for the end of the worker.
    ///
    /// # Errors
    ///
    /// A violation of I10 if that takes longer than `within`, if the exit code is not documented,
    /// or if a failure leaves no reason in the log.
    pub(crate) async fn exit(&mut self, within: Duration) -> Result<Exit> {
        let start = Instant::now();
        let Ok(status) = timeout(within, self.child.wait()).await else {
            return Err(self.broken(&format!("did not end within {within:?}")));
        };
        let code = status?.code();
        let last_line = self.tail(1);
        match code {
            Some(code) if !DOCUMENTED.contains(&code) => {
                Err(self.broken(&format!("ended with the undocumented exit code {code}")))
            }
            Some(code) if code != 0 && last_line.is_empty() => {
                Err(self
                    .broken(&format!("ended with exit code {code} without a reason in its log")))
            }
            code => Ok(Exit { code, took: start.elapsed(), last_line }),
        }
    }

    /// Returns a violation of I10 that tells `what` the worker did, with the end of its log.
    pub(crate) fn broken(&self, what: &str) -> anyhow::Error {
        let text = format!("worker {} {what}; its log ends:\n{}", self.name, self.tail(15));
        Invariant::Exit.broken(text).into()
    }

    /// Returns the last `lines` lines of the log.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<_> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}
