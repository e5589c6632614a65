//! What a comparison found, as a table, as JSON, and as verdicts.
//! Not here: measuring and statistics.

use std::fmt::Write as _;

use serde::Serialize;

use crate::account;
use crate::compare::Measured;
use crate::compare::Round;
use crate::compare::Turn;
use crate::ratio::Gate;
use crate::ratio::Ratio;
use crate::ratio::Verdict;
use crate::ratio::median;
use crate::ratio::null_band;
use crate::ratio::per_round;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    target: String,
    calls: u64,
    errors: u64,
    rate: f64,
    cpu_seconds_per_million: Option<f64>,
    times_relay: Option<Ratio>,
    times_nginx: Option<Ratio>,
    upstream_cpu_seconds_per_million: f64,
    rss_kib: Option<u64>,
    p50_micros: f64,
    p99_micros: f64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Judged {
    gate: String,
    ratio: Option<Ratio>,
    verdict: Verdict,
}

/// The whole result.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Table<'a> {
    machine: String,
    what: &'a str,
    rows: Vec<Row>,
    null_run: Option<(String, String)>,
    /// Half-width of the null run's 95 % band around 1.
    null_band: Option<f64>,
    null_ratios: Vec<f64>,
    taken_again: u32,
    disturbed_rounds: usize,
    gates: Vec<Judged>,
    rounds: &'a [Round],
}

/// One figure of `label` in every round.
fn figures(rounds: &[Round], label: &str, figure: impl Fn(&Turn) -> Option<f64>) -> Vec<Option<f64>> {
    let turn = |round: &Round| round.turns.iter().find(|turn| turn.target == label).and_then(&figure);
    rounds.iter().map(turn).collect()
}

fn cpu(rounds: &[Round], label: &str) -> Vec<Option<f64>> {
    figures(rounds, label, |turn| turn.cpu_seconds_per_million)
}

fn middle(rounds: &[Round], label: &str, figure: impl Fn(&Turn) -> f64) -> f64 {
    let figures = figures(rounds, label, |turn| Some(figure(turn)));
    median(&figures.into_iter().flatten().collect::<Vec<_>>())
}

impl<'a> Table<'a> {
    pub(crate) fn new(measured: &'a Measured, gates: &[Gate]) -> Self {
        let rounds = measured.rounds.as_slice();
        let null_ratios = measured
            .null
            .as_ref()
            .map(|(one, two)| per_round(&cpu(rounds, two), &cpu(rounds, one)))
            .unwrap_or_default();
        let band = null_band(&null_ratios);
        let disturbed = rounds.iter().filter(|round| round.disturbed).count();
        let judged = |gate: &Gate| {
            let ratio = Ratio::paired(&cpu(rounds, &gate.ours), &cpu(rounds, &gate.theirs));
            let verdict = if disturbed > 0 && !measured.keep_disturbed {
                Verdict::Unclear
            } else {
                gate.judge(ratio.map(|ratio| ratio.median), band)
            };
            Judged { gate: gate.to_string(), ratio, verdict }
        };
        Self {
            machine: account::machine(),
            what: &measured.what,
            rows: measured.labels.iter().map(|label| row(rounds, label)).collect(),
            null_run: measured.null.clone(),
            null_band: band,
            null_ratios,
            taken_again: measured.taken_again,
            disturbed_rounds: disturbed,
            gates: gates.iter().map(judged).collect(),
            rounds,
        }
    }

    /// 0 all well; 1 a gate failed or an answer was wrong; 3 somebody asked and nobody can tell.
    pub(crate) fn exit_code(&self) -> u8 {
        let any = |verdict| self.gates.iter().any(|judged| judged.verdict == verdict);
        if any(Verdict::Fail) || self.rows.iter().any(|row| row.errors > 0) {
            1
        } else if any(Verdict::Unclear) {
            3
        } else {
            0
        }
    }

