//! The figures as two plots: the time to answer a burst of requests, and the latency under steady
//! load.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::Ranged;
use plotters::prelude::*;

use super::point::{Figures, Point};

const SIZE: (u32, u32) = (960, 400);
const BATCHED: RGBColor = RGBColor(0x0b, 0x6e, 0x99);
const ONE_BY_ONE: RGBColor = RGBColor(0xc8, 0x55, 0x1b);
const FONT: &str = "sans-serif";

/// Draws `points` as SVG.
pub(super) fn draw(points: &[Point]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let (left, right) = root.split_horizontally(SIZE.0 / 2);
    draw_bursts(&left, points)?;
    draw_latencies(&right, points)?;
    root.present()?;
    drop((left, right, root));
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A line through measured points, with its name in the legend.
struct Curve {
    name: &'static str,
    color: RGBColor,
    /// Line width, in pixels.
    width: u32,
    points: Vec<(f64, f64)>,
}

impl Curve {
    /// Creates a curve of the numbers that `number` reads from the figures, over the number of
    /// clients. The color `BATCHED` chooses the figures of the batched pipeline; any other color
    /// chooses those of the pipeline without batches.
    fn new(
        name: &'static str,
        color: RGBColor,
        width: u32,
        points: &[Point],
        number: impl Fn(&Figures) -> f64,
    ) -> Self {
        let side = |point: &Point| {
            number(if color == BATCHED { &point.batched } else { &point.one_by_one })
        };
        let points = points.iter().map(|point| (f64::from(point.clients), side(point))).collect();
        Self { name, color, width, points }
    }
}

/// Plots the time to answer a burst of one request per client.
fn draw_bursts(area: &Area<'_>, points: &[Point]) -> anyhow::Result<()> {
    let both = |point: &Point| [point.batched.burst, point.one_by_one.burst];
    let slowest = points.iter().flat_map(both).max().unwrap_or_default().as_secs_f64();
    let most = points.iter().map(|point| f64::from(point.clients)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Time to answer N requests sent at once", (FONT, 17))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..most * 1.05, 0.0..(slowest * 1.1).max(1e-3))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .x_desc("N")
        .y_desc("seconds")
        .x_label_formatter(&|n| format!("{n:.0}"))
        .draw()?;
    let seconds = |figures: &Figures| figures.burst.as_secs_f64();
    let curves = [
        Curve::new("one by one", ONE_BY_ONE, 2, points, seconds),
        Curve::new("batched", BATCHED, 2, points, seconds),
    ];
    draw_curves(&mut chart, curves)
}

/// Plots median and 99th percentile of the latency, with logarithmic axes.
fn draw_latencies(area: &Area<'_>, points: &[Point]) -> anyhow::Result<()> {
    let latencies = points.iter().flat_map(|point| {
        [&point.batched, &point.one_by_one]
            .map(|figures| [0.5, 0.99].map(|q| figures.latency_ms(q)))
    });
    let latency_range = around(latencies.flatten());
    let client_range = around(points.iter().map(|point| f64::from(point.clients)));
    let mut chart = ChartBuilder::on(area)
        .caption("Latency, each client waiting for its reply", (FONT, 17))
        .margin(12)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(client_range.log_scale(), latency_range.log_scale())?;
    let plain = |value: &f64| format!("{value}");
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .label_style((FONT, 13))
        .y_labels(4)
        .x_desc("clients")
        .y_desc("milliseconds")
        .x_label_formatter(&plain)
        .y_label_formatter(&plain)
        .draw()?;
    let latency = |quantile| move |figures: &Figures| figures.latency_ms(quantile);
    // The 99th percentile is the thinner line.
    let curves = [
        Curve::new("one by one, p99", ONE_BY_ONE, 1, points, latency(0.99)),
        Curve::new("one by one, median", ONE_BY_ONE, 2, points, latency(0.5)),
        Curve::new("batched, p99", BATCHED, 1, points, latency(0.99)),
        Curve::new("batched, median", BATCHED, 2, points, latency(0.5)),
    ];
    draw_curves(&mut chart, curves)
}

/// Draws curves with a dot at each point, and a legend.
fn draw_curves<'a, X: Ranged<ValueType = f64>, Y: Ranged<ValueType = f64>>(
    chart: &mut ChartContext<'a, SVGBackend<'a>, Cartesian2d<X, Y>>,
    curves: impl IntoIterator<Item = Curve>,
) -> anyhow::Result<()> {
    for Curve { name, color, width, points } in curves {
        let style = color.stroke_width(width);
        chart
            .draw_series(LineSeries::new(points, style).point_size(width + 1))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(TRANSPARENT)
        .label_font((FONT, 14))
        .draw()?;
    Ok(())
}

/// Returns a range that contains all `values`, with a margin on both sides.
fn around(values: impl Iterator<Item = f64> + Clone) -> Range<f64> {
    let least = values.clone().fold(f64::INFINITY, f64::min).clamp(1e-3, 1e9);
    let most = values.fold(0.0, f64::max).max(least);
    least / 1.5..most * 1.5
}
