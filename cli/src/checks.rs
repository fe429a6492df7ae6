//! A finding: one named claim, and whether it held.
//!
//! Names are an interface that scripts read; the JSON of `--json` is an array of these, in the order of the story.

use serde::Serialize;
use serde_json::Number;

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
}

impl Check {
    /// A finding without a figure.
    #[must_use]
    pub fn new(name: &str, outcome: Verdict, detail: impl Into<String>) -> Self {
        Self { name: name.to_owned(), outcome, figure: None, unit: String::new(), detail: detail.into() }
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
}

/// Whether nothing fell short.
#[must_use]
pub fn all_hold(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.outcome != Verdict::Fail)
}

#[cfg(test)]
mod tests {
    use super::{Check, Verdict, all_hold};

    #[test]
    fn the_json_has_exactly_the_agreed_fields() {
        let check = Check::new("a.b", Verdict::Pass, "seen").with_figure(5_u64, "bytes");
        let json = serde_json::to_string(&check).expect("plain data");
        assert_eq!(json, r#"{"name":"a.b","outcome":"pass","figure":5,"unit":"bytes","detail":"seen"}"#);
        let json = serde_json::to_string(&Check::skip("c", "why")).expect("plain data");
        assert_eq!(json, r#"{"name":"c","outcome":"skip","figure":null,"unit":"","detail":"why"}"#);
    }

    #[test]
    fn a_skip_is_no_failure() {
        assert!(all_hold(&[Check::skip("a", "")]) && !all_hold(&[Check::skip("a", ""), Check::fail("b", "")]));
    }
}
