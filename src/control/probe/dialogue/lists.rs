//! What a server lists, all pages of it, and what it says of itself.
//!
//! Not here: when to list (`catalogue`), and what a page says (`mcp::catalogue`).

use crate::config::limits;
use crate::config::plan::EraChoice;
use crate::control::probe::dialogue::Dead;
use crate::control::probe::dialogue::Dialogue;
use crate::control::probe::dialogue::METHOD;
use crate::control::probe::dialogue::METHOD_NOT_FOUND;
use crate::control::probe::dialogue::MODERN;
use crate::control::probe::dialogue::Shown;
use crate::control::probe::dialogue::UNWELCOME;
use crate::control::probe::dialogue::VERSION;
use crate::control::probe::dialogue::message;
use crate::control::probe::dialogue::meta;
use crate::mcp::answer::AnswerScan;
use crate::mcp::answer::Form;
use crate::mcp::catalogue::Catalogue;
use crate::mcp::catalogue::about::About;
use crate::mcp::catalogue::about::Capabilities;
use crate::mcp::crossing::Abilities;
use crate::mcp::envelope::Era;
use hyper::Method;
use hyper::header::HeaderName;
use hyper::header::HeaderValue;
use serde_json::Value;
use serde_json::json;

const INTERNAL_ERROR: i32 = -32603;
/// Statuses of 4xx with which a server refuses what it may well have: it wants to know who asks, or to be asked later.
const NOT_NOW: [u16; 4] = [401, 408, 425, 429];
/// What every server is asked for; the others only those that declare `resources`.
const ALWAYS: [&str; 2] = ["tools/list", "prompts/list"];
const RESOURCES: [&str; 2] = ["resources/list", "resources/templates/list"];

/// What is listed so far.
struct Lists {
    era: EraChoice,
    /// Of every request.
    fields: Vec<(HeaderName, HeaderValue)>,
    bytes_left: usize,
    found: Catalogue,
}

impl Dialogue<'_> {
    /// Asks for all that the server offers, in the era that is given or that it shows; tells the era.
    pub(in crate::control) async fn list(&mut self, era: EraChoice) -> Result<(EraChoice, Catalogue), Dead> {
        let shown = match era {
            EraChoice::Auto => self.discover().await?,
            EraChoice::Modern => {
                // Only to hear what it says of itself: the lists prove that it lives.
                let said = self.discover().await;
                if !self.is_answered {
                    said?;
                }
                Shown::Alive(EraChoice::Modern)
            }
            EraChoice::Legacy => Shown::Legacy,
        };
        let (era, fields) = match shown {
            Shown::Alive(EraChoice::Modern) => (EraChoice::Modern, vec![(VERSION, MODERN)]),
            Shown::Alive(_) => return Err(UNWELCOME.into()),
            Shown::Legacy => (EraChoice::Legacy, self.shake_hands(Abilities::ALL).await?.ok_or(UNWELCOME)?),
        };
        let found = Catalogue { about: self.introduction(era), ..Catalogue::default() };
        let has_resources = found.about.has.resources;
        let mut lists = Lists { era, fields, bytes_left: limits::CATALOGUE_BYTES_MAX, found };
        for method in ALWAYS.into_iter().chain(RESOURCES.into_iter().filter(|_| has_resources)) {
            self.pages(method, &mut lists).await?;
        }
        Ok((era, lists.found))
    }

    /// What it has said of itself in this era.
    fn introduction(&mut self, era: EraChoice) -> About {
        let (era, revision) = match era {
            EraChoice::Modern => (Era::Modern, "2026-07-28"),
            EraChoice::Legacy | EraChoice::Auto => (Era::Legacy, "2025-11-25"),
        };
        let said = self.about.take().filter(|about| about.era == era);
        said.unwrap_or_else(|| About { era, revision: revision.into(), ..About::default() })
    }

    /// Adds all pages of one list.
    async fn pages(&mut self, method: &'static str, lists: &mut Lists) -> Result<(), Dead> {
        let is_modern = lists.era == EraChoice::Modern;
        let mut fields = lists.fields.clone();
        fields.extend(is_modern.then_some((METHOD, HeaderValue::from_static(method))));
        let mut cursor = None;
        for _ in 0..limits::CATALOGUE_PAGES_MAX {
            let is_first = cursor.is_none();
            let mut params = if is_modern { json!({ "_meta": meta() }) } else { json!({}) };
            if let Some(cursor) = cursor {
                params["cursor"] = Value::String(cursor);
            }
            let request = self.request(Method::POST, Some(&message(method, &params)), &fields)?;
            let begun = self.send(request).await?;
            let status = begun.head.status.as_u16();
            let body = self.link.read_whole(begun, lists.bytes_left).await;
            let body = body.map_err(|error| format!("no whole answer to {method}: {error}"))?;
            lists.bytes_left = lists.bytes_left.saturating_sub(body.len());
            if is_first && has_no(method, status, &body, lists.found.about.has) {
                return Ok(());
            }
            if !matches!(status, 200..=299) {
                return Err(format!("it answers {method} with {status}"));
            }
            // A long list takes milliseconds.
            let mut found = std::mem::take(&mut lists.found);
            let read = tokio::task::spawn_blocking(move || (found.add(&body), found));
            let next;
            (next, lists.found) = read.await.map_err(|error| error.to_string())?;
            cursor = next?;
            if cursor.is_none() {
                return Ok(());
            }
        }
        Err(format!("its {method} has more than {} pages", limits::CATALOGUE_PAGES_MAX))
    }
}

