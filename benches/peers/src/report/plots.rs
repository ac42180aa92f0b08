//! The plots as SVG, drawn by the crate `plotters`.

use std::error::Error;
use std::ops::Range;

use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use super::{Plot, Scale};

/// The size of a plot with its legend, in pixels.
const SIZE: (u32, u32) = (1_080, 420);
/// The width of the plot without its legend, in pixels.
const PLOT_WIDTH: i32 = 830;
/// The margin around a plot, in pixels.
const MARGIN: u32 = 12;
/// The room for the labels below the plot, in pixels.
const X_LABELS: u32 = 44;
/// The room for the labels left of the plot, in pixels.
const Y_LABELS: u32 = 76;
/// The size of the title, in pixels.
const TITLE: u32 = 18;
/// The size of other texts, in pixels.
const TEXT: u32 = 13;
/// The largest number of labels on a horizontal axis.
const LABELS: usize = 12;
/// The same for percentiles: only 90%, 99% and so on have a label.
const NINES_LABELS: usize = 7;
/// An axis of percentiles begins at p50, which has this number of nines.
const NINES_MIN: f64 = 0.3;
/// The width of the lines of peers, in pixels.
const PEER_WIDTH: u32 = 1;
/// The width of the lines of fanout, in pixels.
const FANOUT_WIDTH: u32 = 3;
/// The radius of the mark at each point of a curve with few points, in pixels.
const MARK: i32 = 3;
/// A curve with more points than this has no marks.
const MARKS_MAX: usize = 12;
/// The length of a line in the legend, in pixels.
const LEGEND_LINE: i32 = 20;
/// The height of an entry of the legend, in pixels.
const LEGEND_ENTRY: i32 = 20;
/// The place of the first entry of the legend, in pixels.
const LEGEND_START: (i32, i32) = (4, 48);

/// The first eight are colours that people with a colour vision deficiency can tell apart (Okabe
/// and Ito). The others are for plots with many curves.
const COLOURS: [RGBColor; 16] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 103, 40),
    RGBColor(120, 120, 120),
    RGBColor(128, 0, 160),
    RGBColor(220, 30, 60),
    RGBColor(0, 200, 200),
    RGBColor(120, 150, 0),
    RGBColor(250, 150, 170),
    RGBColor(0, 0, 140),
    RGBColor(90, 60, 90),
];

/// Draws a plot. A plot without points is only a sentence.
pub fn svg(plot: &Plot) -> String {
    let (Some(x), Some(y)) = (
        range(plot, plot.x, |point| point.0),
        range(plot, plot.y, |point| point.1).map(|range| whole_decades(range, plot.y)),
    ) else {
        return format!("<p>{}: nothing was measured</p>\n", plot.title);
    };
    let mut svg = String::new();
    let drawn = match (plot.x == Scale::Log, plot.y == Scale::Log) {
        (true, true) => draw(plot, &mut svg, x.log_scale(), y.log_scale()),
        (true, false) => draw(plot, &mut svg, x.log_scale(), y),
        (false, true) => draw(plot, &mut svg, x, y.log_scale()),
        (false, false) => draw(plot, &mut svg, x, y),
    };
    drawn.expect("drawing into memory does not fail");
    svg
}

fn draw<X, Y>(plot: &Plot, svg: &mut String, x: X, y: Y) -> Result<(), Box<dyn Error>>
where
    X: AsRangedCoord<Value = f64>,
    Y: AsRangedCoord<Value = f64>,
    X::CoordDescType: ValueFormatter<f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(PLOT_WIDTH);
    let mut chart = ChartBuilder::on(&left)
        .caption(&plot.title, ("sans-serif", TITLE))
        .margin(MARGIN)
        .x_label_area_size(X_LABELS)
        .y_label_area_size(Y_LABELS)
        .build_cartesian_2d(x, y)?;
    chart
        .configure_mesh()
        .x_desc(&plot.x_label)
        .y_desc(&plot.y_label)
        .x_label_formatter(&|value| label(plot.x, *value))
        .x_labels(if plot.x == Scale::Nines {
            NINES_LABELS
        } else {
            LABELS
        })
        .y_label_formatter(&|value| label(plot.y, *value))
        .label_style(("sans-serif", TEXT))
        .light_line_style(WHITE)
        .draw()?;
    for (number, series) in plot.series.iter().enumerate() {
        let colour = COLOURS[number % COLOURS.len()];
        let style = colour.stroke_width(if series.is_fanout {
            FANOUT_WIDTH
        } else {
            PEER_WIDTH
        });
        chart.draw_series(LineSeries::new(series.points.iter().copied(), style))?;
        // The legend is beside the plot, so that it hides no curve.
        let (x, y) = LEGEND_START;
        let y = y + LEGEND_ENTRY * number as i32;
        let half = TEXT as i32 / 2;
        right.draw(&PathElement::new(
            [(x, y + half), (x + LEGEND_LINE, y + half)],
            style,
        ))?;
        right.draw(&Text::new(
            series.name.clone(),
            (x + LEGEND_LINE + half, y),
            ("sans-serif", TEXT),
        ))?;
        if series.points.len() <= MARKS_MAX {
            chart.draw_series(
                series
                    .points
                    .iter()
                    .map(|point| Circle::new(*point, MARK, colour.filled())),
            )?;
        }
    }
    area.present()?;
    Ok(())
}

