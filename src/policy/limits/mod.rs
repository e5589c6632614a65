//! Rates, quotas and token counts of callers: exact over all workers, without a lock, in fixed memory.
//!
//! Not here: what the operator asked for (`config::limit`), and anything that outlives the process (control).

pub mod calendar;
pub mod fields;
pub mod gate;
pub mod keys;
pub mod pinned;
pub mod rules;
pub mod table;
pub mod terms;
pub mod usage;

#[cfg(test)]
mod tests;

use crate::base::clock::Moment;
use crate::config::limit::LimitTable;
use crate::config::limits;
use crate::policy::limits::gate::Receipt;
use crate::policy::limits::gate::When;
use crate::policy::limits::keys::Keys;
use crate::policy::limits::pinned::Debts;
use crate::policy::limits::pinned::Quotas;
use crate::policy::limits::table::Table;
use crate::policy::limits::terms::Verdict;

/// Everything that is counted, shared by all workers. Made at the start: its size changes with a restart only.
pub struct Counters {
    pub table: Table,
    pub quotas: Quotas,
    pub debts: Debts,
    pub keys: Keys,
}

impl Counters {
    pub fn new(table: LimitTable, keys: Keys) -> Self {
        Self {
            table: Table::new(table.buckets),
            quotas: Quotas::new(limits::PINNED_CELLS_MAX),
            debts: Debts::new(limits::PINNED_CELLS_MAX),
            keys,
        }
    }

    /// The call of these receipts went nowhere.
    pub fn give_back(&self, receipts: &[Receipt], moment: Moment) {
        for receipt in receipts {
            match *receipt {
                Receipt::Rate(key, terms, cost) => self.table.give_back(key, &terms, cost, moment),
                Receipt::Quota(key, quota, cost) => self.quotas.give_back(key, &quota, cost),
                Receipt::Tokens(..) => {}
            }
        }
    }

    /// What the limit of this receipt has left for the next call; none where calls are not what it counts.
    pub fn left(&self, receipt: &Receipt, when: When) -> Option<Verdict> {
        match receipt {
            Receipt::Rate(key, terms, _) => Some(self.table.check(*key, terms, 0, when.moment)),
            Receipt::Quota(key, quota, _) => Some(self.quotas.check(*key, quota, 0, when.unix_ns)),
            Receipt::Tokens(..) => None,
        }
    }

    /// The call of these receipts cost so many tokens, from arguments to results.
    pub fn charge_tokens(&self, receipts: &[Receipt], tokens: u64, moment: Moment) {
        for receipt in receipts {
            if let Receipt::Tokens(key, terms) = receipt {
                self.debts.charge(*key, terms, tokens, moment.as_nanos());
            }
        }
    }
}