    /// For people.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}\n{}, {} rounds", self.machine, self.what, self.rounds.len());
        let _ = writeln!(
            text,
            "{:<14} {:>10} {:>7} {:>8} {:>11}  {:<20} {:<20} {:>9} {:>8} {:>8} {:>8}",
            "target",
            "calls",
            "errors",
            "calls/s",
            "CPU s/1M",
            "x relay (min..max)",
            "x nginx (min..max)",
            "RSS KiB",
            "p50 us",
            "p99 us",
            "upstr."
        );
        for row in &self.rows {
            let figure = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
            let _ = writeln!(
                text,
                "{:<14} {:>10} {:>7} {:>8.0} {:>11}  {:<20} {:<20} {:>9} {:>8.0} {:>8.0} {:>8.3}",
                row.target,
                row.calls,
                row.errors,
                row.rate,
                figure(row.cpu_seconds_per_million),
                ratio_text(row.times_relay),
                ratio_text(row.times_nginx),
                row.rss_kib.map_or("-".to_owned(), |rss| rss.to_string()),
                row.p50_micros,
                row.p99_micros,
                row.upstream_cpu_seconds_per_million,
            );
        }
        self.null_text(&mut text);
        for judged in &self.gates {
            let verdict = match judged.verdict {
                Verdict::Pass => "pass",
                Verdict::Fail => "FAIL",
                Verdict::Unclear => "no verdict",
            };
            let _ = writeln!(text, "gate {}: {} {verdict}", judged.gate, ratio_text(judged.ratio));
        }
        text
    }

    fn null_text(&self, text: &mut String) {
        if let (Some((one, two)), Some(band)) = (&self.null_run, self.null_band) {
            let ratios: Vec<String> = self.null_ratios.iter().map(|ratio| format!("{ratio:.3}")).collect();
            let _ = writeln!(text, "null run {two}/{one}: {}; 95 % band 1 +- {band:.3}", ratios.join(" "));
        }
        let most = self.rounds.iter().map(|round| round.others).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "others used at most {:.1} % of the machine; rounds taken again {}, still disturbed {}",
            most * 100.0,
            self.taken_again,
            self.disturbed_rounds
        );
    }
}

fn row(rounds: &[Round], label: &str) -> Row {
    let turns = || rounds.iter().flat_map(|round| &round.turns).filter(|turn| turn.target == label);
    let own = cpu(rounds, label);
    let present: Vec<f64> = own.iter().copied().flatten().collect();
    Row {
        target: label.to_owned(),
        calls: turns().map(|turn| turn.calls).sum(),
        errors: turns().map(|turn| turn.errors).sum(),
        rate: middle(rounds, label, |turn| turn.rate),
        cpu_seconds_per_million: (!present.is_empty()).then(|| median(&present)),
        times_relay: Ratio::paired(&own, &cpu(rounds, "relay")),
        times_nginx: Ratio::paired(&own, &cpu(rounds, "nginx")),
        upstream_cpu_seconds_per_million: middle(rounds, label, |turn| turn.upstream_cpu_seconds_per_million),
        rss_kib: turns().filter_map(|turn| turn.rss_kib).max(),
        p50_micros: middle(rounds, label, |turn| turn.p50_micros),
        p99_micros: middle(rounds, label, |turn| turn.p99_micros),
    }
}

fn ratio_text(ratio: Option<Ratio>) -> String {
    ratio.map_or("-".to_owned(), |ratio| format!("{:.3} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(others: f64, errors: u64) -> Measured {
        let turn = |target: &str, cpu| Turn {
            target: target.to_owned(),
            calls: 10,
            errors,
            rate: 1.0,
            cpu_seconds_per_million: Some(cpu),
            upstream_cpu_seconds_per_million: 1.0,
            rss_kib: Some(1),
            p50_micros: 1.0,
            p99_micros: 1.0,
        };
        let round = |factor: f64| Round {
            turns: vec![turn("relay", 2.0 * factor), turn("relay'", 2.0 * factor), turn("x", 2.4 * factor)],
            others,
            disturbed: others > 0.05,
        };
        Measured {
            labels: ["relay", "relay'", "x"].map(str::to_owned).to_vec(),
            null: Some(("relay".to_owned(), "relay'".to_owned())),
            rounds: vec![round(1.0), round(2.0), round(0.5)],
            taken_again: 0,
            what: String::new(),
            keep_disturbed: false,
        }
    }

    fn check(others: f64, errors: u64, gate: &str, expected: u8) {
        let measured = measured(others, errors);
        let table = Table::new(&measured, &[gate.parse().unwrap()]);
        assert_eq!(table.exit_code(), expected, "{}", table.text());
    }

    #[test]
    fn exit_codes_say_pass_fail_and_no_verdict() {
        check(0.01, 0, "x/relay<=1.22", 0);
        check(0.01, 0, "x/relay<=1.19", 1);
        check(0.06, 0, "x/relay<=1.22", 3);
        check(0.01, 1, "x/relay<=1.22", 1);
    }
}
