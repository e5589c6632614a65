//! The operations desk's MCP server: a backup that streams its progress, a slow query, services.
//!
//! Not here: sockets and sessions. Nothing is really backed up, queried or restarted.

use crate::adapters::sample::arguments::RunBackup;
use crate::adapters::sample::arguments::ServiceName;
use crate::adapters::sample::arguments::SlowQuery;
use crate::config::limits::SAMPLE_DELAY_MS_MAX;
use crate::config::limits::SAMPLE_STEP_MS_MAX;
use crate::config::limits::SAMPLE_STEPS_MAX;
use rmcp::ErrorData;
use rmcp::RoleServer;
use rmcp::ServerHandler;
use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::Parameters;
use rmcp::model::CallToolResult;
use rmcp::model::ContentBlock;
use rmcp::model::Implementation;
use rmcp::model::ProgressNotificationParam;
use rmcp::model::ServerCapabilities;
use rmcp::model::ServerConfig;
use rmcp::service::RequestContext;
use rmcp::tool;
use rmcp::tool_handler;
use rmcp::tool_router;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;

/// Name, state, requests a second.
const SERVICES: [(&str, &str, u32); 4] = [
    ("checkout", "healthy", 41),
    ("catalogue", "healthy", 230),
    ("mailer", "degraded", 3),
    ("search", "healthy", 87),
];

#[derive(Clone)]
pub(super) struct Operations {
    tools: Arc<ToolRouter<Self>>,
}

#[tool_router(router = tools)]
impl Operations {
    pub(super) fn new() -> Self {
        Self { tools: Arc::new(Self::tools()) }
    }

    #[tool(
        description = "Back up a database and report each step. Ends early when the caller cancels.",
        annotations(title = "Run backup", destructive_hint = false)
    )]
    async fn run_backup(
        &self,
        Parameters(wanted): Parameters<RunBackup>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let steps = wanted.steps.unwrap_or(10).clamp(1, SAMPLE_STEPS_MAX);
        let pause = Duration::from_millis(wanted.step_ms.unwrap_or(300).min(SAMPLE_STEP_MS_MAX));
        for step in 1..=steps {
            tokio::select! {
                // A backup takes time.
                () = tokio::time::sleep(pause) => {}
                () = context.ct.cancelled() => return failed("The backup was cancelled."),
            }
            if let Some(token) = context.meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, f64::from(step))
                    .with_total(f64::from(steps))
                    .with_message(format!("{}: part {step} of {steps}", wanted.database));
                // The caller's stream is gone: nobody waits for the rest.
                if context.peer.notify_progress(progress).await.is_err() {
                    return failed("The caller left.");
                }
            }
        }
        CallToolResult::structured(
            json!({ "database": wanted.database, "parts": steps, "state": "complete" }),
        )
    }

    #[tool(
        description = "Ask the data warehouse. It takes its time.",
        annotations(title = "Slow query", read_only_hint = true)
    )]
    async fn slow_query(
        &self,
        Parameters(wanted): Parameters<SlowQuery>,
        context: RequestContext<RoleServer>,
    ) -> CallToolResult {
        let delay_ms = wanted.delay_ms.unwrap_or(2_000).min(SAMPLE_DELAY_MS_MAX);
        tokio::select! {
            // Being slow is what it is for.
            () = tokio::time::sleep(Duration::from_millis(delay_ms)) => {}
            () = context.ct.cancelled() => return failed("The query was cancelled."),
        }
        CallToolResult::structured(json!({ "sql": wanted.sql, "rows": [[42]], "tookMs": delay_ms }))
    }

    #[tool(
        description = "The services and how they are.",
        annotations(title = "List services", read_only_hint = true)
    )]
    async fn list_services(&self) -> CallToolResult {
        let services: Vec<_> = SERVICES
            .iter()
            .map(|(name, state, rate)| json!({ "name": name, "state": state, "requestsPerSecond": rate }))
            .collect();
        CallToolResult::structured(json!({ "services": services }))
    }

    #[tool(
        description = "Restart one service. Customers may notice.",
        annotations(title = "Restart service", destructive_hint = true)
    )]
    async fn restart_service(
        &self,
        Parameters(wanted): Parameters<ServiceName>,
    ) -> Result<CallToolResult, ErrorData> {
        if SERVICES.iter().any(|(name, ..)| *name == wanted.service) {
            Ok(CallToolResult::structured(json!({ "service": wanted.service, "state": "restarting" })))
        } else {
            // An error of the protocol, not of the tool: the demo's metrics show both kinds.
            Err(ErrorData::invalid_params("There is no such service. Ask list_services.", None))
        }
    }
}

#[tool_handler(router = self.tools)]
impl ServerHandler for Operations {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("fernhill-operations", env!("CARGO_PKG_VERSION")))
            .with_instructions("The operations desk of Fernhill Outfitters, a shop that does not exist.")
    }
}

fn failed(sentence: &str) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(sentence)])
}
