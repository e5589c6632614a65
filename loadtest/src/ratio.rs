//! Paired ratios, the band of a null run, and what a gate says to them.
//! Not here: measuring.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The middle of `values`, which need not be sorted. NaN if there are none.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match (sorted.get(middle), sorted.len() % 2) {
        (None, _) => f64::NAN,
        (Some(&high), 1) => high,
        (Some(&high), _) => f64::midpoint(high, sorted.get(middle - 1).copied().unwrap_or(high)),
    }
}

/// The median of per-round ratios, with their least and most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Ratio {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Ratio {
    /// `ours[i] / theirs[i]` for each round `i` that has both.
    pub(crate) fn paired(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Option<Self> {
        let ratios = per_round(ours, theirs);
        (!ratios.is_empty()).then(|| Self {
            median: median(&ratios),
            min: ratios.iter().copied().fold(f64::INFINITY, f64::min),
            max: ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        })
    }
}

pub(crate) fn per_round(ours: &[Option<f64>], theirs: &[Option<f64>]) -> Vec<f64> {
    let pairs = ours.iter().zip(theirs);
    pairs.filter_map(|(ours, theirs)| Some((*ours)? / (*theirs)?)).filter(|ratio| ratio.is_finite()).collect()
}

/// Two-sided 95 % quantiles of Student's t for 1, 2, … degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];

/// The half-width of the 95 % band of the null run's median ratio around 1, as a factor minus 1: what two
/// equal targets differ by on this machine today. A shift of the median counts as width. `None` below three
/// rounds.
#[expect(clippy::cast_precision_loss, reason = "a few rounds")]
pub(crate) fn null_band(ratios: &[f64]) -> Option<f64> {
    let count = ratios.len();
    if count < 3 {
        return None;
    }
    let logs: Vec<f64> = ratios.iter().map(|ratio| ratio.ln()).collect();
    let mean = logs.iter().sum::<f64>() / count as f64;
    let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
    let student = STUDENT.get(count - 2).copied().unwrap_or(1.96);
    // The median of normal values scatters 1.2533 times as much as their mean.
    let half = student * 1.2533 * (variance / count as f64).sqrt();
    Some((median(&logs).abs() + half).exp() - 1.0)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    AtMost,
    AtLeast,
}

/// `NAME/NAME<=LIMIT`: what the ratio of CPU per call must be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Gate {
    pub(crate) ours: String,
    pub(crate) theirs: String,
    side: Side,
    limit: f64,
}

impl FromStr for Gate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not of the form NAME/NAME<=NUMBER");
        let (names, side, limit) = match (text.split_once("<="), text.split_once(">=")) {
            (Some((names, limit)), _) => (names, Side::AtMost, limit),
            (None, Some((names, limit))) => (names, Side::AtLeast, limit),
            (None, None) => return Err(wrong()),
        };
        let (ours, theirs) = names.split_once('/').ok_or_else(wrong)?;
        let limit: f64 = limit.trim().parse().map_err(|_| wrong())?;
        if !(limit > 0.0 && limit.is_finite()) {
            return Err(wrong());
        }
        Ok(Self { ours: ours.trim().to_owned(), theirs: theirs.trim().to_owned(), side, limit })
    }
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.side == Side::AtMost { "<=" } else { ">=" };
        write!(f, "{}/{}{sign}{}", self.ours, self.theirs, self.limit)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    Pass,
    Fail,
    /// The machine was too noisy to tell.
    Unclear,
}

impl Gate {
    /// The tolerance is the limit or the band around 1, whichever allows more where the limit says "no more
    /// than equal, and a bit"; a band wider than three times the limit's distance from 1 says nothing.
    pub(crate) fn judge(&self, ratio: Option<f64>, band: Option<f64>) -> Verdict {
        let (Some(ratio), Some(band)) = (ratio, band) else { return Verdict::Unclear };
        let margin = (self.limit - 1.0).abs();
        if !ratio.is_finite() || 2.0 * band > 3.0 * margin {
            return Verdict::Unclear;
        }
        let pass = match self.side {
            Side::AtMost if self.limit >= 1.0 => ratio <= self.limit.max(1.0 + band),
            Side::AtMost => ratio <= self.limit,
            Side::AtLeast if self.limit <= 1.0 => ratio >= self.limit.min(1.0 - band),
            Side::AtLeast => ratio >= self.limit,
        };
        if pass { Verdict::Pass } else { Verdict::Fail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]).to_bits(), 2.0_f64.to_bits());
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]).to_bits(), 2.5_f64.to_bits());
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn ratios_are_paired_by_round() {
        // The machine was twice as slow in the second round: pairing does not see it.
        let ours = [Some(2.0), Some(4.4), None, Some(2.1)];
        let theirs = [Some(1.0), Some(2.0), Some(1.0), Some(1.0)];
        let ratio = Ratio::paired(&ours, &theirs).unwrap();
        assert!((ratio.median - 2.1).abs() < 1e-9 && (ratio.max - 2.2).abs() < 1e-9);
        assert!((ratio.min - 2.0).abs() < 1e-9);
        assert_eq!(Ratio::paired(&[None], &[Some(1.0)]), None);
    }

    #[test]
    fn the_null_band_grows_with_scatter_and_shift() {
        assert!(null_band(&[1.0, 1.0]).is_none());
        assert!(null_band(&[1.0, 1.0, 1.0]).unwrap().abs() < 1e-12);
        let quiet = null_band(&[0.99, 1.01, 1.0, 1.005, 0.995]).unwrap();
        let noisy = null_band(&[0.9, 1.1, 1.0, 1.05, 0.95]).unwrap();
        let shifted = null_band(&[1.09, 1.11, 1.1, 1.105, 1.095]).unwrap();
        // t(4) = 2.776; standard deviation 0.0079; times 1.2533 / sqrt(5).
        assert!((quiet - 0.0124).abs() < 0.0005, "{quiet}");
        assert!(noisy > 8.0 * quiet && shifted > 0.1);
    }

    fn check(gate: &str, ratio: f64, band: Option<f64>, expected: Verdict) {
        let gate: Gate = gate.parse().unwrap();
        assert_eq!(gate.judge(Some(ratio), band), expected, "{gate} of {ratio}, band {band:?}");
    }

    #[test]
    fn gates_judge() {
        check("ringgate/relay<=1.22", 1.20, Some(0.01), Verdict::Pass);
        check("ringgate/relay<=1.22", 1.23, Some(0.01), Verdict::Fail);
        check("ringgate/relay<=1.22", 1.20, Some(0.34), Verdict::Unclear);
        check("ringgate/relay<=1.22", 1.20, None, Verdict::Unclear);
        check("ringgate/nginx <= 0.78", 0.77, Some(0.05), Verdict::Pass);
        check("ringgate/nginx<=0.78", 0.80, Some(0.05), Verdict::Fail);
        check("new/old<=1.02", 1.025, Some(0.028), Verdict::Pass);
        check("new/old<=1.02", 1.025, Some(0.01), Verdict::Fail);
        check("new/old>=1.5", 1.6, Some(0.01), Verdict::Pass);
        check("new/old>=1.5", 1.4, Some(0.01), Verdict::Fail);
        check("a/b<=1.2", f64::NAN, Some(0.01), Verdict::Unclear);
        for wrong in ["a<=1", "a/b", "a/b<=x", "a/b<=-1", "a/b<1"] {
            assert!(wrong.parse::<Gate>().is_err(), "{wrong}");
        }
    }
}
