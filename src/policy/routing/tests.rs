//! Which pool a call is for, by rules and by shares.

use super::*;
use crate::base::clock::Moment;
use crate::config;
use crate::config::labels::Labels;
use crate::config::plan::Plan;
use crate::mcp::envelope::Method;
use crate::policy::access::Standing;
use crate::policy::identity::Caller;
use crate::policy::limits::gate::When;
use std::cell::RefCell;
use std::net::IpAddr;
use std::path::Path;

/// One server `crm` with the pools a, b and c, and these keys.
fn plan(keys: &str) -> Plan {
    let pool = |name: &str| format!("{name}: {{url: \"http://127.0.0.1:1/{name}\"}}");
    let pools = ["a", "b", "c"].map(pool).join(", ");
    let text = format!("mcpServers: {{crm: {{pools: {{{pools}}}, failover: c, {keys}}}}}");
    config::load_text(&text, "a.yaml", Path::new("")).unwrap_or_else(|problems| panic!("{problems}")).plan
}

/// Where a call of the tool `read` goes, and which expressions failed.
fn go(plan: &Plan, caller: &Caller, arguments: &str, random: u64) -> (Aim, Vec<String>) {
    let (aim, hooks, failed) = head(plan, (caller, Method::ToolsCall), arguments, random);
    assert!(hooks.is_empty());
    (aim, failed)
}

