//! A finding: one named claim, and whether it held.
//!
//! Names are an interface that scripts read; the JSON of `--json` is an array of these, in the order of the story.

use core::fmt;

use serde::Serialize;
use serde_json::Number;

use crate::report::decimal;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Pass,
    /// It is not, or could not be found out though it should have been.
    Fail,
    /// It was not looked at, for a reason that its detail gives.
    Skip,
}

/// What a figure is to keep to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Aim {
    /// The less the better, and no more than this.
    AtMost(f64),
    /// The more the better, and no less than this.
    AtLeast(f64),
}

impl Aim {
    /// The figure that was aimed at.
    #[must_use]
    pub const fn figure(self) -> f64 {
        match self {
            Self::AtMost(figure) | Self::AtLeast(figure) => figure,
        }
    }

    /// Whether `figure` keeps to it.
    #[must_use]
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtMost(most) => figure <= most,
            Self::AtLeast(least) => figure >= least,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtMost(most) => write!(f, "at most {}", decimal(*most)),
            Self::AtLeast(least) => write!(f, "at least {}", decimal(*least)),
        }
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// Its name: dotted, lower case.
    pub name: String,
    /// What came of it.
    pub outcome: Verdict,
    /// The number that was measured, when there is one.
    pub figure: Option<Number>,
    /// The unit of the figure; empty without one.
    pub unit: String,
    /// What was seen, in words.
    pub detail: String,
    /// What the figure is to keep to, where something was aimed at: for the plots.
    #[serde(skip)]
    pub aim: Option<Aim>,
}

impl Check {
    /// A finding without a figure.
    #[must_use]
    pub fn new(name: &str, outcome: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, figure: None, unit: String::new(), detail: detail.into(), aim: None }
    }

    /// A check that fell short.
    #[must_use]
    pub fn fail(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Fail, detail)
    }

    /// A check that was not made.
    #[must_use]
    pub fn skip(name: &str, detail: impl Into<String>) -> Self {
        Self::new(name, Verdict::Skip, detail)
    }

    /// The same finding with a figure.
    #[must_use]
    pub fn with_figure(mut self, figure: impl Into<Number>, unit: &str) -> Self {
        self.figure = Some(figure.into());
        unit.clone_into(&mut self.unit);
        self
    }

    /// The same finding with a figure that may have a fraction: three digits of it are kept.
    #[must_use]
    pub fn with_measured(self, figure: f64, unit: &str) -> Self {
        let rounded = (figure * 1000.0).round() / 1000.0;
        let whole = rounded.fract() == 0.0 && rounded >= 0.0;
        let number = if whole { Some((rounded as u64).into()) } else { Number::from_f64(rounded) };
        match number {
            Some(number) => self.with_figure(number, unit),
            None => Self { outcome: Verdict::Fail, detail: format!("{}; {figure} is no figure", self.detail), ..self },
        }
    }

    /// The same finding, which was judged by `aim` already, if by any.
    #[must_use]
    pub fn aiming(self, aim: impl Into<Option<Aim>>) -> Self {
        Self { aim: aim.into(), ..self }
    }

    /// The same finding, which falls short unless `figure` keeps to `aim`; its detail says so.
    #[must_use]
    pub fn judged(mut self, figure: f64, aim: Aim) -> Self {
        if !aim.holds(figure) {
            self.outcome = Verdict::Fail;
        }
        self.detail = format!("{}; {aim} was aimed at", self.detail);
        self.aim = Some(aim);
        self
    }
}

/// Whether nothing fell short.
#[must_use]
pub fn all_hold(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Verdict::Fail)
}

#[cfg(test)]
mod tests {
    use super::{Aim, Check, Verdict, all_hold};

    #[test]
    fn the_json_has_exactly_the_agreed_fields() {
        let check = Check::new("a.b", Verdict::Pass, "seen").with_figure(5_u64, "bytes");
        let json = serde_json::to_string(&check).expect("plain data");
        assert_eq!(json, r#"{"name":"a.b","outcome":"pass","figure":5,"unit":"bytes","detail":"seen"}"#);
        let json = serde_json::to_string(&Check::skip("c", "why")).expect("plain data");
        assert_eq!(json, r#"{"name":"c","outcome":"skip","figure":null,"unit":"","detail":"why"}"#);
    }

    #[test]
    fn a_figure_is_judged_up_to_its_aim_and_no_further() {
        let judged =
            |figure: f64, aim| Check::new("a", Verdict::Pass, "seen").with_measured(figure, "").judged(figure, aim);
        assert_eq!(judged(60.0, Aim::AtMost(60.0)).outcome, Verdict::Pass);
        assert_eq!(judged(60.5, Aim::AtMost(60.0)).outcome, Verdict::Fail);
        assert_eq!(judged(24.9, Aim::AtLeast(25.0)).detail, "seen; at least 25 was aimed at");
        assert_eq!(judged(0.2833, Aim::AtMost(0.3)).figure.map(|figure| figure.to_string()), Some("0.283".into()));
        let no_figure = Check::new("a", Verdict::Pass, "").with_measured(f64::NAN, "");
        assert_eq!((no_figure.outcome, no_figure.figure), (Verdict::Fail, None));
    }

    #[test]
    fn a_skip_is_no_failure() {
        assert!(all_hold(&[Check::skip("a", "")]) && !all_hold(&[Check::skip("a", ""), Check::fail("b", "")]));
    }
}
