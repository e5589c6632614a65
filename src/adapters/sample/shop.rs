//! The shop's MCP server: what a support agent needs. Orders, refunds, parcels, a large export.
//!
//! Not here: sockets and sessions. Nothing a caller does changes the order book.

use crate::adapters::sample::arguments::ExportReport;
use crate::adapters::sample::arguments::IssueRefund;
use crate::adapters::sample::arguments::OrderId;
use crate::adapters::sample::arguments::ReplyToCustomer;
use crate::adapters::sample::arguments::SearchOrders;
use crate::adapters::sample::orders;
use crate::config::limits::SAMPLE_REPORT_BYTES_MAX;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::handler::server::router::prompt::PromptRouter;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::Implementation;
use rmcp::model::ListResourcesResult;
use rmcp::model::PaginatedRequestParams;
use rmcp::model::PromptMessage;
use rmcp::model::ReadResourceRequestParams;
use rmcp::model::ReadResourceResponse;
use rmcp::model::ReadResourceResult;
use rmcp::model::Resource;
use rmcp::model::ResourceContents;
use rmcp::model::Role;
use rmcp::model::ServerCapabilities;
use rmcp::model::ServerConfig;
use rmcp::prompt;
use rmcp::prompt_handler;
use rmcp::prompt_router;
use rmcp::service::RequestContext;
use rmcp::tool;
use rmcp::tool_handler;
use rmcp::tool_router;
use serde_json::json;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

/// Above this a refund needs a person: the tool answers with `isError`, as a business rule would.
const REFUND_CENTS_MAX: u32 = 20_000;
/// Every so many calls the carrier does not answer.
const CARRIER_FAILS_EVERY: u64 = 3;
const REPORT_BYTES: usize = 64 * 1024;
const POLICY_URI: &str = "shop://policies/refunds";
const POLICY: &str = "# Refunds\n\n- Within 30 days of delivery, unused: the full amount.\n\
    - Up to 200 EUR an agent may refund alone; above it a person decides.\n\
    - Parcels that the carrier lost are refunded at once.\n";

#[derive(Clone)]
pub(super) struct Shop {
    tools: Arc<ToolRouter<Self>>,
    prompts: Arc<PromptRouter<Self>>,
    carrier_calls: Arc<AtomicU64>,
}

#[tool_router(router = tools)]
impl Shop {
    pub(super) fn new() -> Self {
        Self {
            tools: Arc::new(Self::tools()),
            prompts: Arc::new(Self::prompt_router()),
            carrier_calls: Arc::default(),
        }
    }

    #[tool(
        description = "Find orders by customer, item or status.",
        annotations(title = "Search orders", read_only_hint = true)
    )]
    async fn search_orders(&self, Parameters(wanted): Parameters<SearchOrders>) -> CallToolResult {
        let found = orders::search(&wanted.query, usize::from(wanted.limit.unwrap_or(10).clamp(1, 50)));
        CallToolResult::structured(json!({ "count": found.len(), "orders": found }))
    }

    #[tool(
        description = "Where an order stands.",
        annotations(title = "Order status", read_only_hint = true, idempotent_hint = true)
    )]
    async fn order_status(&self, Parameters(wanted): Parameters<OrderId>) -> CallToolResult {
        match orders::find(&wanted.order_id) {
            Some(order) => CallToolResult::structured(json!(order)),
            None => unknown_order(&wanted.order_id),
        }
    }

    #[tool(
        description = "Pay a customer back. Above 20000 cents a person must do it.",
        annotations(title = "Issue refund", destructive_hint = true, idempotent_hint = false)
    )]
    async fn issue_refund(&self, Parameters(wanted): Parameters<IssueRefund>) -> CallToolResult {
        let Some(order) = orders::find(&wanted.order_id) else {
            return unknown_order(&wanted.order_id);
        };
        let amount = wanted.amount_cents;
        if amount > REFUND_CENTS_MAX {
            return failed(format!("{amount} cents is more than an agent may refund ({REFUND_CENTS_MAX})."));
        }
        if amount == 0 || amount > order.total_cents {
            return failed(format!("{} was {} cents; refund 1 to that.", order.id, order.total_cents));
        }
        let reason = wanted.reason.as_deref().unwrap_or("goodwill");
        CallToolResult::structured(
            json!({ "orderId": order.id, "refundedCents": amount, "customer": order.customer, "reason": reason }),
        )
    }

    #[tool(
        description = "Ask the carrier where a parcel is. The carrier's system often fails; try again.",
        annotations(title = "Track parcel", read_only_hint = true, open_world_hint = true)
    )]
    async fn track_parcel(&self, Parameters(wanted): Parameters<OrderId>) -> CallToolResult {
        let call = self.carrier_calls.fetch_add(1, Ordering::Relaxed);
        if call % CARRIER_FAILS_EVERY == CARRIER_FAILS_EVERY - 1 {
            return failed("The carrier did not answer. Try again.".to_owned());
        }
        match orders::find(&wanted.order_id) {
            Some(order) => CallToolResult::structured(
                json!({ "orderId": order.id, "carrier": "Wold Parcels", "lastSeen": "Depot Carlisle" }),
            ),
            None => unknown_order(&wanted.order_id),
        }
    }

    #[tool(
        description = "The order book as CSV, repeated until it has the wanted size (up to 8 MiB).",
        annotations(title = "Export report", read_only_hint = true)
    )]
    async fn export_report(&self, Parameters(wanted): Parameters<ExportReport>) -> CallToolResult {
        let bytes = wanted.bytes.unwrap_or(REPORT_BYTES).clamp(1, SAMPLE_REPORT_BYTES_MAX);
        CallToolResult::success(vec![ContentBlock::text(report(bytes))])
    }
}