/// The same, and the rules whose hooks are to be asked.
fn head(
    plan: &Plan,
    (caller, method): (&Caller, Method),
    arguments: &str,
    random: u64,
) -> (Aim, Vec<String>, Vec<String>) {
    let patterns = RefCell::default();
    let standing = Standing::new(&plan.access, caller, &patterns);
    let body = format!(r#"{{"params":{{"name":"read","arguments":{arguments}}}}}"#);
    let asked = Asked {
        caller,
        standing: &standing,
        server: "crm",
        catalogue: None,
        labels: Labels::NONE,
        method,
        method_text: method.as_str(),
        target: "read",
        targets: &[],
        source: IpAddr::from([10, 0, 0, 7]),
        body: body.as_bytes(),
        when: When { moment: Moment::ZERO, unix_ns: 0 },
        number: 0,
        answers: &[],
    };
    let mut failed = Vec::new();
    let tell = |name: &str| failed.push(name.to_owned());
    let routing = &plan.servers[0].routing;
    let (aim, hooks) = aim(routing, &asked, &mut patterns.borrow_mut(), random, tell);
    (aim, hooks.of(routing).map(|(rule, _)| rule.name.to_string()).collect(), failed)
}

fn named(name: &str) -> Caller {
    Caller::of_certificate(name)
}

#[test]
fn the_first_rule_that_holds_names_the_pool() {
    let plan = plan(
        "route: [{when: 'args.region == \"eu\"', pool: b}, {when: 'tool == \"read\" && args.n > 1', pool: c}, \
         {when: 'principal == \"bob\"', pool: b}]",
    );
    let rule = |index: usize| format!("mcpServers.crm.route[{index}]");
    for (caller, arguments, pool, failed) in [
        ("ada", r#"{"region":"eu"}"#, 1, vec![]),
        ("ada", r#"{"region":"eu","n":5}"#, 1, vec![]),
        ("ada", r#"{"region":"us","n":5}"#, 2, vec![]),
        ("ada", r#"{"region":"us","n":1}"#, 0, vec![]),
        ("ada", r#"{"n":5}"#, 2, vec![rule(0)]),
        ("ada", "{}", 0, vec![rule(0), rule(1)]),
        ("ada", r#"{"region":1,"n":"x"}"#, 0, vec![rule(1)]),
        ("bob", "{}", 1, vec![rule(0), rule(1)]),
    ] {
        let expected = (Aim { pool, handle: None }, failed);
        assert_eq!(go(&plan, &named(caller), arguments, 7), expected, "{caller} {arguments}");
    }
}

/// Hooks before the rule that holds are asked, in their order; where they name nothing, that rule counts.
#[test]
fn hooks_are_asked_before_the_rule_that_holds() {
    let plan = plan(
        "route: [{when: 'args.n > 1', pool: b}, {hook: \"http://127.0.0.1:1/a\"}, \
         {hook: \"http://127.0.0.1:1/b\", when: 'args.text != \"\"'}, {when: 'tool == \"read\"', pool: c}, \
         {hook: \"http://127.0.0.1:1/c\"}]",
    );
    let rule = |index: usize| format!("mcpServers.crm.route[{index}]");
    let call = Method::ToolsCall;
    for (method, arguments, pool, hooks, failed) in [
        (call, r#"{"n":2}"#, 1, vec![], vec![]),
        (call, r#"{"n":1,"text":"x"}"#, 2, vec![rule(1), rule(2)], vec![]),
        (call, r#"{"n":1,"text":""}"#, 2, vec![rule(1)], vec![]),
        (call, r#"{"text":1}"#, 2, vec![rule(1), rule(2)], vec![rule(0)]),
        (call, "{}", 2, vec![rule(1)], vec![rule(0), rule(2)]),
        // Nothing that a hook could tell anything from.
        (Method::ToolsList, r#"{"n":1}"#, 0, vec![], vec![]),
    ] {
        let told = head(&plan, (&named("ada"), method), arguments, 7);
        assert_eq!(told, (Aim { pool, handle: None }, hooks, failed), "{arguments}");
    }
    assert!(plan.servers[0].routing.reads_calls());
}

#[test]
fn calls_with_equal_values_have_equal_handles() {
    let plan = plan("split: {a: 100, b: 0}, affinity: args.handle");
    let handle = |arguments: &str| go(&plan, &named("ada"), arguments, 7).0.handle;
    assert_eq!(handle(r#"{"handle":"h1"}"#), handle(r#"{"handle":"h1","x":1}"#));
    assert_eq!(handle(r#"{"handle":1}"#), handle(r#"{"handle":1.0}"#));
    assert_ne!(handle(r#"{"handle":"h1"}"#), handle(r#"{"handle":"h2"}"#));
    let (aim, failed) = go(&plan, &named("ada"), "{}", 7);
    assert_eq!((aim, failed), (Aim::default(), vec!["mcpServers.crm.affinity".to_owned()]));
}

/// Feature `rollout`: "5 % ± 0.5 over 20,000 principals, one principal never flips while the split stands", and a new
/// split moves callers in one direction.
#[test]
fn a_split_keeps_callers_where_they_are() {
    let pools = |split: &str| -> Vec<usize> {
        let plan = plan(split);
        let of = |number: u32| go(&plan, &named(&format!("agent-{number}")), "{}", u64::from(number)).0.pool;
        (0..20_000).map(of).collect()
    };
    let count = |pools: &[usize], pool: usize| pools.iter().filter(|one| **one == pool).count();
    let before = pools("split: {a: 95, b: 5}");
    assert!((900..=1_100).contains(&count(&before, 1)), "{}", count(&before, 1));
    assert_eq!(before, pools("split: {b: 5, a: 95}, sticky: principal"));
    let after = pools("split: {a: 75, b: 25}");
    assert!((4_800..=5_200).contains(&count(&after, 1)), "{}", count(&after, 1));
    assert!(before.iter().zip(&after).all(|(before, after)| before == after || (*before, *after) == (0, 1)));
    let each_call = pools("split: {a: 50, b: 50}, sticky: none");
    assert!((9_700..=10_300).contains(&count(&each_call, 1)), "{}", count(&each_call, 1));
}

#[test]
fn a_tenant_stays_together() {
    let plan = plan("split: {a: 50, b: 50}, sticky: tenant");
    let of = |tenant: &str, name: &str| {
        let caller = Caller { tenant: tenant.into(), ..named(name) };
        go(&plan, &caller, "{}", 7).0.pool
    };
    let homes: Vec<usize> = (0..64).map(|tenant| of(&format!("t{tenant}"), "ada")).collect();
    assert!(homes.contains(&0) && homes.contains(&1));
    for (tenant, home) in homes.iter().enumerate() {
        assert_eq!(of(&format!("t{tenant}"), "bob"), *home);
    }
}

proptest::proptest! {
    /// Every point of the circle is in a pool whose share is not 0, as many as the share says.
    #[test]
    fn shares_cover_the_circle(first in 0_u8..=100, second in 0_u8..=100) {
        let (low, high) = (first.min(second), first.max(second));
        let percents = [low, high - low, 100 - high];
        let split: Vec<Share> =
            percents.iter().zip(0..).map(|(percent, pool)| Share { pool, percent: *percent }).collect();
        let mut counts = [0; 3];
        (0..100).for_each(|point| counts[share_at(&split, point)] += 1);
        proptest::prop_assert_eq!(counts, percents);
    }
}
