//! One picture: horizontal bars, each of one part or of several, under headings, along one axis that begins at zero.
//!
//! ```text
//!   heading
//!      label |■■■■■■■■■■■■|□□□□           note        a bar of two parts
//!      label |■■■■■■|      .              note        the dot: what was aimed at for this bar
//!            0       500       1,000
//! ```
//!
//! Colours are those of Okabe and Ito, which people tell apart who see red and green alike; text and lines have a colour that the page
//! replaces by its own.

use core::fmt::Display;

use plotters::coord::Shift;
use plotters::prelude::{
    Color, DrawingArea, FontStyle, IntoDrawingArea, IntoFont, PathElement, RGBColor, Rectangle, SVGBackend, Text,
    TextStyle,
};
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::decimal;

/// The width of a picture, in pixels.
pub(super) const WIDTH: i32 = 920;
/// The height of a row, and of what is drawn in it.
const ROW: i32 = 24;
const BAR: i32 = 15;
/// What there is between text and what it is beside.
const GAP: i32 = 10;
/// Room for the keys above the bars, and for the axis below.
const KEYS: i32 = 30;
const AXIS: i32 = 34;
/// The size of text, and what a letter of it is wide at most.
const TEXT: f64 = 17.0;
const LETTER: f64 = 7.6;
/// How many labels the axis has, about.
const LABELS: f64 = 5.0;

/// Stands for the colour of the page's text.
const INK: RGBColor = RGBColor(1, 2, 3);
/// What [`INK`] becomes, and what it is in the picture.
pub(super) const INK_WORDS: (&str, &str) = ("#010203", "currentColor");

/// Blue, orange, green, vermilion, purple, sky.
const COLOURS: [RGBColor; 6] = [
    RGBColor(0x2a, 0x83, 0xc4),
    RGBColor(0xe6, 0x9f, 0x00),
    RGBColor(0x00, 0x9e, 0x73),
    RGBColor(0xd5, 0x5e, 0x00),
    RGBColor(0xcc, 0x79, 0xa7),
    RGBColor(0x56, 0xb4, 0xe9),
];

/// The colour of what falls short, by its place among the colours.
pub(super) const SHORT: usize = 3;

/// What is drawn.
#[derive(Clone, Debug, Default)]
pub(super) struct Plot {
    /// Of its file, without an ending.
    pub(super) name: String,
    pub(super) title: String,
    /// What the axis counts, and what else there is to know.
    pub(super) about: String,
    /// What parts of bars mean: the place of a colour, and words. None where there is only one.
    pub(super) keys: Vec<(usize, String)>,
    pub(super) rows: Vec<Row>,
    /// A line through all bars.
    pub(super) line: Option<f64>,
    /// No bar is drawn longer than this; one that is cut ends in an arrow.
    pub(super) cap: Option<f64>,
}

/// A row of a picture.
#[derive(Clone, Debug)]
pub(super) enum Row {
    Heading(String),
    Bar(Bar),
}

/// A bar and what stands beside it.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    /// The parts, from zero on: how long each is, and the place of its colour.
    pub(super) parts: Vec<(f64, usize)>,
    pub(super) note: String,
    /// What was aimed at.
    pub(super) aim: Option<f64>,
}

impl Bar {
    /// A bar of one part.
    pub(super) fn of(label: impl Into<String>, length: f64, colour: usize) -> Self {
        Self { label: label.into(), parts: vec![(length, colour)], note: decimal(length), aim: None }
    }

    fn length(&self) -> f64 {
        self.parts.iter().map(|(length, _)| length).sum()
    }
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Where things are in a picture.
struct Layout {
    left: i32,
    right: i32,
    top: i32,
    bottom: i32,
    /// What the axis ends with.
    most: f64,
    step: f64,
}

/// The picture, as SVG.
pub(super) fn svg(plot: &Plot) -> Result<String, String> {
    let layout = Layout::of(plot);
    let mut text = String::new();
    {
        let area =
            SVGBackend::with_string(&mut text, (WIDTH as u32, (layout.bottom + AXIS) as u32)).into_drawing_area();
        draw(plot, &layout, &area).and_then(|()| shown(area.present()))?;
    }
    let named = format!("<svg role=\"img\" aria-label=\"{}\" ", plot.title.replace(['"', '<', '&'], " "));
    Ok(text.replacen("<svg ", &named, 1).replace(INK_WORDS.0, INK_WORDS.1))
}

/// What a text takes at most, in pixels.
pub(super) fn width(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTER).ceil() as i32
}

impl Layout {
    fn of(plot: &Plot) -> Self {
        let bars = || plot.rows.iter().filter_map(|row| if let Row::Bar(bar) = row { Some(bar) } else { None });
        let left = bars().map(|bar| width(&bar.label)).max().unwrap_or(0) + 2 * GAP;
        let note = bars().map(|bar| width(&bar.note)).max().unwrap_or(0) + 2 * GAP;
        let lengths = bars().flat_map(|bar| [Some(bar.length()), bar.aim]).flatten().chain(plot.line);
        let longest = lengths.fold(0.0, f64::max).min(plot.cap.unwrap_or(f64::INFINITY));
        let top = if plot.keys.is_empty() { GAP } else { KEYS };
        let step = step(longest);
        Self {
            left,
            right: WIDTH - note,
            top,
            bottom: top + plot.rows.len() as i32 * ROW,
            // Not to the next label: the longest bar ends where the notes begin.
            most: if longest > 0.0 { longest * 1.02 } else { 1.0 },
            step,
        }
    }

