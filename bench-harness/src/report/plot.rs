//! Plots of reports, as SVG text.

use std::fmt::Display;
use std::io;
use std::ops::Range;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::Report;

const SIZE: (u32, u32) = (960, 420);
const TEXT_PX: u32 = 13;
const COLORS: [RGBColor; 8] = [
    RGBColor(31, 98, 180),
    RGBColor(214, 77, 33),
    RGBColor(35, 139, 69),
    RGBColor(128, 57, 148),
    RGBColor(196, 145, 2),
    RGBColor(0, 140, 160),
    RGBColor(120, 94, 72),
    RGBColor(90, 98, 112),
];

fn failed(error: impl Display) -> io::Error {
    io::Error::other(format!("cannot draw a plot: {error}"))
}

/// A line or a cloud of points with its name.
struct Series {
    name: String,
    points: Vec<(f64, f64)>,
}

/// Where axes begin and end, and what they are.
struct Axes<'a> {
    x: (&'a str, Range<f64>),
    y: (&'a str, Range<f64>),
    x_label: &'a dyn Fn(&f64) -> String,
    y_label: &'a dyn Fn(&f64) -> String,
    x_labels: usize,
    legend: SeriesLabelPosition,
}

/// Latency against percentile, each nine as wide as the one before, logarithmic.
pub fn latency(reports: &[Report]) -> io::Result<String> {
    let mut series = Vec::new();
    for report in reports {
        for phase in report
            .findings
            .phases
            .iter()
            .filter(|one| one.latency.count > 0)
        {
            let points = phase.latency.curve.iter().map(|(quantile, ns)| {
                let nines = -(1.0 - quantile).log10();
                (nines, (*ns as f64 / 1000.0).max(0.1).log10())
            });
            series.push(Series {
                name: format!("{} {}", report.broker.name, phase.name),
                points: points.collect(),
            });
        }
    }
    let (x, y) = extent(&series);
    let axes = Axes {
        x: ("percentile", 0.0..x.end.max(1.0)),
        y: ("latency", y.start.floor()..y.end.ceil()),
        x_label: &|nines| percentile(*nines),
        y_label: &|exponent| time(10f64.powf(*exponent)),
        x_labels: x.end.max(1.0) as usize + 1,
        legend: SeriesLabelPosition::UpperLeft,
    };
    draw(&series, &axes, Shape::Lines)
}

/// Messages delivered in a second against CPUs in use: what a broker makes of its time.
pub fn throughput_against_cpu(reports: &[Report]) -> io::Result<Option<String>> {
    let series = samples(reports, |sample| {
        let cpu = sample.broker_cpu?;
        Some((cpu, sample.out_per_s))
    });
    by_rate(&series, ("CPUs in use by the broker", 2), Shape::Points)
}

/// Messages delivered in a second against time.
pub fn throughput_over_time(reports: &[Report]) -> io::Result<Option<String>> {
    let series = samples(reports, |sample| Some((sample.at_s, sample.out_per_s)));
    by_rate(&series, ("seconds", 0), Shape::Lines)
}

fn samples(
    reports: &[Report],
    point: impl Fn(&super::Sample) -> Option<(f64, f64)>,
) -> Vec<Series> {
    let series = reports.iter().map(|report| Series {
        name: report.broker.name.clone(),
        points: report.findings.samples.iter().filter_map(&point).collect(),
    });
    series.filter(|series| !series.points.is_empty()).collect()
}

fn by_rate(
    series: &[Series],
    (x_name, decimals): (&str, usize),
    shape: Shape,
) -> io::Result<Option<String>> {
    if series.is_empty() {
        return Ok(None);
    }
    let (x, y) = extent(series);
    let axes = Axes {
        x: (x_name, 0.0..x.end * 1.05 + 0.01),
        y: ("delivered per second", 0.0..y.end * 1.05 + 1.0),
        x_label: &|value| format!("{value:.decimals$}"),
        y_label: &|value| rate(*value),
        x_labels: 10,
        legend: SeriesLabelPosition::LowerRight,
    };
    draw(series, &axes, shape).map(Some)
}

fn extent(series: &[Series]) -> (Range<f64>, Range<f64>) {
    let points = series.iter().flat_map(|series| &series.points);
    let range = |of: fn(&(f64, f64)) -> f64| {
        let values = points.clone().map(of);
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.fold(f64::NEG_INFINITY, f64::max);
        match least <= most {
            true => least..most,
            false => 0.0..1.0,
        }
    };
    (range(|point| point.0), range(|point| point.1))
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Lines,
    Points,
}

fn draw(series: &[Series], axes: &Axes<'_>, shape: Shape) -> io::Result<String> {
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        area.fill(&WHITE).map_err(failed)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(12)
            .margin_right(34)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(axes.x.1.clone(), axes.y.1.clone())
            .map_err(failed)?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(axes.x.0)
            .y_desc(axes.y.0)
            .x_labels(axes.x_labels)
            .x_label_formatter(axes.x_label)
            .y_label_formatter(axes.y_label)
            .label_style(("sans-serif", TEXT_PX))
            .draw()
            .map_err(failed)?;
        let mut names: Vec<&str> = Vec::new();
        for series in series {
            let place = names.iter().position(|name| *name == series.name);
            let color = COLORS[place.unwrap_or(names.len()) % COLORS.len()];
            let points = series.points.iter().copied();
            let drawn = match shape {
                Shape::Lines => chart.draw_series(LineSeries::new(points, color.stroke_width(2))),
                Shape::Points => chart.draw_series(PointSeries::<_, _, Circle<_, _>, _>::new(
                    points,
                    3,
                    color.filled(),
                )),
            };
            let drawn = drawn.map_err(failed)?;
            // Runs of one broker have one name and one color.
            if place.is_none() {
                names.push(&series.name);
                drawn.label(&series.name).legend(move |(x, y)| {
                    Rectangle::new([(x, y - 4), (x + 14, y + 4)], color.filled())
                });
            }
        }
        legend(&mut chart, axes.legend.clone())?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn legend<'a>(chart: &mut Chart<'a>, position: SeriesLabelPosition) -> io::Result<()> {
    chart
        .configure_series_labels()
        .position(position)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.2))
        .label_font(("sans-serif", TEXT_PX))
        .draw()
        .map_err(failed)
}

