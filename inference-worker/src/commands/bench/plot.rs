//! A load's throughput and percentiles as a picture.

use anyhow::{anyhow, Context, Result};
use openledger_engine::bench::measured::Measured;
use openledger_engine::bench::sweep::Point;
use openledger_engine::bench::{Pace, Workload};
use plotters::coord::types::RangedCoordf64;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// Pixels of the picture and of each of its panels.
const SIZE: (u32, u32) = (900, 1200);
const PANELS: usize = 3;

/// What is drawn in one panel: a name and a figure for each line.
type Lines = Vec<(&'static str, fn(&Measured) -> f64)>;

/// Lines of one load each: positions and figures.
type Drawn = Vec<(String, Vec<(f64, f64)>)>;

/// Draws the points into an SVG file: by rate or clients if several were measured, else by the adapters
/// that are asked for.
pub fn draw(file: &Path, points: &[Point]) -> Result<()> {
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    let drawn = paint(&root, points).map_err(|e| anyhow!("{e}"));
    drawn.with_context(|| format!("{} cannot be drawn", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Painted = std::result::Result<(), Box<dyn std::error::Error>>;

fn paint(root: &Area<'_>, points: &[Point]) -> Painted {
    root.fill(&WHITE)?;
    let axis = Axis::of(points);
    let panels: [(&str, Lines); PANELS] = [
        (
            "tokens per second",
            vec![
                ("output", |m| m.output_tokens_per_second),
                ("with prompts", |m| m.total_tokens_per_second),
            ],
        ),
        (
            "first token, ms",
            vec![
                ("p50", |m| m.first_token.p50),
                ("p90", |m| m.first_token.p90),
                ("p99", |m| m.first_token.p99),
            ],
        ),
        (
            "inter-token, ms",
            vec![
                ("p50", |m| m.inter_token.p50),
                ("p90", |m| m.inter_token.p90),
                ("p99", |m| m.inter_token.p99),
            ],
        ),
    ];
    for (area, (title, lines)) in root.split_evenly((PANELS, 1)).iter().zip(panels) {
        panel(area, title, axis, &series(points, axis, &lines))?;
    }
    Ok(root.present()?)
}

/// What the points are drawn by.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Axis {
    Rate,
    Clients,
    Adapters,
}

impl Axis {
    fn of(points: &[Point]) -> Self {
        let paces: Vec<Pace> = points.iter().map(|p| p.workload.pace).collect();
        let several = paces.windows(2).any(|pair| pair[0] != pair[1]);
        match paces.first() {
            Some(Pace::Open { .. }) if several => Self::Rate,
            Some(Pace::Closed { .. }) if several => Self::Clients,
            _ => Self::Adapters,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Rate => "requests per second asked for",
            Self::Clients => "clients",
            Self::Adapters => "adapters asked for",
        }
    }

    fn position(self, workload: &Workload) -> f64 {
        match (self, workload.pace) {
            (Self::Rate, Pace::Open { rate }) => rate,
            (Self::Clients, Pace::Closed { clients }) => clients as f64,
            _ => workload.distinct as f64,
        }
    }
}

/// One line for each figure, and for each number of adapters if that is not the axis.
fn series(points: &[Point], axis: Axis, lines: &Lines) -> Drawn {
    let mut groups: BTreeMap<usize, Vec<&Point>> = BTreeMap::new();
    for point in points {
        let group = match axis {
            Axis::Adapters => 0,
            Axis::Rate | Axis::Clients => point.workload.distinct,
        };
        groups.entry(group).or_default().push(point);
    }
    let several = groups.len() > 1;
    groups
        .into_iter()
        .flat_map(|(distinct, mut points)| {
            let position = |p: &&Point| axis.position(&p.workload);
            points.sort_by(|a, b| position(a).total_cmp(&position(b)));
            lines.iter().map(move |(name, figure)| {
                let name = if several {
                    format!("{name}, {distinct} adapters")
                } else {
                    (*name).to_owned()
                };
                let at = points.iter().map(|p| (position(p), figure(&p.median)));
                (name, at.collect())
            })
        })
        .collect()
}

fn panel(area: &Area<'_>, title: &str, axis: Axis, series: &Drawn) -> Painted {
    let all = || series.iter().flat_map(|(_, points)| points);
    let right = all().map(|(x, _)| *x).fold(1.0, f64::max) * 1.05;
    let top = all().map(|(_, y)| *y).fold(f64::MIN_POSITIVE, f64::max) * 1.1;
    let mut chart = ChartBuilder::on(area)
        .caption(title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(0.0..right, 0.0..top)?;
    chart
        .configure_mesh()
        .x_desc(axis.name())
        .light_line_style(TRANSPARENT)
        .draw()?;
    for (number, (name, points)) in series.iter().enumerate() {
        line(&mut chart, number, name, points)?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    Ok(())
}

type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

fn line(chart: &mut Chart<'_, '_>, number: usize, name: &str, points: &[(f64, f64)]) -> Painted {
    let colour = Palette99::pick(number).to_rgba();
    let label = move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2));
    chart
        .draw_series(LineSeries::new(
            points.iter().copied(),
            colour.stroke_width(2),
        ))?
        .label(name)
        .legend(label);
    let dots = points.iter().map(|at| Circle::new(*at, 3, colour.filled()));
    chart.draw_series(dots)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(pace: Pace, distinct: usize, first: f64) -> Point {
        let mut median = Measured::default();
        median.first_token.p50 = first;
        Point {
            workload: Workload {
                pace,
                distinct,
                ..Workload::default()
            },
            runs: Vec::new(),
            median,
        }
    }

    #[test]
    fn lines_should_go_by_what_was_varied_in_its_order() {
        let rate = |rate| Pace::Open { rate };
        let points = [
            point(rate(9.0), 1, 3.0),
            point(rate(2.0), 1, 1.0),
            point(rate(2.0), 8, 2.0),
        ];
        let lines: Lines = vec![("p50", |m| m.first_token.p50)];
        assert_eq!(
            series(&points, Axis::of(&points), &lines),
            [
                ("p50, 1 adapters".to_owned(), vec![(2.0, 1.0), (9.0, 3.0)]),
                ("p50, 8 adapters".to_owned(), vec![(2.0, 2.0)]),
            ]
        );
        let clients = Pace::Closed { clients: 4 };
        let points = [point(clients, 8, 2.0), point(clients, 1, 1.0)];
        assert_eq!(Axis::of(&points), Axis::Adapters);
        assert_eq!(
            series(&points, Axis::Adapters, &lines),
            [("p50".to_owned(), vec![(1.0, 1.0), (8.0, 2.0)])]
        );
    }

    #[test]
    fn a_picture_should_hold_its_panels_and_names() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("load.svg");
        let clients = |clients| Pace::Closed { clients };
        draw(
            &file,
            &[point(clients(1), 4, 1.0), point(clients(8), 4, 9.0)],
        )
        .unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        for name in ["tokens per second", "first token, ms", "p99", "clients"] {
            assert!(text.contains(name), "{name}");
        }
    }
}