/// Whether a server says, instead of a first page, that it has nothing of the kind: it does not know the method, or, as some
/// say it of what they do not declare, refuses it in words of their own. Anything else is a list that could not be had: what
/// was known of it stays. So is a page that is refused after others, as where a cursor is good no more (2026-07-28, caching).
fn has_no(method: &str, status: u16, body: &[u8], has: Capabilities) -> bool {
    let mut scan = AnswerScan::new(Form::Json);
    scan.feed(body);
    let is_last_word = matches!(status, 200..=299 | 400..=499) && !NOT_NOW.contains(&status);
    // Resources are asked for only where they are declared, and tools are what a server is for.
    let is_undeclared = method == "prompts/list" && !has.prompts;
    match scan.facts().error_code {
        Some(METHOD_NOT_FOUND) => true,
        Some(code) => is_undeclared && is_last_word && code != INTERNAL_ERROR,
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A failing server has not lost what it had: only who says that it has nothing of a kind has nothing.
    #[test]
    fn regression_a_refused_list_is_not_an_empty_one() {
        let (none, prompts) =
            (Capabilities::default(), Capabilities { prompts: true, ..Capabilities::default() });
        for (method, has, status, code, expected) in [
            ("tools/list", none, 200, -32601, true),
            ("prompts/list", prompts, 404, -32601, true),
            ("prompts/list", prompts, 503, -32601, true),
            ("resources/templates/list", none, 400, -32601, true),
            // In words of its own, of what it does not declare.
            ("prompts/list", none, 200, -32000, true),
            ("prompts/list", none, 400, -32602, true),
            ("prompts/list", none, 403, -32000, true),
            ("prompts/list", prompts, 200, -32602, false),
            ("prompts/list", none, 200, -32603, false),
            ("tools/list", none, 200, -32602, false),
            ("resources/list", none, 200, -32002, false),
            ("resources/templates/list", none, 200, -32000, false),
            // Not its last word.
            ("prompts/list", none, 401, -32000, false),
            ("prompts/list", none, 408, -32000, false),
            ("prompts/list", none, 425, -32000, false),
            ("prompts/list", none, 429, -32000, false),
            ("prompts/list", none, 500, -32000, false),
            ("prompts/list", none, 503, -32000, false),
            ("prompts/list", none, 302, -32000, false),
        ] {
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"error":{{"code":{code},"message":"no"}}}}"#);
            assert_eq!(has_no(method, status, body.as_bytes(), has), expected, "{method} {status} {code}");
        }
        assert!(!has_no("prompts/list", 404, b"", none), "a word of a proxy");
    }
}
