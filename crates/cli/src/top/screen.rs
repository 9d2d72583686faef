//! The screen of `forebay top`: a head with the whole pipeline, and a table of its steps.

use std::cmp::Ordering;
use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table};
use tokio::time::Instant;

use super::state::State;
use super::table::{Row, per_second, rows};

/// A column of the table.
struct Column {
    title: &'static str,
    /// The narrowest width.
    width: u16,
    /// The order of rows that are sorted by this column.
    order: fn(&Row, &Row) -> Ordering,
}

const fn column(title: &'static str, width: u16, order: fn(&Row, &Row) -> Ordering) -> Column {
    Column { title, width, order }
}

const COLUMNS: [Column; 9] = [
    column("STEP", 14, |one, other| one.step.cmp(&other.step)),
    column("IN/S", 7, |one, other| other.received.total_cmp(&one.received)),
    column("OUT/S", 7, |one, other| other.emitted.total_cmp(&one.emitted)),
    column("FAILED", 6, |one, other| other.failed.cmp(&one.failed)),
    column("INSIDE", 6, |one, other| other.inside.cmp(&one.inside)),
    column("WAITING", 7, |one, other| other.waiting.cmp(&one.waiting)),
    column("WAIT", 7, |one, other| by_number(other.wait, one.wait)),
    column("BATCH", 12, |one, other| by_number(other.mean(), one.mean())),
    column("PADDING", 7, |one, other| by_number(other.padding, one.padding)),
];

fn by_number(one: Option<f64>, other: Option<f64>) -> Ordering {
    one.unwrap_or(-1.0).total_cmp(&other.unwrap_or(-1.0))
}

impl Row {
    fn mean(&self) -> Option<f64> {
        self.batch.as_ref().map(|(mean, _)| *mean)
    }

    fn cells(&self) -> [String; COLUMNS.len()] {
        let some =
            |number: Option<f64>, show: fn(f64) -> String| number.map(show).unwrap_or_default();
        [
            self.step.clone(),
            short(self.received),
            short(self.emitted),
            self.failed.to_string(),
            self.inside.to_string(),
            self.waiting.to_string(),
            some(self.wait, seconds),
            self.batch
                .as_ref()
                .map_or(String::new(), |(mean, reason)| format!("{mean:.1} {reason}")),
            some(self.padding, |share| format!("{:.0} %", share * 100.0)),
        ]
    }
}

/// The readings that are shown, and the choices of the user.
#[derive(Default)]
pub(super) struct Screen {
    before: Option<(Instant, State)>,
    now: Option<(Instant, State)>,
    /// Why the last reading failed, and since when readings fail.
    lost: Option<(Instant, String)>,
    /// The column to sort by; `None` for the order of the pipeline.
    sorted_by: Option<usize>,
    is_reversed: bool,
    filter: String,
    is_filtering: bool,
    skipped: usize,
}

impl Screen {
    pub(super) fn read(&mut self, at: Instant, reading: Result<State, String>) {
        match reading {
            Ok(state) => {
                self.lost = None;
                self.before = self.now.replace((at, state));
            }
            Err(why) => {
                let since = self.lost.take().map_or(at, |(since, _)| since);
                self.lost = Some((since, why));
            }
        }
    }

    pub(super) fn is_filtering(&self) -> bool {
        self.is_filtering
    }

    pub(super) fn begin_filter(&mut self) {
        self.is_filtering = true;
    }

    pub(super) fn end_filter(&mut self, keep: bool) {
        self.is_filtering = false;
        if !keep {
            self.filter.clear();
        }
    }

    pub(super) fn type_letter(&mut self, letter: char) {
        self.filter.push(letter);
    }

    pub(super) fn delete_letter(&mut self) {
        self.filter.pop();
    }

    pub(super) fn reverse(&mut self) {
        self.is_reversed = !self.is_reversed;
    }

    /// Sorts by the next column, or by the one before; between the last and the first column, the
    /// rows are in the order of the pipeline.
    pub(super) fn sort_by_next(&mut self, forward: bool) {
        let last = COLUMNS.len() - 1;
        self.sorted_by = match (self.sorted_by, forward) {
            (None, true) => Some(0),
            (None, false) => Some(last),
            (Some(column), true) => (column < last).then_some(column + 1),
            (Some(column), false) => column.checked_sub(1),
        };
    }

    pub(super) fn scroll(&mut self, rows: isize) {
        self.skipped = self.skipped.saturating_add_signed(rows);
    }

    /// Returns the rows that are shown, in their order.
    fn rows(&self) -> Vec<Row> {
        let Some((at, now)) = &self.now else { return Vec::new() };
        let (since, before) = self.before.as_ref().map_or((*at, now), |(at, state)| (*at, state));
        let mut rows = rows(before, now, *at - since);
        rows.retain(|row| row.step.contains(&self.filter));
        if let Some(column) = self.sorted_by {
            rows.sort_by(COLUMNS[column].order);
        }
        if self.is_reversed {
            rows.reverse();
        }
        rows
    }

    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let head = self.head();
        let foot = self.foot();
        let lines = u16::try_from(head.len()).unwrap_or(u16::MAX);
        let [top, middle, bottom] = Layout::vertical([
            Constraint::Length(lines),
            Constraint::Min(2),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Paragraph::new(head), top);
        frame.render_widget(self.table(), middle);
        frame.render_widget(Paragraph::new(foot), bottom);
    }

