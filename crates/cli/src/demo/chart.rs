//! A bar chart of replies per second, for a terminal of 80 columns.

use std::fmt::Write as _;

/// Replies per second with one number of clients, batched and one by one.
pub(super) struct Point {
    pub(super) clients: u32,
    pub(super) batched: f64,
    pub(super) one_by_one: f64,
}

/// Length of the longest bar, in columns.
const WIDTH: f64 = 40.0;

/// Draws two bars for each point. The bar of the batched pipeline is filled and the other is
/// shaded, so that they differ without colour.
pub(super) fn draw(points: &[Point]) -> String {
    let most =
        points.iter().flat_map(|point| [point.batched, point.one_by_one]).fold(1.0, f64::max);
    let mut chart = format!("{:>7}{:>61}{:>10}\n", "clients", "replies/s", "ratio");
    let mut bar = |clients: &str, name: &str, fill: &str, rate: f64, ratio: &str| {
        let bar = fill.repeat(columns(rate / most));
        let row = format!("{clients:>7}  {name:<10}  {bar:<40}{rate:>7.0}{ratio:>10}");
        writeln!(chart, "{}", row.trim_end()).ok();
    };
    for &Point { clients, batched, one_by_one } in points {
        bar(&clients.to_string(), "batched", "█", batched, "");
        bar("", "one by one", "░", one_by_one, &format!("{:.1}x", batched / one_by_one));
    }
    chart
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 0 and the width of the chart"
)]
fn columns(share: f64) -> usize {
    (share * WIDTH).round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_the_rates_and_fit_80_columns() {
        let chart = draw(&[
            Point { clients: 1, batched: 100.0, one_by_one: 100.0 },
            Point { clients: 10_000, batched: 123_456.0, one_by_one: 61_728.0 },
        ]);
        let lines: Vec<_> = chart.lines().collect();
        assert_eq!(lines.len(), 5);
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{chart}");
        let count = |line: &str, fill: char| line.chars().filter(|&c| c == fill).count();
        assert_eq!(count(lines[3], '█'), 40);
        assert_eq!(count(lines[4], '░'), 20);
        assert!(lines[4].ends_with("2.0x"), "{chart}");
        assert!(lines[2].ends_with("1.0x"), "{chart}");
    }
}
