//! Arguments of the sample tools: what clients see as `inputSchema` is derived from these types.
//!
//! Not here: what the tools do with them.

use schemars::JsonSchema;
use serde::Deserialize;

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SearchOrders {
    /// Words to look for in customer, item and status.
    pub(super) query: String,
    /// At most this many orders, 1 to 50; 10 if left out.
    #[schemars(range(min = 1, max = 50))]
    pub(super) limit: Option<u8>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct OrderId {
    /// The order's number, such as FO-1002.
    pub(super) order_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct IssueRefund {
    /// The order's number, such as FO-1004.
    pub(super) order_id: String,
    /// What to pay back, in cents. Above 20000 a person must do it.
    #[schemars(range(min = 1))]
    pub(super) amount_cents: u32,
    /// Why, in a few words; it is printed on the customer's receipt.
    pub(super) reason: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ExportReport {
    /// Size of the report in bytes, 1 to 8388608 (8 MiB); 65536 if left out.
    #[schemars(range(min = 1, max = 8_388_608))]
    pub(super) bytes: Option<usize>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ReplyToCustomer {
    /// The order's number, such as FO-1002.
    pub(super) order_id: String,
    /// How the answer should sound, such as "warm" or "brief".
    pub(super) tone: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct RunBackup {
    /// The database to back up, such as orders.
    pub(super) database: String,
    /// Steps to report, 1 to 1000; 10 if left out.
    #[schemars(range(min = 1, max = 1_000))]
    pub(super) steps: Option<u32>,
    /// Pause after each step in milliseconds, 0 to 5000; 300 if left out.
    #[schemars(range(min = 0, max = 5_000))]
    pub(super) step_ms: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SlowQuery {
    /// The question to the warehouse, in SQL. It is not run: the answer is made up.
    pub(super) sql: String,
    /// How long the warehouse thinks, in milliseconds, 0 to 30000; 2000 if left out.
    #[schemars(range(min = 0, max = 30_000))]
    pub(super) delay_ms: Option<u64>,
}

#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ServiceName {
    /// One of the names that list_services gives, such as checkout.
    pub(super) service: String,
}