    /// Where `value` is on the axis.
    fn x(&self, value: f64) -> i32 {
        let part = (value / self.most).clamp(0.0, 1.0);
        self.left + (part * f64::from(self.right - self.left)).round() as i32
    }
}

/// The step from one label of the axis to the next: 1, 2 or 5 of some power of ten.
fn step(most: f64) -> f64 {
    if most <= 0.0 || !most.is_finite() {
        return 1.0;
    }
    let power = 10_f64.powf((most / LABELS).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|times| times * power);
    steps.into_iter().find(|step| most / step <= LABELS + 0.5).unwrap_or(most)
}

fn shown<T>(drawn: Result<T, impl Display>) -> Result<T, String> {
    drawn.map_err(|error| error.to_string())
}

fn draw(plot: &Plot, layout: &Layout, area: &Area<'_>) -> Result<(), String> {
    keys(plot, area)?;
    axis(plot, layout, area)?;
    for (index, row) in plot.rows.iter().enumerate() {
        let middle = layout.top + index as i32 * ROW + ROW / 2;
        match row {
            Row::Heading(text) => heading(area, text, middle + 2)?,
            Row::Bar(drawn) => bar(drawn, plot.cap, middle, layout, area)?,
        }
    }
    let Some(line) = plot.line else { return Ok(()) };
    let x = layout.x(line);
    let ends = [(x, layout.top), (x, layout.bottom)];
    shown(area.draw(&PathElement::new(ends, INK.stroke_width(2))))
}

/// Writes `text` beside or around a place.
fn write(area: &Area<'_>, text: &str, at: (i32, i32), side: HPos, strength: f64) -> Result<(), String> {
    let colour = INK.mix(strength);
    let style = TextStyle::from(("sans-serif", TEXT).into_font()).color(&colour);
    shown(area.draw(&Text::new(text, at, style.pos(Pos::new(side, VPos::Center)))))
}

/// Writes a heading.
fn heading(area: &Area<'_>, text: &str, middle: i32) -> Result<(), String> {
    let style = TextStyle::from(("sans-serif", TEXT, FontStyle::Bold).into_font()).color(&INK);
    shown(area.draw(&Text::new(text, (0, middle), style.pos(Pos::new(HPos::Left, VPos::Center)))))
}

/// What the colours mean, above the bars.
fn keys(plot: &Plot, area: &Area<'_>) -> Result<(), String> {
    let mut x = 0;
    for (colour, words) in &plot.keys {
        let square = Rectangle::new([(x, GAP / 2), (x + BAR, GAP / 2 + BAR)], COLOURS[colour % COLOURS.len()].filled());
        shown(area.draw(&square))?;
        write(area, words, (x + BAR + GAP / 2, GAP / 2 + BAR / 2), HPos::Left, 1.0)?;
        x += BAR + 2 * GAP + width(words);
    }
    Ok(())
}

/// The axis below the bars, with a thin line up from each of its labels, past the headings.
fn axis(plot: &Plot, layout: &Layout, area: &Area<'_>) -> Result<(), String> {
    let count = (layout.most / layout.step).floor() as i32;
    for index in 0..=count {
        let value = f64::from(index) * layout.step;
        let x = layout.x(value);
        for (up, row) in (layout.top..).step_by(ROW as usize).zip(&plot.rows) {
            if matches!(row, Row::Bar(_)) {
                shown(area.draw(&PathElement::new([(x, up), (x, up + ROW)], INK.mix(0.2))))?;
            }
        }
        write(area, &decimal(rounded(value)), (x, layout.bottom + GAP + 4), HPos::Center, 0.75)?;
    }
    Ok(())
}

/// `value` without what adding steps has left behind the sixth digit.
fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// A bar, its label, its note, and what was aimed at.
fn bar(bar: &Bar, cap: Option<f64>, middle: i32, layout: &Layout, area: &Area<'_>) -> Result<(), String> {
    write(area, &bar.label, (layout.left - GAP, middle), HPos::Right, 1.0)?;
    let (up, down) = (middle - BAR / 2, middle + BAR / 2 + 1);
    let mut from = 0.0;
    for &(length, colour) in &bar.parts {
        let ends = [(layout.x(from), up), (layout.x(from + length), down)];
        shown(area.draw(&Rectangle::new(ends, COLOURS[colour % COLOURS.len()].filled())))?;
        from += length;
    }
    let end = layout.x(from);
    if cap.is_some_and(|cap| from > cap) {
        let arrow = [(end - 9, up + 2), (end - 3, middle), (end - 9, down - 2)];
        shown(area.draw(&PathElement::new(arrow, INK.stroke_width(2))))?;
    }
    if let Some(aim) = bar.aim {
        let x = layout.x(aim);
        shown(area.draw(&PathElement::new([(x, up - 3), (x, down + 3)], INK.stroke_width(3))))?;
    }
    write(area, &bar.note, (layout.right + GAP, middle), HPos::Left, 1.0)
}