/// The range of an axis: from the smallest value, from 0 or from p50, to the largest value.
fn range(plot: &Plot, scale: Scale, of: impl Fn(&(f64, f64)) -> f64) -> Option<Range<f64>> {
    let values: Vec<f64> = plot
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(&of))
        .collect();
    let min = values.iter().copied().reduce(f64::min)?;
    let max = values.iter().copied().reduce(f64::max)?;
    Some(match scale {
        // A range must not be empty.
        Scale::Log => (min * 0.9).max(f64::MIN_POSITIVE)..(max * 1.1).max(f64::MIN_POSITIVE * 2.0),
        Scale::Nines => NINES_MIN..max.max(NINES_MIN * 2.0),
        Scale::Linear => 0.0..if max > 0.0 { max * 1.05 } else { 1.0 },
    })
}

/// Widens a range on a logarithmic scale, so that there are labels at both ends.
fn whole_decades(range: Range<f64>, scale: Scale) -> Range<f64> {
    match scale {
        Scale::Log => {
            10_f64.powf(range.start.log10().floor())..10_f64.powf(range.end.log10().ceil())
        }
        Scale::Linear | Scale::Nines => range,
    }
}

/// The label of a value on an axis.
fn label(scale: Scale, value: f64) -> String {
    match scale {
        Scale::Nines => {
            let percentile = 100.0 - 100.0 / 10_f64.powf(value);
            // One digit for each nine, but not for 0% and 90%.
            let digits = (value.ceil() as usize).saturating_sub(2);
            format!("{percentile:.digits$}%")
        }
        _ if value >= 1e6 => format!("{}M", short(value / 1e6)),
        _ if value >= 1e3 => format!("{}k", short(value / 1e3)),
        _ => short(value),
    }
}

/// A number with at most three digits behind the dot, and without zeros at its end.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Series;
    use super::*;

    fn plot(x: Scale, y: Scale, points: Vec<(f64, f64)>) -> Plot {
        Plot {
            title: "title".to_owned(),
            x_label: "x".to_owned(),
            y_label: "y".to_owned(),
            x,
            y,
            series: vec![Series {
                name: "curve".to_owned(),
                is_fanout: false,
                points,
            }],
        }
    }

    #[test]
    fn every_combination_of_scales_is_drawn() {
        for x in [Scale::Linear, Scale::Log, Scale::Nines] {
            for y in [Scale::Linear, Scale::Log] {
                let svg = svg(&plot(x, y, vec![(1.0, 2.0), (4.0, 1_000.0)]));
                assert!(svg.starts_with("<svg") && svg.contains("curve"), "{svg}");
            }
        }
    }

    #[test]
    fn one_point_and_no_point_are_drawn() {
        assert!(svg(&plot(Scale::Log, Scale::Log, vec![(1.0, 1.0)])).contains("<svg"));
        assert!(svg(&plot(Scale::Linear, Scale::Linear, vec![(0.0, 0.0)])).contains("<svg"));
        assert!(svg(&plot(Scale::Log, Scale::Log, Vec::new())).contains("nothing was measured"));
    }

    #[test]
    fn a_logarithmic_axis_ends_at_powers_of_ten() {
        let range = whole_decades(3.0..500.0, Scale::Log);
        assert!((range.start - 1.0).abs() < 1e-9 && (range.end - 1_000.0).abs() < 1e-9);
        assert_eq!(whole_decades(3.0..500.0, Scale::Linear), 3.0..500.0);
    }

    #[test]
    fn labels_of_axes() {
        assert_eq!(label(Scale::Nines, 0.0), "0%");
        assert_eq!(label(Scale::Nines, 1.0), "90%");
        assert_eq!(label(Scale::Nines, 2.0), "99%");
        assert_eq!(label(Scale::Nines, 3.0), "99.9%");
        assert_eq!(label(Scale::Log, 1_000_000.0), "1M");
        assert_eq!(label(Scale::Log, 2_500.0), "2.5k");
        assert_eq!(label(Scale::Linear, 0.25), "0.25");
    }
}
