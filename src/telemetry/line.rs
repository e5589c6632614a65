//! `Record` to one JSON line (features: `call_log`), into memory that is used again.
//!
//! Not here: where lines go and what happens when they cannot (control's writer). Written by hand
//! because the writer shares its core with a worker: a line costs a few hundred nanoseconds.

use crate::base::text::Text;
use crate::telemetry::record::Decision;
use crate::telemetry::record::Decisions;
use crate::telemetry::record::Record;

/// Makes lines; remembers the text of the current second.
#[derive(Debug)]
pub struct Lines {
    second: u64,
    /// `YYYY-MM-DDThh:mm:ss` of `second`.
    text: [u8; 19],
}

impl Default for Lines {
    fn default() -> Self {
        Self { second: 0, text: *b"1970-01-01T00:00:00" }
    }
}

impl Lines {
    /// Appends one record as one line of JSON with its newline.
    pub fn write(&mut self, out: &mut Vec<u8>, record: &Record) {
        out.extend_from_slice(b"{\"ts\":\"");
        self.time(out, record.at_unix_ms);
        out.push(b'"');
        if record.trace_id != [0; 16] {
            out.extend_from_slice(b",\"traceId\":\"");
            hex(out, &record.trace_id);
            out.push(b'"');
        }
        text(out, b",\"principal\":\"", &record.principal);
        if !record.actor.is_empty() {
            text(out, b",\"actor\":\"", &record.actor);
        }
        text(out, b",\"server\":\"", &record.server);
        if !record.pool.is_empty() {
            text(out, b",\"pool\":\"", &record.pool);
        }
        if !record.instance.is_empty() {
            text(out, b",\"instance\":\"", &record.instance);
        }
        text(out, b",\"method\":\"", &record.method);
        if !record.target.is_empty() {
            let name: &[u8] = match record.method.as_bytes() {
                b"tools/call" => b",\"tool\":\"",
                b"prompts/get" => b",\"prompt\":\"",
                b"resources/read" | b"resources/subscribe" | b"resources/unsubscribe" => b",\"uri\":\"",
                _ => b",\"target\":\"",
            };
            text(out, name, &record.target);
        }
        if !record.revision.is_empty() {
            text(out, b",\"revision\":\"", &record.revision);
        }
        number(out, b",\"status\":", u64::from(record.status));
        out.extend_from_slice(b",\"outcome\":\"");
        out.extend_from_slice(record.outcome.as_str().as_bytes());
        out.push(b'"');
        if !record.reason.is_empty() {
            out.extend_from_slice(b",\"reason\":\"");
            escape(out, record.reason.as_bytes());
            out.push(b'"');
        }
        if !record.rule.is_empty() {
            text(out, b",\"rule\":\"", &record.rule);
        }
        decisions(out, &record.decisions);
        if record.code != 0 {
            out.extend_from_slice(b",\"code\":");
            out.extend_from_slice(itoa::Buffer::new().format(record.code).as_bytes());
        }
        number(out, b",\"bytesIn\":", record.bytes_in);
        number(out, b",\"bytesOut\":", record.bytes_out);
        if let Some((tokens_in, tokens_out)) = record.tokens {
            number(out, b",\"tokensIn\":", tokens_in);
            number(out, b",\"tokensOut\":", tokens_out);
        }
        number(out, b",\"latencyUs\":", micros(record.total_ns));
        number(out, b",\"upstreamUs\":", micros(record.upstream_ns));
        number(out, b",\"ownUs\":", micros(record.own_ns));
        number(out, b",\"worker\":", u64::from(record.worker));
        out.extend_from_slice(b"}\n");
    }

    /// RFC 3339 in UTC with milliseconds.
    fn time(&mut self, out: &mut Vec<u8>, unix_ms: u64) {
        let (second, ms) = (unix_ms / 1000, unix_ms % 1000);
        if second != self.second {
            self.second = second;
            self.text = civil(second);
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        out.extend_from_slice(&digits::<3>(ms));
        out.push(b'Z');
    }
}

fn decisions(out: &mut Vec<u8>, decisions: &Decisions) {
    if decisions.all().is_empty() {
        return;
    }
    for (number, Decision { rule, said }) in decisions.all().iter().enumerate() {
        let begins: &[u8] = if number == 0 { b",\"decisions\":[" } else { b"," };
        out.extend_from_slice(begins);
        text(out, b"{\"rule\":\"access.", rule);
        out.extend_from_slice(b",\"said\":\"");
        out.extend_from_slice(said.as_str().as_bytes());
        out.extend_from_slice(b"\"}");
    }
    out.push(b']');
    if decisions.more > 0 {
        number(out, b",\"decisionsMore\":", u64::from(decisions.more));
    }
}

/// To the nearest microsecond.
fn micros(nanos: u64) -> u64 {
    nanos.saturating_add(500) / 1000
}

fn number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn text<const N: usize>(out: &mut Vec<u8>, name: &[u8], value: &Text<N>) {
    out.extend_from_slice(name);
    escape(out, value.as_bytes());
    if value.was_cut() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

/// The inside of a JSON string (RFC 8259 section 7); DEL too, because lines are read on terminals.
fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\' && *byte != 0x7f;
    if bytes.iter().all(plain) {
        out.extend_from_slice(bytes);
        return;
    }
    for byte in bytes {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte if plain(byte) => out.push(*byte),
            byte => {
                out.extend_from_slice(b"\\u00");
                hex(out, &[*byte]);
            }
        }
    }
}

fn hex(out: &mut Vec<u8>, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        out.push(DIGITS[usize::from(byte >> 4)]);
        out.push(DIGITS[usize::from(byte & 15)]);
    }
}

