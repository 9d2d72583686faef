//! Reads the memory, file descriptors and threads of a process from `/proc`, and sends it signals.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use tokio::process::Command;

/// The resources that a process holds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vitals {
    /// Resident memory, in KiB.
    pub(crate) memory: u64,
    /// Number of open file descriptors.
    pub(crate) files: u64,
    pub(crate) threads: u64,
}

/// Reads the resources of a process. Returns `None` once it has ended.
pub(crate) fn vitals(pid: u32) -> Option<Vitals> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let status = std::fs::read_to_string(folder.join("status")).ok()?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let files = std::fs::read_dir(folder.join("fd")).ok()?.count() as u64;
    Some(Vitals { memory: field("VmRSS:")?, files, threads: field("Threads:")? })
}

/// Sends a signal by name, such as `TERM`, to a process that this suite started.
pub(crate) async fn signal(pid: u32, name: &str) -> Result<()> {
    let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().await;
    ensure!(status.context("kill")?.success(), "SIG{name} could not be sent to {pid}");
    Ok(())
}
