//! The table of what was measured, with what is wanted of it.

use std::{io::Write, time::Duration};

use anyhow::Result;
use comfy_table::{Table, presets::UTF8_HORIZONTAL_ONLY};

use crate::demo::quantile;

/// What the bench found, a row for each figure.
#[derive(Debug, Default)]
pub struct Report {
    figures: Vec<Figure>,
    notes: Vec<String>,
}

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds: the machine's as much as ours, so that a miss is told, and no failure.
    Milliseconds,
    /// One measured by another, in one run.
    Ratio,
    /// A whole number of something.
    Count,
    /// 1,048,576 bytes.
    Mebibytes,
    /// So many a second: the machine's.
    PerSecond,
}

/// Of which of a figure's values something is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// The middle one.
    Median,
    /// The 99th percentile.
    P99,
    /// Each.
    All,
}

/// What is wanted of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bound {
    /// Less than this.
    Below(f64),
    /// This or more.
    AtLeast(f64),
    /// This.
    Is(f64),
    /// From the first to the second.
    Within(f64, f64),
}

/// A row: what was measured, each time that it was.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    values: Vec<f64>,
    unit: Unit,
    wanted: Vec<(Of, Bound)>,
}

impl Figure {
    /// Some values of one unit.
    pub fn new(what: impl Into<String>, unit: Unit, values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        Self { what: what.into(), values, unit, wanted: Vec::new() }
    }

    /// Some times.
    pub fn times(what: impl Into<String>, times: impl IntoIterator<Item = Duration>) -> Self {
        let times = times.into_iter().map(|time| time.as_secs_f64() * 1_000.0);
        Self::new(what, Unit::Milliseconds, times)
    }

    /// One number.
    pub fn count(what: impl Into<String>, count: usize) -> Self {
        Self::counts(what, [count])
    }

    /// Some numbers.
    #[expect(clippy::cast_precision_loss, reason = "some millions at most")]
    pub fn counts(what: impl Into<String>, counts: impl IntoIterator<Item = usize>) -> Self {
        Self::new(what, Unit::Count, counts.into_iter().map(|count| count as f64))
    }

    /// What is wanted of it.
    #[must_use]
    pub fn wanted(mut self, of: Of, bound: Bound) -> Self {
        self.wanted.push((of, bound));
        self
    }

    fn value(&self, of: Of) -> Option<f64> {
        let share = match of {
            Of::Median => 0.5,
            Of::P99 => 0.99,
            Of::All => 1.0,
        };
        quantile(&self.values, share)
    }

    fn keeps(&self, of: Of, bound: Bound) -> bool {
        let holds = |value: f64| match bound {
            Bound::Below(most) => value < most,
            Bound::AtLeast(least) => value >= least,
            Bound::Is(number) => (value - number).abs() < f64::EPSILON,
            Bound::Within(least, most) => (least..=most).contains(&value),
        };
        match of {
            Of::All => !self.values.is_empty() && self.values.iter().copied().all(holds),
            Of::Median | Of::P99 => self.value(of).is_some_and(holds),
        }
    }

    fn is_as_wanted(&self) -> bool {
        self.wanted.iter().all(|(of, bound)| self.keeps(*of, *bound))
    }

    fn row(&self) -> [String; 8] {
        let verdict = match (self.wanted.is_empty(), self.is_as_wanted()) {
            (true, _) => "",
            (false, true) => "kept",
            (false, false) => "MISSED",
        };
        let wanted: Vec<_> = self.wanted.iter().map(|(of, bound)| self.unit.wish(*of, *bound)).collect();
        let at = |share| quantile(&self.values, share);
        let at = |share| at(share).map_or_else(|| "–".to_owned(), |value| self.unit.shown(value));
        let count = self.values.len().to_string();
        let verdict = verdict.to_owned();
        [self.what.clone(), count, at(0.0), at(0.5), at(0.99), at(1.0), wanted.join(", "), verdict]
    }
}