/// The last `N` decimal digits.
fn digits<const N: usize>(mut value: u64) -> [u8; N] {
    let mut text = [b'0'; N];
    for digit in text.iter_mut().rev() {
        // Below 10, so it fits.
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
    text
}

/// Date and time of a Unix second, by the days-to-civil algorithm on years that begin in March.
fn civil(second: u64) -> [u8; 19] {
    let (days, rest) = (second / 86_400, second % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let mut text = *b"0000-00-00T00:00:00";
    text[0..4].copy_from_slice(&digits::<4>(year));
    text[5..7].copy_from_slice(&digits::<2>(month));
    text[8..10].copy_from_slice(&digits::<2>(day));
    text[11..13].copy_from_slice(&digits::<2>(rest / 3600));
    text[14..16].copy_from_slice(&digits::<2>(rest / 60 % 60));
    text[17..19].copy_from_slice(&digits::<2>(rest % 60));
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::record::DECISIONS_MAX;
    use crate::telemetry::record::Outcome;
    use crate::telemetry::record::Said;
    use proptest::prelude::*;

    fn line(record: &Record) -> String {
        let mut out = Vec::new();
        Lines::default().write(&mut out, record);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn a_whole_record() {
        let record = Record {
            at_unix_ms: 1_795_254_715_042,
            trace_id: [0xab; 16],
            principal: Text::new("alice"),
            actor: Text::new("agent-7"),
            server: Text::new("github"),
            pool: Text::new("backup"),
            instance: Text::new("http://10.0.0.7:3000"),
            method: Text::new("tools/call"),
            target: Text::new("list_issues"),
            revision: Text::new("2026-07-28"),
            outcome: Outcome::Refused,
            status: 403,
            code: -33403,
            reason: "forbidden",
            rule: Text::new("access.a"),
            decisions: Decisions::default(),
            bytes_in: 300,
            bytes_out: 512,
            tokens: Some((12, 128)),
            total_ns: 1_234_567,
            upstream_ns: 1_000_000,
            own_ns: 9_499,
            worker: 3,
        };
        let expected = concat!(
            r#"{"ts":"2026-11-21T09:51:55.042Z","traceId":"abababababababababababababababab","#,
            r#""principal":"alice","actor":"agent-7","server":"github","pool":"backup","#,
            r#""instance":"http://10.0.0.7:3000","method":"tools/call","tool":"list_issues","#,
            r#""revision":"2026-07-28","status":403,"outcome":"refused","reason":"forbidden","#,
            r#""rule":"access.a","code":-33403,"bytesIn":300,"bytesOut":512,"tokensIn":12,"tokensOut":128,"latencyUs":1235,"upstreamUs":1000,"#,
            r#""ownUs":9,"worker":3}"#,
            "\n"
        );
        assert_eq!(line(&record), expected);
    }

    #[test]
    fn the_target_is_named_after_the_method() {
        let table = [
            ("tools/call", "tool"),
            ("prompts/get", "prompt"),
            ("resources/read", "uri"),
            ("completion/complete", "target"),
        ];
        for (method, field) in table {
            let record = Record { method: Text::new(method), target: Text::new("x"), ..Record::default() };
            assert!(line(&record).contains(&format!(r#""{field}":"x""#)), "{method}");
        }
    }

    #[test]
    fn decisions_of_others_are_told_up_to_a_bound() {
        let mut record = Record::default();
        assert!(!line(&record).contains("decisions"));
        for (rule, said) in [("pii", Said::Allow), ("hours", Said::Nothing), ("geo", Said::Deny)] {
            record.decisions.push(rule, said);
        }
        let told = |record: &Record| serde_json::from_str::<serde_json::Value>(&line(record)).expect("JSON");
        let expected = serde_json::json!([
            {"rule": "access.pii", "said": "allow"},
            {"rule": "access.hours", "said": "none"},
            {"rule": "access.geo", "said": "deny"},
        ]);
        assert_eq!(told(&record)["decisions"], expected);
        assert!(told(&record).get("decisionsMore").is_none());
        for _ in 0..DECISIONS_MAX {
            record.decisions.push("more", Said::Allow);
        }
        let told = told(&record);
        assert_eq!(told["decisions"].as_array().map(Vec::len), Some(DECISIONS_MAX));
        assert_eq!(told["decisionsMore"], 3);
        record.reset();
        assert!(!line(&record).contains("decisions"));
    }

    #[test]
    fn a_cut_name_says_so() {
        let record = Record { server: Text::new(&"a".repeat(40)), ..Record::default() };
        assert!(line(&record).contains(&format!("\"{}…\"", "a".repeat(32))));
    }

    #[test]
    fn dates_agree_with_another_calendar() {
        for second in (0..4_102_444_800_u64).step_by(9_999_937) {
            let expected = jiff::Timestamp::from_second(i64::try_from(second).expect("fits"));
            let expected = expected.expect("in range").to_string();
            assert_eq!(format!("{}Z", String::from_utf8_lossy(&civil(second))), expected);
        }
    }

    proptest! {
        #[test]
        fn every_name_comes_back_from_one_line(name in "\\PC{0,20}|[\\x00-\\x7f]{0,30}") {
            let record = Record { principal: Text::new(&name), ..Record::default() };
            let line = line(&record);
            prop_assert_eq!(line.bytes().filter(|byte| *byte < b' ').count(), 1, "only the newline");
            let read: serde_json::Value = serde_json::from_str(&line).expect("JSON");
            let expected = if record.principal.was_cut() {
                format!("{}…", record.principal.as_str())
            } else {
                name
            };
            prop_assert_eq!(read["principal"].as_str(), Some(expected.as_str()));
        }
    }
}