/// 0 is the least, 1 is 90 %, 2 is 99 %.
fn percentile(nines: f64) -> String {
    match nines.round() {
        0.0 => "0".into(),
        1.0 => "90".into(),
        round => {
            let decimals = (round as usize).saturating_sub(2);
            let value = 100.0 - 100.0 * 10f64.powf(-round);
            format!("{value:.decimals$}")
        }
    }
}

fn time(us: f64) -> String {
    match us {
        _ if us >= 1e6 => format!("{:.0} s", us / 1e6),
        _ if us >= 1e3 => format!("{:.0} ms", us / 1e3),
        _ if us >= 1.0 => format!("{us:.0} us"),
        _ => format!("{us:.1} us"),
    }
}

fn rate(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{:.1} M", value / 1e6),
        _ if value >= 1e3 => format!("{:.0} k", value / 1e3),
        _ => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_have_words() {
        let percentiles: Vec<_> = (0..6).map(|nines| percentile(f64::from(nines))).collect();
        assert_eq!(percentiles, ["0", "90", "99", "99.9", "99.99", "99.999"]);
        assert_eq!(
            (time(1500.0), rate(2_500_000.0)),
            ("2 ms".into(), "2.5 M".into())
        );
    }

    #[test]
    fn nothing_to_plot_is_no_fault() {
        assert!(latency(&[]).unwrap().starts_with("<svg"));
        assert!(throughput_over_time(&[]).unwrap().is_none());
    }
}
