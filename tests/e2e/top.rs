//! `forebay top` in a pseudo-terminal.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::termios::{Winsize, tcsetwinsize};
use rustix_openpty::{Pty, openpty};
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::binary::{Service, forebay, output};
use crate::metrics::free;

const PATIENCE: Duration = Duration::from_secs(20);

/// A program in a pseudo-terminal, with the screen that it has drawn.
struct Terminal {
    program: Child,
    keys: File,
    screen: Arc<Mutex<vt100::Parser>>,
    controller: OwnedFd,
}

fn size(rows: u16, columns: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

fn cells(number: u16) -> NonZeroU16 {
    NonZeroU16::new(number).unwrap()
}

impl Terminal {
    fn start(arguments: &[&str], rows: u16, columns: u16) -> Self {
        let Pty { controller, user } = openpty(None, Some(&size(rows, columns))).unwrap();
        let end = || Stdio::from(user.try_clone().unwrap());
        let mut command = forebay();
        command.args(arguments).env("NO_COLOR", "1").env("TERM", "xterm-256color");
        let program = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let screen = Arc::new(Mutex::new(vt100::Parser::new(cells(rows), cells(columns), 0)));
        let drawn = Arc::clone(&screen);
        let mut written = File::from(controller.try_clone().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // Reading fails once the program has ended.
            while let Ok(length @ 1..) = written.read(&mut buffer) {
                drawn.lock().process(&buffer[..length]);
            }
        });
        let keys = File::from(controller.try_clone().unwrap());
        Self { program, keys, screen, controller }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, rows: u16, columns: u16) {
        self.screen.lock().screen_mut().set_size(cells(rows), cells(columns));
        tcsetwinsize(&self.controller, size(rows, columns)).unwrap();
    }

    /// Waits until the screen is as `is_expected` says, and returns it.
    fn until(&self, is_expected: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        loop {
            let text = self.screen.lock().screen().contents();
            if is_expected(&text) {
                return text;
            }
            assert!(start.elapsed() < PATIENCE, "the screen is:\n{text}");
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }

    fn ends(mut self) -> Option<i32> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.program.try_wait().unwrap() {
                return status.code();
            }
            assert!(start.elapsed() < PATIENCE, "the program goes on");
            std::thread::park_timeout(Duration::from_millis(30));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Both fail if the program has ended, as it should have.
        self.program.kill().ok();
        self.program.wait().ok();
    }
}

/// Returns the steps on the screen, in their order.
fn steps(screen: &str) -> Vec<&str> {
    let rows = screen.lines().skip_while(|line| !line.starts_with("STEP")).skip(1);
    let names = rows.map(|line| line.split(' ').next().unwrap_or_default());
    names.filter(|name| !name.is_empty() && *name != "q").collect()
}

#[test]
fn top_shows_rates_sorts_filters_resizes_and_tells_when_the_pipeline_is_gone() {
    let pages = free();
    let text = "name = \"numbers\"\n[source.interval]\nevery = \"5ms\"\n[[step]]\nname = \"odd\"\nfilter = \". % 2 == 1\"\n\
                [[step]]\nname = \"pairs\"\npartition = 2\n[[step]]\nmap = \"if .[0] % 4 == 1 then . else error(\\\"no\\\") end\"\n\
                [sink.stdout]\n";
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let mut command = forebay();
    command.args(["run", "--listen", &pages]).arg(file.path()).stdout(Stdio::null());
    let service = Service::start(&mut command);

    let mut top = Terminal::start(&["top", &pages, "--interval", "0.2"], 24, 80);
    let screen = top.until(|screen| screen.contains("2.0 size"));
    assert!(screen.starts_with("numbers  ready"), "{screen}");
    assert_eq!(steps(&screen)[..3], ["interval:", "catch", "decode"], "{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    let row = screen.lines().find(|line| line.starts_with("odd ")).unwrap();
    let rates: Vec<f64> =
        row.split_whitespace().skip(1).take(2).map(|rate| rate.parse().unwrap()).collect();
    assert!(rates[0] > 20.0 && rates[1] < rates[0], "{row}");

    // The first column sorts by name.
    top.press("\u{1b}[C");
    let sorted = top.until(|screen| steps(screen).is_sorted());
    top.press("r");
    top.until(|screen| steps(screen).iter().rev().is_sorted());
    top.press("/pai\r");
    let filtered = top.until(|screen| steps(screen) == ["pairs"]);
    assert!(steps(&sorted).len() > 5 && filtered.contains("filter: pai"), "{filtered}");
    top.resize(12, 50);
    top.press("\u{1b}");
    let narrow = top.until(|screen| steps(screen).len() > 3);
    assert!(narrow.lines().count() <= 12, "{narrow}");

    service.stop();
    top.until(|screen| screen.contains("NOT REACHABLE"));
    top.press("q");
    assert_eq!(top.ends(), Some(0));
}

#[test]
fn top_without_a_pipeline_says_what_to_do() {
    let address = free();
    let output = output(forebay().args(["top", &address]), "");
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(69), "{error}");
    assert!(error.contains(&address) && error.contains("--listen"), "{error}");
}
