//! The page: all pictures in one file, and the findings in words below.

use core::fmt::Write;

use super::draw::Plot;
use crate::checks::{Check, Verdict};
use crate::report::decimal;

/// Colours of text and background, by what the reader's system asks for.
const INK: &str = "color:#1c1c1c;background:#fff";
const DARK: &str = "color:#e4e4e4;background:#16181c";

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1{font-size:1.6rem;margin:0}
h2{font-size:1.15rem;margin:2.6rem 0 0}
p{margin:.2rem 0 .8rem;opacity:.8}
svg{display:block;max-width:100%;height:auto}
.wide{overflow-x:auto}
table{border-collapse:collapse;font-size:.88rem}
td,th{text-align:left;padding:.2rem .9rem .2rem 0;vertical-align:top;border-bottom:1px solid color-mix(in srgb,currentColor 18%,transparent)}
td.n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}
";

/// A picture as a file of its own: its text is readable on what is behind it.
pub(super) fn alone(picture: &str) -> String {
    let style = format!("<style>:root{{{INK}}}@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}</style>");
    match picture.find("<svg ").and_then(|start| Some(start + picture[start..].find('>')? + 1)) {
        Some(inside) => format!("{}{style}{}", &picture[..inside], &picture[inside..]),
        None => picture.to_owned(),
    }
}

/// The page of all `pictures`, and of the findings that they were made of.
pub(super) fn of(pictures: &[(Plot, String)], checks: &[Check]) -> String {
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>vmstack bench</title>\n\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <style>:root{{{INK}}}@media (prefers-color-scheme:dark){{:root{{{DARK}}}}}{STYLE}</style></head><body>\n\
         <h1>vmstack bench</h1>\n<p>Instructions are those of a guest of one CPU in an emulator that counts them.</p>\n"
    );
    for (plot, picture) in pictures {
        let drawn = &picture[picture.find("<svg").unwrap_or(0)..];
        let (title, about) = (escaped(&plot.title), escaped(&plot.about));
        // Writing to a String cannot fail.
        let _ =
            write!(page, "<h2 id=\"{}\">{title}</h2>\n<p>{about}</p>\n<div class=\"wide\">{drawn}</div>\n", plot.name);
    }
    page + &table(checks) + "</body></html>\n"
}

/// All findings.
fn table(checks: &[Check]) -> String {
    let mut table = String::from(
        "<h2 id=\"findings\">Findings</h2>\n<div class=\"wide\"><table>\n\
         <tr><th></th><th>name</th><th>figure</th><th></th><th>what it is</th></tr>\n",
    );
    for check in checks {
        let verdict = match check.outcome {
            Verdict::Pass => "pass",
            Verdict::Fail => "<strong>FAIL</strong>",
            Verdict::Skip => "skip",
        };
        let figure = check.figure.as_ref().and_then(serde_json::Number::as_f64).map_or_else(String::new, decimal);
        let (name, unit, detail) = (escaped(&check.name), escaped(&check.unit), escaped(&check.detail));
        let row =
            format!("<td>{verdict}</td><td>{name}</td><td class=\"n\">{figure}</td><td>{unit}</td><td>{detail}</td>");
        table += &format!("<tr>{row}</tr>\n");
    }
    table + "</table></div>\n"
}

/// `text` as HTML shows it.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
