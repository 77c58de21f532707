//! A picture of a run: what waits, the workers, the waits. SVG, so that no font must be there.

use std::path::Path;

use plotters::prelude::*;

use crate::report::Report;
use crate::series::Row;

const SIZE: (u32, u32) = (960, 720);
/// More points would not be seen, and make the file large.
const POINTS: usize = 360;

/// The picture could not be drawn or written.
#[derive(Debug, thiserror::Error)]
#[error("the picture could not be made")]
pub struct PlotError(#[source] Box<dyn std::error::Error + Send + Sync>);

type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// Draws the course of a run into an SVG file.
///
/// # Errors
/// [`PlotError`], mostly because the file cannot be written.
pub fn plot(report: &Report, title: &str, path: &Path) -> Result<(), PlotError> {
    let mut picture = String::new();
    draw(report, title, &mut picture).map_err(PlotError)?;
    std::fs::write(path, picture).map_err(|err| PlotError(err.into()))
}

/// One line of a panel.
struct Line {
    name: &'static str,
    colour: RGBColor,
    of: fn(&Row) -> f64,
}

const BLUE: RGBColor = RGBColor(31, 119, 180);
const ORANGE: RGBColor = RGBColor(230, 120, 20);
const GREEN: RGBColor = RGBColor(44, 140, 60);
const GREY: RGBColor = RGBColor(130, 130, 130);

const QUEUE: [Line; 2] = [
    Line { name: "waiting", colour: BLUE, of: |row| f64::from(row.waiting) },
    Line { name: "at workers", colour: GREEN, of: |row| f64::from(row.in_flight) },
];
const WORKERS: [Line; 3] = [
    Line { name: "all", colour: GREY, of: |row| f64::from(row.workers) },
    Line { name: "starting", colour: ORANGE, of: |row| f64::from(row.starting) },
    Line { name: "at work", colour: GREEN, of: |row| f64::from(row.working) },
];
const WAITS: [Line; 2] = [
    Line { name: "longest", colour: ORANGE, of: |row| row.wait_max },
    Line { name: "mean", colour: BLUE, of: |row| row.wait_mean },
];

fn draw(report: &Report, title: &str, picture: &mut String) -> Drawn {
    let rows = thinned(&report.rows);
    let root = SVGBackend::with_string(picture, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let root = root.titled(title, ("sans-serif", 18))?;
    let panels = root.split_evenly((3, 1));
    let named: [(&str, &[Line]); 3] = [("jobs", &QUEUE), ("workers", &WORKERS), ("wait, s", &WAITS)];
    for (area, (name, lines)) in panels.iter().zip(named) {
        panel(area, name, lines, &rows)?;
    }
    root.present()?;
    Ok(())
}

fn panel(
    area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    name: &str,
    lines: &[Line],
    rows: &[Row],
) -> Drawn {
    let hours = |row: &Row| row.seconds / 3600.;
    let width = rows.last().map_or(1., hours);
    let height = rows.iter().flat_map(|row| lines.iter().map(move |line| (line.of)(row))).fold(1., f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(56)
        .build_cartesian_2d(0. ..width, 0. ..height * 1.05)?;
    chart
        .configure_mesh()
        .max_light_lines(0)
        .x_desc("hours")
        .y_desc(name)
        .x_labels(13)
        .y_labels(5)
        .label_style(("sans-serif", 12))
        .draw()?;
    for line in lines {
        let (colour, of) = (line.colour, line.of);
        chart
            .draw_series(LineSeries::new(rows.iter().map(|row| (hours(row), of(row))), colour))?
            .label(line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 14, y)], colour));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(WHITE)
        .label_font(("sans-serif", 12))
        .draw()?;
    Ok(())
}

/// At most [`POINTS`] rows: levels by their highest, so that no peak is lost, the mean wait by its mean.
fn thinned(rows: &[Row]) -> Vec<Row> {
    rows.chunks(rows.len().div_ceil(POINTS).max(1)).map(joined).collect()
}

fn joined(rows: &[Row]) -> Row {
    let most = |of: fn(&Row) -> u32| rows.iter().map(of).max().unwrap_or(0);
    let begun = rows.iter().map(|row| row.begun).sum();
    let waited: f64 = rows.iter().map(|row| row.wait_mean * row.begun as f64).sum();
    Row {
        seconds: rows.last().map_or(0., |row| row.seconds),
        waiting: most(|row| row.waiting),
        in_flight: most(|row| row.in_flight),
        wakes: most(|row| row.wakes),
        workers: most(|row| row.workers),
        starting: most(|row| row.starting),
        idle: most(|row| row.idle),
        working: most(|row| row.working),
        begun,
        wait_mean: if begun == 0 { 0. } else { waited / begun as f64 },
        wait_max: rows.iter().map(|row| row.wait_max).fold(0., f64::max),
        ..Row::default()
    }
}
