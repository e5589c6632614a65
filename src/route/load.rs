//! Load reports of instances (ORCA): the value of `endpoint-load-metrics`, and the last one that came.
//!
//! Not here: the binary form, which no MCP server was seen to send, and the field's removal from answers.

use crate::base::atomic::AtomicU64;
use crate::base::atomic::Ordering;
use crate::base::clock::Moment;

/// Full utilisation, in the unit of every report here.
pub const FULL: u16 = 1_000;
/// Nesting of a JSON report; `named_metrics` needs 2.
const DEPTH_MAX: u32 = 8;

/// The last report: its age in units of 2^20 ns (about 1 ms) above, 1 + the utilisation in the low 16 bits; 0
/// for none yet.
#[derive(Debug, Default)]
pub struct LoadCell(AtomicU64);

impl LoadCell {
    pub fn as_of(other: &Self) -> Self {
        Self(AtomicU64::new(other.0.load(Ordering::Relaxed)))
    }

    pub fn report(&self, utilisation: u16, now: Moment) {
        let word = (now.as_nanos() >> 20) << 16 | u64::from(utilisation.min(FULL) + 1);
        self.0.store(word, Ordering::Relaxed);
    }

    /// Utilisation in thousandths, if it was reported at most `age_ms_max` ago.
    pub fn latest(&self, age_ms_max: u64, now: Moment) -> Option<u16> {
        let word = self.0.load(Ordering::Relaxed);
        let reported = Moment::from_nanos((word >> 16) << 20);
        let fresh = reported.plus_millis(age_ms_max) >= Moment::from_nanos((now.as_nanos() >> 20) << 20);
        ((word & 0xffff) as u16).checked_sub(1).filter(|_| fresh)
    }
}

/// Utilisation in thousandths out of a value such as `TEXT cpu_utilization=0.9` or `JSON {…}`.
/// `application_utilization` wins where it is above 0, as in gRPC's weighted round robin. None for what is
/// not understood as a whole: half a report is no report.
pub fn parse(value: &[u8]) -> Option<u16> {
    let value = std::str::from_utf8(value).ok()?.trim();
    let mut report = Report::default();
    if let Some(text) = value.strip_prefix("TEXT ") {
        for pair in text.split(',') {
            let (name, number) = pair.split_once(['=', ':'])?;
            report.take(name.trim(), number.trim())?;
        }
    } else {
        let rest = object(value.strip_prefix("JSON ")?, &mut report)?;
        rest.trim_start().is_empty().then_some(())?;
    }
    report.utilisation()
}

#[derive(Default)]
struct Report {
    application: Option<f64>,
    cpu: Option<f64>,
}

impl Report {
    /// Any name may come; every number must be one, and no share is below 0.
    fn take(&mut self, name: &str, number: &str) -> Option<()> {
        let number = number.parse::<f64>().ok().filter(|number| number.is_finite())?;
        let share = match name {
            "application_utilization" | "applicationUtilization" => &mut self.application,
            "cpu_utilization" | "cpuUtilization" => &mut self.cpu,
            _ => return Some(()),
        };
        *share = Some(number).filter(|number| *number >= 0.0);
        share.map(|_| ())
    }

    fn utilisation(&self) -> Option<u16> {
        let chosen = self.application.filter(|share| *share > 0.0).or(self.cpu).or(self.application)?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=1000")]
        let thousandths = (chosen.clamp(0.0, 1.0) * f64::from(FULL)).round() as u16;
        Some(thousandths)
    }
}

/// The members of the outermost object. Each of these takes the text from its beginning on and returns the rest.
fn object<'a>(text: &'a str, report: &mut Report) -> Option<&'a str> {
    members(text, |name, rest| match number(rest) {
        Some((digits, after)) => report.take(name, digits).map(|()| after),
        None => skip(rest, DEPTH_MAX),
    })
}

fn members<'a>(
    text: &'a str,
    mut member: impl FnMut(&'a str, &'a str) -> Option<&'a str>,
) -> Option<&'a str> {
    let inside = text.trim_start().strip_prefix('{')?;
    if let Some(rest) = inside.trim_start().strip_prefix('}') {
        return Some(rest);
    }
    let mut rest = inside;
    loop {
        let (name, after) = string(rest.trim_start())?;
        rest = member(name, after.trim_start().strip_prefix(':')?.trim_start())?.trim_start();
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return rest.strip_prefix('}'),
        }
    }
}