impl Unit {
    pub(super) fn shown(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Ratio => format!("{value:.2}"),
            Self::Count => with_commas(value),
            Self::Mebibytes => format!("{value:.1} MiB"),
            Self::PerSecond => format!("{}/s", with_commas(value)),
        }
    }

    /// Whether it says as much of the machine as of us.
    const fn is_of_the_machine(self) -> bool {
        matches!(self, Self::Milliseconds | Self::PerSecond)
    }

    /// What is wanted, in words.
    fn wish(self, of: Of, bound: Bound) -> String {
        let of = match of {
            Of::Median => "median ",
            Of::P99 => "p99 ",
            Of::All => "",
        };
        let bound = match bound {
            Bound::Below(most) => format!("< {}", self.named(most)),
            Bound::AtLeast(least) => format!("≥ {}", self.named(least)),
            Bound::Is(number) => self.named(number),
            Bound::Within(least, most) => format!("{} to {}", self.named(least), self.named(most)),
        };
        format!("{of}{bound}")
    }

    /// As briefly as it can be said.
    fn named(self, value: f64) -> String {
        match self {
            Self::Milliseconds => format!("{value} ms"),
            Self::Ratio => format!("{value}"),
            Self::Mebibytes => format!("{value} MiB"),
            Self::Count | Self::PerSecond => self.shown(value),
        }
    }
}

fn with_commas(value: f64) -> String {
    let digits = format!("{value:.0}");
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| std::str::from_utf8(group).ok()).collect();
    groups.join(",")
}

impl Report {
    /// Adds a row.
    pub fn add(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Adds a line under the table.
    pub fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }

    /// Whether every count, ratio and size is as wanted. Times are the machine's, too.
    #[must_use]
    pub fn is_as_wanted(&self) -> bool {
        self.failures().next().is_none()
    }

    fn failures(&self) -> impl Iterator<Item = &Figure> {
        self.figures.iter().filter(|figure| !figure.unit.is_of_the_machine() && !figure.is_as_wanted())
    }

    /// Prints the table, and what is under it.
    pub fn print(&self, out: &mut impl Write) -> Result<()> {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["what", "n", "min", "median", "p99", "max", "wanted", ""]);
        for figure in &self.figures {
            table.add_row(figure.row());
        }
        writeln!(out, "{table}")?;
        for note in &self.notes {
            writeln!(out, "{note}")?;
        }
        for figure in self.failures() {
            writeln!(out, "missed: {}", figure.what)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(report: &Report) -> String {
        let mut out = Vec::new();
        report.print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_missed_count_or_ratio_fails_and_a_missed_time_is_told() {
        let mut report = Report::default();
        let times = [3, 1, 2].map(Duration::from_millis);
        report.add(Figure::times("quick", times).wanted(Of::Median, Bound::Below(2.5)));
        report.add(Figure::times("slow", times).wanted(Of::P99, Bound::Below(2.5)));
        assert!(report.is_as_wanted());
        let text = printed(&report);
        assert!(
            text.contains("median < 2.5 ms") && text.contains("kept") && text.contains("MISSED"),
            "{text}"
        );
        report.add(Figure::new("even", Unit::Ratio, [0.95]).wanted(Of::All, Bound::Within(0.9, 1.1)));
        report.add(Figure::count("all", 100_000).wanted(Of::All, Bound::Is(100_000.0)));
        assert!(report.is_as_wanted());
        report.add(Figure::new("half", Unit::Ratio, [0.4, 0.6, 0.6]).wanted(Of::Median, Bound::AtLeast(0.5)));
        assert!(report.is_as_wanted());
        report.add(Figure::counts("each", [1, 2]).wanted(Of::All, Bound::Is(1.0)));
        assert!(!report.is_as_wanted());
        let text = printed(&report);
        assert!(text.contains("missed: each") && text.contains("100,000"), "{text}");
    }

    #[test]
    fn what_was_never_measured_keeps_nothing() {
        let mut report = Report::default();
        report.add(Figure::counts("none", []).wanted(Of::All, Bound::Is(0.0)));
        assert!(!report.is_as_wanted());
    }
}
