//! The parts that all scenarios of one invocation share: the brokers, the independent Kafka client,
//! the binary under test and the folder of logs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use crate::Setup;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::pipeline::{Delivery, Pipeline};
use crate::violation::Tamper;

/// Files that the suite itself writes to the folder of logs. All other files there belong to
/// scenarios that failed or still run.
const SUITE_FILES: [&str; 2] = ["client.log", "check.toml"];

pub(crate) struct Suite {
    pub(crate) cluster: Cluster,
    pub(crate) client: Arc<Client>,
    pub(crate) forebay: PathBuf,
    pub(crate) delivery: Delivery,
    pub(crate) times: Option<u32>,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) logs: PathBuf,
    started: u128,
    runs: AtomicU32,
}

impl Suite {
    pub(crate) async fn open(
        setup: &Setup,
        delivery: Delivery,
        times: Option<u32>,
    ) -> Result<Self> {
        let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        let temporary = std::env::temp_dir();
        let logs = setup.logs.clone().unwrap_or_else(|| temporary.join("forebay-faults"));
        let logs = logs.join(started.to_string());
        std::fs::create_dir_all(&logs)?;
        let logs = logs.canonicalize()?;
        let forebay = setup.forebay.canonicalize();
        let forebay = forebay.with_context(|| {
            format!("{}: build it, or name another binary with --forebay", setup.forebay.display())
        })?;
        let dir = setup.kafka_dir.clone().unwrap_or_else(|| temporary.join("forebay-faults-kafka"));
        let cluster = Cluster::start(setup.port, &dir).await?;
        let client = Client::start(&cluster.addresses(), &logs.join(SUITE_FILES[0])).await?;
        let mut suite = Self {
            cluster,
            client: Arc::new(client),
            forebay,
            delivery,
            times,
            tamper: setup.tamper,
            logs,
            started,
            runs: AtomicU32::new(0),
        };
        suite.set_delivery(delivery).await?;
        Ok(suite)
    }

    /// Sets the delivery guarantee of the pipelines that are started from now on.
    ///
    /// # Errors
    ///
    /// If the binary does not accept a pipeline with this guarantee.
    pub(crate) async fn set_delivery(&mut self, delivery: Delivery) -> Result<()> {
        check_support(&self.forebay, delivery, &self.logs).await?;
        self.delivery = delivery;
        Ok(())
    }

    /// Returns a name that is unique in the cluster.
    pub(crate) fn name(&self, scenario: &str) -> String {
        let count = self.runs.fetch_add(1, Ordering::Relaxed);
        format!("{scenario}-{}-{count}", self.started)
    }

    /// Returns the logs and pipeline files that exist now.
    pub(crate) fn files(&self) -> BTreeSet<PathBuf> {
        let entries = std::fs::read_dir(&self.logs).into_iter().flatten();
        entries.flatten().map(|entry| entry.path()).collect()
    }

    /// Removes all logs and pipeline files except `files`.
    pub(crate) fn remove_except(&self, files: &BTreeSet<PathBuf>) {
        for file in self.files().difference(files) {
            std::fs::remove_file(file).ok();
        }
    }

    /// Waits until the client can read the ends of all partitions of a new topic. The brokers learn
    /// of the partitions one by one, and answer requests for the others with an error.
    pub(crate) async fn await_topic(&self, topic: &str) -> Result<()> {
        const LONGEST: Duration = Duration::from_secs(30);
        let deadline = Instant::now() + LONGEST;
        while let Err(error) = self.client.ends(topic, "read_uncommitted").await {
            if Instant::now() > deadline {
                return Err(
                    error.context(format!("topic {topic} could not be used within {LONGEST:?}"))
                );
            }
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }
}

impl Drop for Suite {
    /// Removes the folder of logs if no scenario failed: it holds only `SUITE_FILES` then.
    fn drop(&mut self) {
        if self.files().iter().all(|file| SUITE_FILES.iter().any(|name| file.ends_with(name))) {
            std::fs::remove_dir_all(&self.logs).ok();
        }
    }
}

/// Checks that the binary accepts a pipeline with this delivery guarantee.
async fn check_support(
    forebay: &PathBuf,
    delivery: Delivery,
    logs: &std::path::Path,
) -> Result<()> {
    let file = logs.join(SUITE_FILES[1]);
    std::fs::write(&file, Pipeline::new(delivery, "127.0.0.1:1".into(), "check").text("a"))?;
    let output = Command::new(forebay).arg("check").arg(&file).output().await?;
    ensure!(
        output.status.success(),
        "{} does not accept a pipeline with delivery {}:\n{}",
        forebay.display(),
        delivery.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