    fn table(&self) -> Table<'static> {
        let title = |(column, Column { title, .. }): (usize, &Column)| {
            let sorted = self.sorted_by == Some(column);
            Cell::from(Line::from(*title).alignment(side(column))).style(if sorted {
                Style::new().add_modifier(Modifier::BOLD | Modifier::UNDERLINED)
            } else {
                Style::new().add_modifier(Modifier::BOLD)
            })
        };
        let titles = Cells::new(COLUMNS.iter().enumerate().map(title));
        let rows = self.rows();
        // At least one row stays in sight.
        let skipped = self.skipped.min(rows.len().saturating_sub(1));
        let cells = rows.into_iter().skip(skipped).map(|row| {
            let cells = row.cells().into_iter().enumerate();
            let cells =
                cells.map(|(column, text)| Cell::from(Line::from(text).alignment(side(column))));
            let cells = Cells::new(cells);
            if row.failed > 0 {
                cells.style(Style::new().add_modifier(Modifier::BOLD))
            } else {
                cells
            }
        });
        let widths =
            COLUMNS.iter().enumerate().map(|(column, Column { width, .. })| match column {
                0 => Constraint::Min(*width),
                _ => Constraint::Length(*width),
            });
        Table::new(cells, widths).header(titles).column_spacing(1)
    }

    /// Returns the lines above the table.
    fn head(&self) -> Vec<Line<'static>> {
        let Some((at, now)) = &self.now else { return vec!["no reading yet".into()] };
        let (since, before) = self.before.as_ref().map_or((*at, now), |(at, state)| (*at, state));
        let between = *at - since;
        let state = match (&self.lost, &now.unready) {
            (Some((since, _)), _) => {
                format!("NOT REACHABLE for {}", seconds(since.elapsed().as_secs_f64()))
            }
            (None, Some(why)) => format!("not ready: {why}"),
            (None, None) => "ready".to_owned(),
        };
        let up = humantime::format_duration(Duration::from_secs(whole(now.uptime_seconds)));
        let results = per_second(before.answers.results, now.answers.results, between);
        let errors = per_second(before.answers.errors, now.answers.errors, between);
        let mut lines = vec![
            Line::from(format!("{}  {state}  up {up}", now.pipeline))
                .style(Style::new().add_modifier(Modifier::BOLD)),
            format!(
                "{} answers/s  {} errors/s  {} errors in all",
                short(results),
                short(errors),
                now.answers.errors
            )
            .into(),
        ];
        for model in &now.models {
            let earlier = before.models.iter().find(|earlier| earlier.name == model.name);
            let inputs = per_second(earlier.map_or(0, |model| model.inputs), model.inputs, between);
            let busy = model.busy_seconds - earlier.map_or(0.0, |model| model.busy_seconds);
            let busy = (busy / between.as_secs_f64().max(1e-3)).clamp(0.0, 1.0) * 100.0;
            lines.push(
                format!("model {}  busy {busy:.0} %  {} inputs/s", model.name, short(inputs))
                    .into(),
            );
        }
        let lag = now.sum("forebay_kafka_lag", None);
        if now.samples.iter().any(|sample| sample.name == "forebay_kafka_lag") {
            let backlog = now.sum("forebay_backlog_seconds", None);
            lines.push(format!("lag {}  backlog {}", short(lag), seconds(backlog)).into());
        }
        if let Some(last) = now.failures.last() {
            lines.push(
                format!("last failure {} at {} for {}", last.code, last.step, last.origin).into(),
            );
        }
        lines
    }

    fn foot(&self) -> Line<'static> {
        if self.is_filtering {
            return format!("filter: {}_", self.filter).into();
        }
        if let Some((_, why)) = &self.lost {
            return why.clone().into();
        }
        let filter = if self.filter.is_empty() {
            String::new()
        } else {
            format!("  filter: {}", self.filter)
        };
        format!("q quit  left/right sort  r reverse  / filter  up/down scroll{filter}").into()
    }
}

/// Numbers stand at the right of their columns.
fn side(column: usize) -> ratatui::layout::HorizontalAlignment {
    use ratatui::layout::HorizontalAlignment::{Left, Right};
    if column == 0 || COLUMNS[column].title == "BATCH" { Left } else { Right }
}

/// Shows a number with about three digits.
fn short(number: f64) -> String {
    match number {
        number if number >= 1e6 => format!("{:.1}M", number / 1e6),
        number if number >= 1e4 => format!("{:.1}k", number / 1e3),
        number if number >= 10.0 || number == 0.0 => format!("{number:.0}"),
        number => format!("{number:.1}"),
    }
}

fn seconds(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 1e-3 => format!("{:.0} us", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.0} ms", seconds * 1e3),
        seconds if seconds < 100.0 => format!("{seconds:.1} s"),
        seconds => format!("{:.0} min", seconds / 60.0),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped before")]
fn whole(seconds: f64) -> u64 {
    seconds.clamp(0.0, 1e12) as u64
}
