//! The independent Kafka client: `client/Client.java` as a child process that takes commands and
//! returns their results as lines of JSON.

use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::cluster;

/// Longest wait for the result of a command. It is longer than every timeout inside the Java
/// client, whose own error comes first and is more precise.
const PATIENCE: Duration = Duration::from_secs(150);

/// Offsets by partition.
pub(crate) type Offsets = BTreeMap<i32, i64>;

type Follower = Box<dyn FnMut(&Value) + Send>;

pub(crate) struct Client {
    stdin: tokio::sync::Mutex<ChildStdin>,
    shared: Arc<Shared>,
    next: AtomicU64,
    // Dropping this kills the process (`kill_on_drop`).
    _child: Child,
}

#[derive(Default)]
struct Shared {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Value>>>,
    followers: Mutex<HashMap<u64, Follower>>,
}

impl Client {
    pub(crate) async fn start(brokers: &str, log: &Path) -> Result<Self> {
        let jars = cluster::jars().await?.join("*");
        let mut child = Command::new("java")
            .args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp"])
            .arg(jars)
            .arg(cluster::root().join("tests/faults/client/Client.java"))
            .arg(brokers)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log)?)
            .kill_on_drop(true)
            .spawn()
            .context("java could not be started; a JDK of version 17 or newer is needed")?;
        let stdin = child.stdin.take().context("standard input is no pipe")?;
        let stdout = child.stdout.take().context("standard output is no pipe")?;
        let shared = Arc::new(Shared::default());
        tokio::spawn(read(stdout, Arc::clone(&shared)));
        Ok(Self { stdin: stdin.into(), shared, next: AtomicU64::new(1), _child: child })
    }

    /// Sends a command and waits for its result.
    pub(crate) async fn call(&self, command: Value) -> Result<Value> {
        let answer = self.send(command).await?;
        let answer = timeout(PATIENCE, answer).await.context("the Kafka client does not answer")?;
        let answer = answer.context("the Kafka client has ended")?;
        match answer.get("error") {
            Some(error) => bail!("Kafka client: {error}"),
            None => Ok(answer),
        }
    }

    /// Sends a command, and returns a receiver of its result. The client runs `produce` commands in
    /// the order in which they are sent.
    pub(crate) async fn send(&self, command: Value) -> Result<oneshot::Receiver<Value>> {
        let (sender, answer) = oneshot::channel();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shared.lock_waiting().insert(number, sender);
        self.write(command, number).await?;
        Ok(answer)
    }

    /// Passes every record of a topic, from the first one on, to `follower`, in JSON objects of the
    /// form `{"records": [..], "positions": {..}}`.
    pub(crate) async fn follow(
        &self,
        topic: &str,
        isolation: &str,
        follower: impl FnMut(&Value) + Send + 'static,
    ) -> Result<()> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shared.lock_followers().insert(number, Box::new(follower));
        let command = json!({"op": "follow", "topic": topic, "isolation": isolation});
        self.write(command, number).await
    }

    pub(crate) async fn create(
        &self,
        topics: &[&str],
        partitions: u32,
        settings: Value,
    ) -> Result<()> {
        let command = json!({"op": "create", "topics": topics, "partitions": partitions, "settings": settings});
        self.call(command).await.map(drop)
    }

    pub(crate) async fn committed(&self, group: &str, topic: &str) -> Result<Offsets> {
        let command = json!({"op": "committed", "group": group, "topic": topic});
        Ok(offsets(&self.call(command).await?["committed"]))
    }

    pub(crate) async fn ends(&self, topic: &str, isolation: &str) -> Result<Offsets> {
        let command = json!({"op": "ends", "topic": topic, "isolation": isolation});
        Ok(offsets(&self.call(command).await?["ends"]))
    }

    async fn write(&self, mut command: Value, number: u64) -> Result<()> {
        command["n"] = number.into();
        let line = format!("{command}\n");
        let mut stdin = self.stdin.lock().await;
        stdin.write_all(line.as_bytes()).await.context("the Kafka client has ended")
    }
}

impl Shared {
    fn lock_waiting(&self) -> parking_lot::MutexGuard<'_, HashMap<u64, oneshot::Sender<Value>>> {
        self.waiting.lock()
    }

    fn lock_followers(&self) -> parking_lot::MutexGuard<'_, HashMap<u64, Follower>> {
        self.followers.lock()
    }
}

/// Passes each line of the client to its follower or to the caller that waits for it. When the
/// client ends, drops the senders, so that no caller waits forever.
async fn read(stdout: ChildStdout, shared: Arc<Shared>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if let Some(number) = line["follow"].as_u64() {
            if let Some(follower) = shared.lock_followers().get_mut(&number) {
                follower(&line);
            }
        } else if let Some(sender) =
            line["n"].as_u64().and_then(|number| shared.lock_waiting().remove(&number))
        {
            // The caller may have timed out.
            sender.send(line).ok();
        }
    }
    shared.lock_waiting().clear();
}

pub(crate) fn offsets(object: &Value) -> Offsets {
    let entries = object.as_object().into_iter().flatten();
    entries
        .filter_map(|(partition, offset)| Some((partition.parse().ok()?, offset.as_i64()?)))
        .collect()
}
