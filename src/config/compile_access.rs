//! Access rules as they are written to what the plan says about access, and whether their parts fit together.
//!
//! Not here: what single values look like (`read_access`), and deciding (`policy::access`).

use crate::config::access::Access;
use crate::config::access::AccessRule;
use crate::config::access::Effect;
use crate::config::access::External;
use crate::config::compile;
use crate::config::compile_identity;
use crate::config::compile_limit;
use crate::config::file_access;
use crate::config::file_access::OnError;
use crate::config::file_access::Written;
use crate::config::limits;
use crate::config::pattern::ToolPattern;
use crate::config::reader::Located;
use crate::config::reader::Reader;
use std::sync::Arc;

/// What a rule of `opa` is about where nothing is said.
const EVERYTHING: [&str; 3] = ["*", "prompt:*", "resource:*"];

/// `servers`: names of all servers, disabled ones among them.
pub fn access(reader: &mut Reader<'_>, written: Vec<file_access::AccessRule>, servers: &[&str]) -> Access {
    if let Some(rule) = written.get(limits::ACCESS_RULES_MAX) {
        reader.problem(rule.place, format!("more than {} access rules", limits::ACCESS_RULES_MAX), "");
        return Access::default();
    }
    compile::unique(reader, written.iter().filter_map(|rule| rule.name.as_ref()), "access rule");
    Access { rules: written.into_iter().filter_map(|rule| one(reader, rule, servers)).collect() }
}

fn one(reader: &mut Reader<'_>, written: file_access::AccessRule, servers: &[&str]) -> Option<AccessRule> {
    for name in &written.principals {
        compile::is_principal(reader, name);
    }
    let Some((patterns, effect)) = effect(reader, &written) else {
        // What is wrong inside of it is told as well.
        for written in [&written.allow, &written.deny, &written.tools] {
            compile_limit::tools(reader, written, servers);
        }
        return None;
    };
    let everything = patterns.is_empty() && matches!(effect, Effect::External(_));
    let patterns = if everything {
        EVERYTHING.into_iter().filter_map(ToolPattern::new).collect()
    } else {
        compile_limit::tools(reader, patterns, servers)
    };
    let texts = |written: Vec<Located<String>>| written.into_iter().map(|text| text.value.into()).collect();
    Some(AccessRule {
        patterns,
        effect,
        // One without a name was reported, and there is no plan.
        name: Arc::from(written.name.map_or(String::new(), |name| name.value)),
        roles: texts(written.roles),
        principals: texts(written.principals),
        when: written.when,
    })
}

/// What the rule does, and about what it says so. None: that is not clear, and was reported.
fn effect<'w>(
    reader: &mut Reader<'_>,
    written: &'w file_access::AccessRule,
) -> Option<(&'w [Located<String>], Effect)> {
    let Written { key, place } = match written.effects.as_slice() {
        [only] => *only,
        [] => {
            let cure =
                "Write what it does: `allow: [server.tool]`, `deny: […]`, `scopes: […]` or `opa: URL`.";
            reader.problem(written.place, "an access rule does nothing", cure);
            return None;
        }
        [first, second, ..] => {
            let what = format!("`{}` and `{}` exclude each other", first.key, second.key);
            reader.problem(second.place, what, "Write two rules.");
            return None;
        }
    };
    Some(match key {
        "allow" => (&written.allow, Effect::Allow),
        "deny" => (&written.deny, Effect::Deny),
        "scopes" => {
            if written.tools.is_empty() {
                let cure = "Name the tools that need them: `tools: [server.tool]`.";
                reader.problem(place, "a rule of `scopes` has no `tools`", cure);
            }
            (&written.tools, Effect::Scopes(scopes(reader, &written.scopes)))
        }
        _ => (&written.tools, Effect::External(external(reader, written)?)),
    })
}

/// Scope tokens (RFC 6749 section 3.3): they stand between spaces, inside of quotes.
fn scopes(reader: &mut Reader<'_>, written: &[Located<String>]) -> Vec<Box<str>> {
    let fits = |text: &str| {
        (1..=limits::SCOPE_BYTES_MAX).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    };
    for text in written.iter().filter(|text| !text.value.is_empty() && !fits(&text.value)) {
        let cure = format!(
            "It has 1 to {} visible ASCII characters, no space, no quote and no backslash.",
            limits::SCOPE_BYTES_MAX
        );
        reader.problem(text.place, format!("{} is no scope", text.shown()), cure);
    }
    if let Some(text) = written.get(limits::SCOPES_MAX) {
        reader.problem(text.place, format!("more than {} scopes", limits::SCOPES_MAX), "Join some of them.");
    }
    written.iter().map(|text| text.value.as_str().into()).collect()
}

fn external(reader: &mut Reader<'_>, written: &file_access::AccessRule) -> Option<External> {
    let url = written.opa.as_ref()?;
    compile_identity::check_url(reader, url);
    Some(External {
        url: url.value.as_str().into(),
        timeout_ms: written.timeout.unwrap_or(limits::DECISION_MS_DEFAULT),
        allows_on_error: written.on_error == Some(OnError::Allow),
        cache_ms: written.cache_for.unwrap_or(0),
    })
}
