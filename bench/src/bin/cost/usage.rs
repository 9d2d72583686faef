//! The memory over time and the CPU time of this process.

use std::fs;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Time between two samples of the memory.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(50);

/// Samples the resident memory of this process until it is stopped.
pub(crate) struct Watch {
    stop: Sender<()>,
    thread: JoinHandle<Vec<u64>>,
    cpu: f64,
}

/// The memory and CPU time of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage {
    /// Largest resident memory, in KiB.
    pub(crate) peak: u64,
    /// Median resident memory in each quarter of the time, in KiB.
    pub(crate) quarters: [u64; 4],
    /// CPU time of all threads, in user and kernel mode, in seconds.
    pub(crate) cpu: f64,
}

impl Watch {
    pub(crate) fn start() -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut resident = Vec::new();
            while stopped.recv_timeout(SAMPLE_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                resident.push(status("VmRSS:"));
            }
            resident
        });
        Self { stop, thread, cpu: cpu_seconds() }
    }

    pub(crate) fn stop(self) -> Usage {
        let cpu = cpu_seconds() - self.cpu;
        drop(self.stop);
        let resident = self.thread.join().unwrap_or_default();
        let quarter = |number: usize| {
            let part = number * resident.len() / 4..(number + 1) * resident.len() / 4;
            let mut part = resident[part].to_vec();
            part.sort_unstable();
            part.get(part.len() / 2).copied().unwrap_or_default()
        };
        Usage { peak: status("VmHWM:"), quarters: [0, 1, 2, 3].map(quarter), cpu }
    }
}

/// Reads a value of `/proc/self/status`, in KiB.
fn status(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}

fn cpu_seconds() -> f64 {
    // `utime` and `stime` are the 12th and 13th fields after the name, in ticks of 1/100 s.
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks = fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok());
    ticks.sum::<f64>() / 100.0
}