#[prompt_router]
impl Shop {
    #[prompt(description = "A draft of an answer to a customer who asks about an order.")]
    async fn reply_to_customer(&self, Parameters(wanted): Parameters<ReplyToCustomer>) -> Vec<PromptMessage> {
        let tone = wanted.tone.as_deref().unwrap_or("friendly");
        let status = orders::find(&wanted.order_id).map_or("unknown to us", |order| order.status);
        let text = format!(
            "Write a {tone} answer to the customer of order {}. Its status is: {status}. Offer a refund only \
             as {POLICY_URI} allows.",
            wanted.order_id
        );
        vec![PromptMessage::new_text(Role::User, text)]
    }
}

#[tool_handler(router = self.tools)]
#[prompt_handler(router = self.prompts)]
impl ServerHandler for Shop {
    fn get_info(&self) -> ServerConfig {
        let capabilities =
            ServerCapabilities::builder().enable_tools().enable_prompts().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(Implementation::new("fernhill-shop", env!("CARGO_PKG_VERSION")))
            .with_instructions("Orders and refunds of Fernhill Outfitters, a shop that does not exist.")
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let policy = Resource::new(POLICY_URI, "refunds")
            .with_description("When customers get their money back.")
            .with_mime_type("text/markdown");
        Ok(ListResourcesResult::with_all_items(vec![policy]))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        if request.uri != POLICY_URI {
            return Err(ErrorData::resource_not_found("There is no such resource.", None));
        }
        let contents = ResourceContents::text(POLICY, POLICY_URI).with_mime_type("text/markdown");
        Ok(ReadResourceResult::new(vec![contents]).into())
    }
}

fn failed(sentence: String) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(sentence)])
}

fn unknown_order(id: &str) -> CallToolResult {
    failed(format!("There is no order {id}. Order numbers look like FO-1002."))
}

/// Exactly `bytes` bytes of CSV; the last line may be cut.
fn report(bytes: usize) -> String {
    let mut text = String::with_capacity(bytes + 128);
    text.push_str("id,customer,item,status,total_cents,placed\n");
    for order in orders::ORDERS.iter().cycle() {
        if text.len() >= bytes {
            break;
        }
        // Writing into a String cannot fail.
        let _ = writeln!(
            text,
            "{},{},\"{}\",{},{},{}",
            order.id, order.customer, order.item, order.status, order.total_cents, order.placed
        );
    }
    // The table is ASCII, so every length is a character boundary.
    text.truncate(bytes);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_has_the_size_that_was_asked_for() {
        for bytes in [1, 42, 43, 44, 1_000, REPORT_BYTES, SAMPLE_REPORT_BYTES_MAX] {
            assert_eq!(report(bytes).len(), bytes);
        }
    }
}
