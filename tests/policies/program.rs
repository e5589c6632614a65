//! The judges with a copy of the access rules beside them, as a program: runs as many seeds as it is told, and fails at
//! the first on which the two differ. Built by `every_mutant_is_caught` alone.

mod policies;
mod policy {
    pub mod access;
    /// As much of it as the access rules name.
    pub mod decide {
        use crate::policy::access::Told;
        use ringgate::config::access::AccessRule;

        pub trait Trail {
            const ALL: bool = false;

            fn told(&mut self, rule: &AccessRule, told: Told);
        }

        impl Trail for () {
            fn told(&mut self, _: &AccessRule, _: Told) {}
        }
    }
    pub use ringgate::policy::claims;
    pub use ringgate::policy::expression;
    pub use ringgate::policy::identity;
}

use policies::judge;
use policies::judge::Call;
use policies::judge::names;
use policies::policy::Answer;
use policy::access::Finding;
use policy::expression::Scope;
use policy::expression::Variables;
use ringgate::config;
use ringgate::config::pattern::Named;
use ringgate::config::plan::Plan;
use ringgate::mcp;

fn main() {
    let seeds = std::env::args().nth(1).and_then(|seeds| seeds.parse().ok()).expect("a number of seeds");
    for seed in 0..seeds {
        judge::run(seed, &by_rules);
    }
}

/// The decision of the access rules alone.
fn by_rules(plan: &Plan, call: &Call<'_>) -> Answer {
    let mut patterns = call.patterns.borrow_mut();
    let is_resource = call.target.named == Named::Resource;
    let variables = Variables {
        method: call.method,
        server: call.view.server,
        tool: if call.target.named == Named::Tool { &call.target.name } else { "" },
        name: (!is_resource).then_some(&*call.target.name),
        catalogue: call.view.catalogue,
        labels: call.view.labels,
        source: call.view.source,
        now: call.view.now,
        body: call.body.as_bytes(),
        ..Variables::of_caller(call.view.caller)
    };
    let mut scope = Scope::new(variables, &mut patterns);
    match call.view.may(&plan.access, (&call.target, call.method), &mut scope, &mut ()) {
        Finding::Open => Answer::Passes,
        Finding::Hidden(rule) => Answer::Hidden(names(rule)),
        Finding::Forbidden(rule) => Answer::Forbidden(names(rule)),
        Finding::MissingScopes { rule, scopes } => {
            Answer::Scopes(rule.name.to_string(), scopes.into_iter().map(str::to_owned).collect())
        }
        Finding::Ask(rules) => panic!("nobody else decides: {rules:?}"),
    }
}
