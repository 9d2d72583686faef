//! The Kafka cluster, which `scripts/kafka.sh` starts and stops.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

pub(crate) const BROKERS: u16 = 3;

/// Distance from the first port of the cluster to the first of the six ports for clients behind a
/// proxy. Each broker has two of them: one on which it listens for its proxy, and after that the
/// one on which the proxy listens.
const PROXIED: u16 = 18;

const PATIENCE: Duration = Duration::from_mins(2);

/// Three brokers on loopback. Dropping this value stops them, unless they already ran when it was
/// created.
pub(crate) struct Cluster {
    dir: PathBuf,
    port: u16,
    started_here: bool,
}

impl Cluster {
    pub(crate) async fn start(port: u16, dir: &Path) -> Result<Self> {
        let mut cluster = Self { dir: dir.to_owned(), port, started_here: false };
        cluster.started_here = cluster.script(&["status"]).await.is_err();
        let brokers = BROKERS.to_string();
        let proxied = (port + PROXIED).to_string();
        let port = port.to_string();
        cluster
            .script(&["start", "--brokers", &brokers, "--port", &port, "--proxied", &proxied])
            .await?;
        Ok(cluster)
    }

    /// Returns the addresses of the brokers, for clients that connect directly.
    pub(crate) fn addresses(&self) -> String {
        addresses((0..BROKERS).map(|broker| self.port + 2 * broker))
    }

    /// Returns pairs of ports: that of each proxy, and that of the broker behind it.
    pub(crate) fn proxied(&self) -> impl Iterator<Item = (u16, u16)> {
        let first = self.port + PROXIED;
        (0..BROKERS).map(move |broker| (first + 2 * broker + 1, first + 2 * broker))
    }

    pub(crate) fn proxied_addresses(&self) -> String {
        addresses(self.proxied().map(|(proxy, _)| proxy))
    }

    /// Runs `action` on one broker: `kill`, `stop`, `pause`, `resume` or `start`. The first broker
    /// has number 1.
    pub(crate) async fn broker(&self, action: &str, broker: u16) -> Result<()> {
        self.script(&[&format!("broker-{action}"), "--broker", &broker.to_string()]).await.map(drop)
    }

    /// Resumes and starts all brokers, and waits until each accepts connections.
    pub(crate) async fn heal(&self) -> Result<()> {
        for broker in 1..=BROKERS {
            // Resuming fails if the broker is not paused, and starting fails if it is not down.
            self.broker("resume", broker).await.ok();
            self.broker("start", broker).await.ok();
        }
        for broker in 0..BROKERS {
            self.await_port(self.port + 2 * broker).await?;
        }
        Ok(())
    }

    async fn await_port(&self, port: u16) -> Result<()> {
        let open = async {
            while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, open).await.with_context(|| format!("no broker listens on port {port}"))
    }

    async fn script(&self, arguments: &[&str]) -> Result<String> {
        script(arguments, Some(&self.dir)).await
    }
}

impl Drop for Cluster {
    /// Stops the brokers and waits for their end. Ctrl-C drops the cluster too, so no broker is
    /// left running.
    fn drop(&mut self) {
        if self.started_here {
            std::process::Command::new(script_path())
                .args(["stop", "--dir"])
                .arg(&self.dir)
                .status()
                .ok();
        }
    }
}

/// Returns the folder of Kafka's jars.
pub(crate) async fn jars() -> Result<PathBuf> {
    Ok(script(&["libs"], None).await?.trim().into())
}

async fn script(arguments: &[&str], dir: Option<&Path>) -> Result<String> {
    let mut command = Command::new(script_path());
    command.args(arguments).kill_on_drop(true);
    if let Some(dir) = dir {
        command.arg("--dir").arg(dir);
    }
    let output = timeout(PATIENCE, command.output())
        .await
        .with_context(|| format!("kafka.sh {arguments:?} took longer than {PATIENCE:?}"))??;
    ensure!(
        output.status.success(),
        "kafka.sh {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn script_path() -> PathBuf {
    root().join("scripts/kafka.sh")
}

/// Returns the root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn addresses(ports: impl Iterator<Item = u16>) -> String {
    ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}
