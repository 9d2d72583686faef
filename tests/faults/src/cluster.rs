//! The Kafka cluster, through `scripts/kafka.sh`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::{sleep, timeout};

pub(crate) const BROKERS: u16 = 3;

/// From a broker's first port to the one that its clients behind a proxy use.
const PROXIED: u16 = 18;

const PATIENCE: Duration = Duration::from_mins(2);

/// Three brokers on loopback. They stop when this is dropped, unless they ran before.
pub(crate) struct Cluster {
    dir: PathBuf,
    port: u16,
    ours: bool,
}

impl Cluster {
    pub(crate) async fn start(port: u16, dir: &Path) -> Result<Self> {
        let mut cluster = Self { dir: dir.to_owned(), port, ours: false };
        cluster.ours = cluster.script(&["status"]).await.is_err();
        let (brokers, port, proxied) =
            (BROKERS.to_string(), port.to_string(), (port + PROXIED).to_string());
        cluster
            .script(&["start", "--brokers", &brokers, "--port", &port, "--proxied", &proxied])
            .await?;
        Ok(cluster)
    }

    /// Addresses for clients that go straight to the brokers.
    pub(crate) fn addresses(&self) -> String {
        addresses((0..BROKERS).map(|broker| self.port + 2 * broker))
    }

    /// Addresses of the proxies, and behind each the broker's port.
    pub(crate) fn proxied(&self) -> impl Iterator<Item = (u16, u16)> {
        let first = self.port + PROXIED;
        (0..BROKERS).map(move |broker| (first + 2 * broker + 1, first + 2 * broker))
    }

    pub(crate) fn proxied_addresses(&self) -> String {
        addresses(self.proxied().map(|(proxy, _)| proxy))
    }

    /// `kill`, `stop`, `pause`, `resume` or `start` one broker, the first of which is 1.
    pub(crate) async fn broker(&self, what: &str, broker: u16) -> Result<()> {
        self.script(&[&format!("broker-{what}"), "--broker", &broker.to_string()]).await.map(drop)
    }

    /// Sees to it that all brokers run, whatever was done to them.
    pub(crate) async fn heal(&self) -> Result<()> {
        for broker in 1..=BROKERS {
            // Fails where it is not paused, or not down.
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
        timeout(PATIENCE, open).await.with_context(|| format!("no broker at port {port}"))
    }

    async fn script(&self, arguments: &[&str]) -> Result<String> {
        script(arguments, Some(&self.dir)).await
    }
}

impl Drop for Cluster {
    /// Waits for the brokers to end, also where the suite is interrupted.
    fn drop(&mut self) {
        if self.ours {
            std::process::Command::new(script_path())
                .args(["stop", "--dir"])
                .arg(&self.dir)
                .status()
                .ok();
        }
    }
}

/// Where Kafka's jars lie.
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

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn addresses(ports: impl Iterator<Item = u16>) -> String {
    ports.map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
}
