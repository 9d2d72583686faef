//! Runs the `forebay` binary as a child process.

use parking_lot::Mutex;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::time::Instant;

/// Returns the root of the repository, the working directory of all commands.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub(crate) fn forebay() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
    command.current_dir(root());
    command
}

/// Runs `forebay` to its end with `input` on standard input.
pub(crate) fn output(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || {
        // This fails if the child ends before it has read its input.
        stdin.write_all(input.as_bytes()).ok();
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// A `forebay run` that is ready for requests. Dropping it kills the process.
pub(crate) struct Service {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Service {
    /// Starts the command and waits until it logs that it is ready.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        for line in lines.by_ref() {
            let line = line.unwrap();
            let ready = line.ends_with("ready");
            log.lock().push_str(&(line + "\n"));
            if ready {
                let rest = Arc::clone(&log);
                let reader = std::thread::spawn(move || {
                    for line in lines.map_while(Result::ok) {
                        rest.lock().push_str(&(line + "\n"));
                    }
                });
                return Self { child, log, reader: Some(reader) };
            }
        }
        panic!("ended before it was ready ({:?}):\n{}", child.wait(), log.lock());
    }

    /// Returns the standard output, which the command must have piped.
    pub(crate) fn stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        let status =
            Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(status.unwrap().success());
    }

    /// Stops the process by SIGTERM, checks that it exits with code 0, and returns its log.
    pub(crate) fn stop(mut self) -> String {
        self.signal("TERM");
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let log = self.log.lock().clone();
        assert!(status.success(), "{status}:\n{log}");
        log
    }

    /// Kills the process with SIGKILL, as in a crash, and waits for its end.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // The process may have ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// A `forebay run` that may or may not become ready. Dropping it kills the process.
pub(crate) struct Run {
    child: Mutex<Child>,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Run {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                written.lock().push_str(&(line + "\n"));
            }
        });
        Self { child: Mutex::new(child), log, reader: Some(reader) }
    }

    pub(crate) fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Returns the log since the last call.
    pub(crate) fn take_log(&self) -> String {
        std::mem::take(&mut self.log.lock())
    }

    /// Waits for a line with this text, and returns it.
    pub(crate) fn await_line(&self, text: &str, patience: Duration) -> String {
        let started = Instant::now();
        loop {
            let log = self.log();
            if let Some(line) = log.split_inclusive('\n').find(|line| line.contains(text)) {
                return line.to_owned();
            }
            assert!(started.elapsed() < patience, "no line with {text:?} in {patience:?}:\n{log}");
            assert!(self.status().is_none(), "ended before it logged {text:?}:\n{log}");
            std::thread::park_timeout(Duration::from_millis(50));
        }
    }

    fn status(&self) -> Option<ExitStatus> {
        self.child.lock().try_wait().unwrap()
    }

    pub(crate) fn signal(&self, name: &str) {
        let id = self.child.lock().id().to_string();
        assert!(Command::new("kill").arg(format!("-{name}")).arg(id).status().unwrap().success());
    }

    /// Waits for the end of the process, and returns its status and its log.
    pub(crate) fn ended(mut self, patience: Duration) -> (ExitStatus, String) {
        let started = Instant::now();
        let status = loop {
            if let Some(status) = self.status() {
                break status;
            }
            let log = self.log();
            assert!(started.elapsed() < patience, "did not end within {patience:?}:\n{log}");
            std::thread::park_timeout(Duration::from_millis(20));
        };
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        (status, self.log())
    }

    /// Stops the process by SIGTERM, checks that it exits with code 0, and returns its log.
    pub(crate) fn stop(self) -> String {
        self.signal("TERM");
        let (status, log) = self.ended(Duration::from_mins(1));
        assert!(status.success(), "{status}:\n{log}");
        log
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let mut child = self.child.lock();
        // The process may have ended already.
        child.kill().ok();
        child.wait().ok();
    }
}