/// Without its quotes, escapes as they stand: no name that we look for has one.
fn string(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let mut escaped = false;
    let end = inside.find(|c: char| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    Some((inside.get(..end)?, inside.get(end + 1..)?))
}

fn number(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || "+-.eE".contains(c))).unwrap_or(text.len());
    text.split_at_checked(end).filter(|(digits, _)| !digits.is_empty())
}

/// Past any value that is no number of the outermost object.
fn skip(text: &str, depth_left: u32) -> Option<&str> {
    let deeper = depth_left.checked_sub(1)?;
    match text.as_bytes().first()? {
        b'"' => string(text).map(|(_, rest)| rest),
        b'{' => members(text, |_, rest| skip(rest, deeper)),
        b't' => text.strip_prefix("true"),
        b'f' => text.strip_prefix("false"),
        b'n' => text.strip_prefix("null"),
        _ => number(text).filter(|(digits, _)| digits.parse::<f64>().is_ok()).map(|(_, rest)| rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_understood_as_a_whole_or_not_at_all() {
        for (value, expected) in [
            ("TEXT cpu_utilization=0.9", Some(900)),
            ("TEXT cpu_utilization=0.3, mem_utilization=0.8", Some(300)),
            ("TEXT cpu_utilization:0.3,application_utilization:0.7", Some(700)),
            ("TEXT application_utilization=0, cpu_utilization=0.25", Some(250)),
            ("TEXT application_utilization=0", Some(0)),
            ("TEXT cpu_utilization=1.7", Some(1_000)),
            ("TEXT cpu_utilization=-1", None),
            ("TEXT mem_utilization=0.5", None),
            ("TEXT cpu_utilization=NaN", None),
            ("TEXT cpu_utilization=inf", None),
            ("TEXT cpu_utilization=", None),
            ("TEXT cpu_utilization", None),
            ("TEXT cpu_utilization=0.5,,", None),
            ("TEXT", None),
            ("", None),
            ("cpu_utilization=0.9", None),
            ("BIN CQAAAAAAAPA/", None),
            (r#"JSON {"cpu_utilization": 0.9}"#, Some(900)),
            (r#"JSON { "cpuUtilization" : 9e-1 , "eps" : 0 } "#, Some(900)),
            (r#"JSON {"cpu_utilization":0.2,"application_utilization":0.4}"#, Some(400)),
            (
                r#"JSON {"named_metrics":{"cpu_utilization":0.9,"a":{"b":1}},"cpu_utilization":0.1}"#,
                Some(100),
            ),
            (r#"JSON {"note":"a\"}{\\","x":null,"y":true,"z":false,"cpu_utilization":0.1}"#, Some(100)),
            (r#"JSON {"cpu_utilization":"0.9"}"#, None),
            (r#"JSON {"cpu_utilization":0.9"#, None),
            (r#"JSON {"cpu_utilization":0.9}}"#, None),
            (r#"JSON {"cpu_utilization":0.9,}"#, None),
            (r#"JSON {"cpu_utilization":0.9 "eps":1}"#, None),
            (r#"JSON {"cpu_utilization":1-2}"#, None),
            (r#"JSON {"x":[1],"cpu_utilization":0.9}"#, None),
            ("JSON {}", None),
            ("JSON [0.9]", None),
            ("JSON", None),
        ] {
            assert_eq!(parse(value.as_bytes()), expected, "{value}");
        }
        assert_eq!(parse(b"TEXT cpu_utilization=0.9\xff"), None);
    }

    #[test]
    fn depth_is_bounded() {
        let nested = |depth: usize| {
            format!(
                r#"JSON {{"cpu_utilization":0.5,"x":{}1{}}}"#,
                r#"{"a":"#.repeat(depth),
                "}".repeat(depth)
            )
        };
        assert_eq!(parse(nested(7).as_bytes()), Some(500));
        assert_eq!(parse(nested(8).as_bytes()), None);
        assert_eq!(parse(nested(100_000).as_bytes()), None);
    }

    #[test]
    fn a_report_is_believed_while_it_is_fresh() {
        let (cell, at) = (LoadCell::default(), Moment::ZERO.plus_millis(1_000_000));
        assert_eq!(cell.latest(15_000, Moment::ZERO), None);
        cell.report(900, at);
        for (after_ms, expected) in [(0, Some(900)), (14_999, Some(900)), (15_002, None), (1 << 40, None)] {
            assert_eq!(cell.latest(15_000, at.plus_millis(after_ms)), expected, "{after_ms}");
        }
        cell.report(5_000, at);
        assert_eq!(cell.latest(1, at), Some(FULL));
    }
}
