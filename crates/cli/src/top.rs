//! `forebay top`: a table of a running pipeline's steps in the terminal.

mod screen;
mod state;
mod table;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use tokio::time::Instant;

use self::screen::Screen;
use self::state::State;
use crate::exit;

/// Show the steps of a running pipeline and their rates, again and again
///
/// Keys: q quits, left and right choose the column to sort by, r reverses the order, / filters
/// steps by name, up and down scroll.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The address at which the pipeline serves its pages (`forebay run --listen`)
    #[arg(default_value = "http://127.0.0.1:9090")]
    url: String,
    /// Seconds between two readings
    #[arg(long, default_value_t = 1.0, value_parser = interval)]
    interval: f64,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    if (0.1..=3600.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("expected 0.1 to 3600 seconds".to_owned())
    }
}

/// A reading of the pipeline's state, and when it was made; or why there is none.
type Reading = (Instant, Result<State, String>);

pub(crate) fn top(args: &Args) -> anyhow::Result<ExitCode> {
    let interval = Duration::from_secs_f64(args.interval);
    let url = state::url(&args.url);
    // A pipeline that is not there is an error of the command line, not an empty table.
    let first = match state::read(&url) {
        Ok(first) => first,
        Err(why) => {
            eprintln!("error: {why}");
            return Ok(ExitCode::from(exit::UNAVAILABLE));
        }
    };
    let (send, readings) = mpsc::channel();
    thread::spawn(move || {
        let mut reading = Ok(first);
        // Ends when the receiver is dropped.
        while send.send((Instant::now(), reading)).is_ok() {
            thread::park_timeout(interval);
            reading = state::read(&url);
        }
    });
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let ended = show(&mut terminal, &readings);
    ratatui::restore();
    ended.context("cannot use the terminal").map(|()| ExitCode::SUCCESS)
}

fn show(
    terminal: &mut ratatui::DefaultTerminal,
    readings: &mpsc::Receiver<Reading>,
) -> std::io::Result<()> {
    /// The longest wait for a key before readings are looked at.
    const TURN: Duration = Duration::from_millis(50);
    let mut screen = Screen::default();
    loop {
        for (at, reading) in readings.try_iter() {
            screen.read(at, reading);
        }
        terminal.draw(|frame| screen.draw(frame))?;
        if !event::poll(TURN)? {
            continue;
        }
        if let Event::Key(key) = event::read()?
            && key.kind != KeyEventKind::Release
            && is_over(&mut screen, key)
        {
            return Ok(());
        }
    }
}

/// Handles a key. Returns whether it ends the program.
fn is_over(screen: &mut Screen, key: KeyEvent) -> bool {
    if key.modifiers.contains(KeyModifiers::CONTROL) {
        return key.code == KeyCode::Char('c');
    }
    if screen.is_filtering() {
        match key.code {
            KeyCode::Char(letter) => screen.type_letter(letter),
            KeyCode::Backspace => screen.delete_letter(),
            KeyCode::Enter => screen.end_filter(true),
            KeyCode::Esc => screen.end_filter(false),
            _ => {}
        }
        return false;
    }
    match key.code {
        KeyCode::Char('q') => return true,
        KeyCode::Esc => screen.end_filter(false),
        KeyCode::Char('/') => screen.begin_filter(),
        KeyCode::Char('r') => screen.reverse(),
        KeyCode::Left => screen.sort_by_next(false),
        KeyCode::Right => screen.sort_by_next(true),
        KeyCode::Up => screen.scroll(-1),
        KeyCode::Down => screen.scroll(1),
        _ => {}
    }
    false
}
