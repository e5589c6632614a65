//! MCP requests of the demo, in both eras, as HTTP requests and as lines for a shell.
//!
//! Not here: sending them (`client`, `traffic`).

use crate::cli::demo::client::Request;
use serde_json::Value;
use serde_json::json;

/// The revision that needs no session.
pub const MODERN: &str = "2026-07-28";
/// The newest of those with `initialize` and sessions.
pub const LEGACY: &str = "2025-11-25";

/// A method with its parameters and what `Mcp-Name` must say about them.
#[derive(Clone, Debug)]
pub struct Call {
    pub method: &'static str,
    pub params: Value,
    pub name: Option<String>,
}

impl Call {
    pub fn plain(method: &'static str) -> Self {
        Self { method, params: json!({}), name: None }
    }

    pub fn tool(name: &str, arguments: Value) -> Self {
        let params = json!({ "name": name, "arguments": arguments });
        Self { method: "tools/call", params, name: Some(name.to_owned()) }
    }

    pub fn prompt(name: &str, arguments: Value) -> Self {
        let params = json!({ "name": name, "arguments": arguments });
        Self { method: "prompts/get", params, name: Some(name.to_owned()) }
    }

    pub fn resource(uri: &str) -> Self {
        Self { method: "resources/read", params: json!({ "uri": uri }), name: Some(uri.to_owned()) }
    }

    /// Asks the server to report progress under `token`.
    #[must_use]
    pub fn with_progress(mut self, token: u64) -> Self {
        self.params["_meta"] = json!({ "progressToken": token });
        self
    }
}

/// A caller of one server: the endpoint and the key it shows.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Request target, such as `/mcp/shop`.
    pub target: String,
    /// None: no `Authorization` at all.
    pub key: Option<String>,
}

impl Caller {
    /// One self-contained POST of revision 2026-07-28: everything in the body, mirrored in headers.
    pub fn modern(&self, id: u64, call: &Call) -> Request {
        let mut params = call.params.clone();
        let meta = params["_meta"].take();
        params["_meta"] = if meta.is_object() { meta } else { json!({}) };
        params["_meta"]["io.modelcontextprotocol/protocolVersion"] = json!(MODERN);
        params["_meta"]["io.modelcontextprotocol/clientInfo"] = client_info();
        params["_meta"]["io.modelcontextprotocol/clientCapabilities"] = json!({});
        let mut request = self.post(&json!({
            "jsonrpc": "2.0", "id": id, "method": call.method, "params": params
        }));
        request.fields.push(("MCP-Protocol-Version", MODERN.to_owned()));
        request.fields.push(("Mcp-Method", call.method.to_owned()));
        if let Some(name) = &call.name {
            request.fields.push(("Mcp-Name", name.clone()));
        }
        request
    }

    /// The first request of an older client; the answer's `Mcp-Session-Id` names the session.
    pub fn initialize(&self, id: u64) -> Request {
        let params = json!({ "protocolVersion": LEGACY, "capabilities": {}, "clientInfo": client_info() });
        self.post(&json!({ "jsonrpc": "2.0", "id": id, "method": "initialize", "params": params }))
    }

    /// The notification that must follow `initialize`.
    pub fn initialized(&self, session: &str) -> Request {
        self.in_session(session, &json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }))
    }

    pub fn legacy(&self, session: &str, id: u64, call: &Call) -> Request {
        let message = json!({ "jsonrpc": "2.0", "id": id, "method": call.method, "params": call.params });
        self.in_session(session, &message)
    }

    /// Ends a session.
    pub fn delete(&self, session: &str) -> Request {
        let mut request = self.in_session(session, &Value::Null);
        request.method = "DELETE";
        request.body.clear();
        request
    }

    fn in_session(&self, session: &str, message: &Value) -> Request {
        let mut request = self.post(message);
        request.fields.push(("MCP-Protocol-Version", LEGACY.to_owned()));
        request.fields.push(("Mcp-Session-Id", session.to_owned()));
        request
    }

    fn post(&self, message: &Value) -> Request {
        let mut fields = vec![
            ("Content-Type", "application/json".to_owned()),
            ("Accept", "application/json, text/event-stream".to_owned()),
        ];
        if let Some(key) = &self.key {
            fields.push(("Authorization", format!("Bearer {key}")));
        }
        Request { method: "POST", target: self.target.clone(), fields, body: message.to_string() }
    }
}

fn client_info() -> Value {
    json!({ "name": "ringgate-demo", "version": env!("CARGO_PKG_VERSION") })
}

/// The request as a command for a POSIX shell, over several lines, complete when pasted.
///
/// `-N` shows events as they arrive.
pub fn curl(base: &str, request: &Request) -> String {
    let mut text = format!("curl -sSN {}", quoted(&format!("{base}{}", request.target)));
    for (name, value) in &request.fields {
        text.push_str(" \\\n  -H ");
        text.push_str(&quoted(&format!("{name}: {value}")));
    }
    text.push_str(" \\\n  -d ");
    text.push_str(&quoted(&request.body));
    text
}

/// Single quotes keep everything but themselves.
pub(super) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller() -> Caller {
        Caller { target: "/mcp/shop".to_owned(), key: Some("secret".to_owned()) }
    }

    fn field<'a>(request: &'a Request, name: &str) -> Option<&'a str> {
        request.fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn modern_headers_mirror_the_body() {
        let request = caller().modern(7, &Call::tool("order_status", json!({ "order_id": "FO-1002" })));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["id"], 7);
        assert_eq!(field(&request, "Mcp-Method"), body["method"].as_str());
        assert_eq!(field(&request, "Mcp-Name"), body["params"]["name"].as_str());
        let meta = &body["params"]["_meta"];
        assert_eq!(
            field(&request, "MCP-Protocol-Version"),
            meta["io.modelcontextprotocol/protocolVersion"].as_str()
        );
        assert!(meta["io.modelcontextprotocol/clientCapabilities"].is_object());
        assert_eq!(field(&request, "Authorization"), Some("Bearer secret"));
    }

    #[test]
    fn a_progress_token_survives_the_modern_envelope() {
        let request = caller().modern(1, &Call::tool("run_backup", json!({})).with_progress(9));
        let body: Value = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["params"]["_meta"]["progressToken"], 9);
    }

    #[test]
    fn a_resource_is_named_by_its_uri() {
        let request = caller().modern(1, &Call::resource("shop://policies/refunds"));
        assert_eq!(field(&request, "Mcp-Name"), Some("shop://policies/refunds"));
        assert_eq!(field(&caller().modern(1, &Call::plain("tools/list")), "Mcp-Name"), None);
    }

    #[test]
    fn curl_lines_survive_a_quote_in_a_value() {
        let request = Request {
            method: "POST",
            target: "/mcp/shop".to_owned(),
            fields: vec![("X", "it's".to_owned())],
            body: "{}".to_owned(),
        };
        let line = curl("http://127.0.0.1:8080", &request);
        assert_eq!(line, "curl -sSN 'http://127.0.0.1:8080/mcp/shop' \\\n  -H 'X: it'\\''s' \\\n  -d '{}'");
    }
}
