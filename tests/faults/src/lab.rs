//! What all scenarios of one call share: brokers, the independent client, the binary, and a place for logs.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

use crate::Setup;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::pipeline::{Delivery, Pipeline};
use crate::violation::Tamper;

pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    pub(crate) client: Arc<Client>,
    pub(crate) forebay: PathBuf,
    pub(crate) delivery: Delivery,
    pub(crate) times: Option<u32>,
    pub(crate) tamper: Option<Tamper>,
    pub(crate) logs: PathBuf,
    started: u128,
    fields: AtomicU32,
}

impl Lab {
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
        let forebay = forebay
            .with_context(|| format!("{}: build it, or name another", setup.forebay.display()))?;
        let dir = setup.kafka_dir.clone().unwrap_or_else(|| temporary.join("forebay-faults-kafka"));
        let cluster = Cluster::start(setup.port, &dir).await?;
        let client = Client::start(&cluster.addresses(), &logs.join("client.log")).await?;
        let mut lab = Self {
            cluster,
            client: Arc::new(client),
            forebay,
            delivery,
            times,
            tamper: setup.tamper,
            logs,
            started,
            fields: AtomicU32::new(0),
        };
        if let Err(error) = lab.promise(delivery).await {
            lab.close().await;
            return Err(error);
        }
        Ok(lab)
    }

    /// From now on pipelines are to deliver like this.
    pub(crate) async fn promise(&mut self, delivery: Delivery) -> Result<()> {
        check_support(&self.forebay, delivery, &self.logs).await?;
        self.delivery = delivery;
        Ok(())
    }

    /// A name that nothing else in the cluster has.
    pub(crate) fn name(&self, scenario: &str) -> String {
        let count = self.fields.fetch_add(1, Ordering::Relaxed);
        format!("{scenario}-{}-{count}", self.started)
    }

    pub(crate) async fn close(self) {
        self.cluster.close().await;
        // Goes where nothing was wrong, for then nothing is in it but the client's own.
        std::fs::remove_file(self.logs.join("client.log")).ok();
        std::fs::remove_file(self.logs.join("check.toml")).ok();
        std::fs::remove_dir(&self.logs).ok();
    }
}

/// That the binary knows the kind of pipeline that it is to be tested with.
async fn check_support(
    forebay: &PathBuf,
    delivery: Delivery,
    logs: &std::path::Path,
) -> Result<()> {
    let file = logs.join("check.toml");
    std::fs::write(&file, Pipeline::new(delivery, "127.0.0.1:1".into(), "check").text("a"))?;
    let output = Command::new(forebay).arg("check").arg(&file).output().await?;
    ensure!(
        output.status.success(),
        "{} does not take a pipeline with delivery {}:\n{}",
        forebay.display(),
        delivery.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
