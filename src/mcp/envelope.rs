//! One POST body, from bytes to a [`Call`] or a `Fault`: the types of this layer and its entry.
//!
//! Not here: HTTP, sessions, policy; nor the reading (`skipper`, `tape`) and the rules (`rules`). The body
//! is read only: what is forwarded are its own bytes.

use crate::base::fault::Fault;
use crate::base::text::Text;
use crate::mcp::reading;
use crate::mcp::scratch::Scratch;
use crate::mcp::skipper;
use std::ops::Range;

/// The revision that modern requests name (MCP 2026-07-28).
pub const REVISION_MODERN: &str = "2026-07-28";
/// The revision that had batches, and that a client without a version header is taken for
/// (2025-11-25, transports, "Protocol Version Header").
pub const REVISION_WITH_BATCHES: &str = "2025-03-26";
/// Revisions with `initialize`, oldest first.
pub const REVISIONS_LEGACY: [&str; 4] = ["2024-11-05", REVISION_WITH_BATCHES, "2025-06-18", "2025-11-25"];

/// One request header that counts for MCP: its value as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderValue<'a> {
    Missing,
    One(&'a [u8]),
    /// Two fields of that name, equal or not: readers would take different ones.
    Twice,
}

/// The headers that a body is compared with.
#[derive(Clone, Copy, Debug)]
pub struct McpHeaders<'a> {
    /// `MCP-Protocol-Version`
    pub protocol_version: HeaderValue<'a>,
    /// `Mcp-Method`
    pub method: HeaderValue<'a>,
    /// `Mcp-Name`
    pub name: HeaderValue<'a>,
    /// Whether an `Mcp-Session-Id` came. No rule of the envelope reads it: modern requests ignore it
    /// and whether a legacy one needs it is its server's business.
    pub session: bool,
}

impl McpHeaders<'_> {
    /// What a client of the oldest revisions sends.
    pub const NONE: Self = Self {
        protocol_version: HeaderValue::Missing,
        method: HeaderValue::Missing,
        name: HeaderValue::Missing,
        session: false,
    };
}

/// Modern: revision 2026-07-28, everything in each request's `_meta`. Legacy: `initialize` and sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Era {
    Legacy,
    Modern,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    Request,
    Notification,
    /// A legacy client's answer to its server.
    Response,
    /// Revision 2025-03-26 only.
    Batch,
}

/// One body, understood and found to obey every rule.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    pub kind: CallKind,
    pub era: Era,
    pub method: Method,
    /// The method as the client wrote it, decoded; empty for responses and batches.
    pub method_text: Text<48>,
    /// `params.name`, `uri` or `taskId`, decoded; empty where the method has none.
    pub target: Text<128>,
    /// Modern: the version of the envelope. `initialize`: the version that it asks for. Else the header.
    pub revision: Text<16>,
    /// From a valid `_meta.traceparent` (W3C Trace Context section 3.2).
    pub trace_id: Option<[u8; 16]>,
    /// Elements of a batch, else 1.
    pub calls: u16,
    /// Whether there is a `params.requestState`, of whatever shape.
    pub brings_state: bool,
}

macro_rules! methods {
    ($($variant:ident = $text:literal),* $(,)?) => {
        /// Methods that some part of the gateway treats by name (MCP schemas of all revisions).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Method {
            $($variant,)*
            /// A method that no part of the gateway knows; `Call::method_text` has it.
            Other,
            /// Responses and batches have no method.
            None,
        }

        impl Method {
            /// Methods with a name of their own.
            pub const NAMED: &[Self] = &[$(Self::$variant),*];

            /// The exact name; empty for [`Method::None`], `other` for [`Method::Other`].
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "other",
                    Self::None => "",
                }
            }

            /// A method of this kind that was written so: the same text, looked at only where it can be any.
            pub fn text<const N: usize>(self, written: &Text<N>) -> &str {
                match self {
                    Self::Other | Self::None => written.as_str(),
                    named => named.as_str(),
                }
            }

            /// Method names are case-sensitive.
            pub fn from_text(text: &str) -> Self {
                match text {
                    $($text => Self::$variant,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

methods! {
    Initialize = "initialize",
    Ping = "ping",
    Discover = "server/discover",
    ToolsList = "tools/list",
    ToolsCall = "tools/call",
    PromptsList = "prompts/list",
    PromptsGet = "prompts/get",
    ResourcesList = "resources/list",
    ResourcesRead = "resources/read",
    ResourcesTemplatesList = "resources/templates/list",
    ResourcesSubscribe = "resources/subscribe",
    ResourcesUnsubscribe = "resources/unsubscribe",
    Complete = "completion/complete",
    SetLevel = "logging/setLevel",
    SubscriptionsListen = "subscriptions/listen",
    TasksGet = "tasks/get",
    TasksUpdate = "tasks/update",
    TasksCancel = "tasks/cancel",
    TasksResult = "tasks/result",
    TasksList = "tasks/list",
    Initialized = "notifications/initialized",
    Cancelled = "notifications/cancelled",
    Progress = "notifications/progress",
    RootsListChanged = "notifications/roots/list_changed",
    ElicitationCreate = "elicitation/create",
    SamplingCreate = "sampling/createMessage",
    RootsList = "roots/list",
    LogMessage = "notifications/message",
    ResourceUpdated = "notifications/resources/updated",
}

/// Parses one body, tells the era, and applies every rule of the envelope and of the headers.
///
/// Total and linear in the body. Allocates nothing once `scratch` is warm. For
/// `Kind::RevisionUnsupported` the version that was asked for is the value of the header, which agreed.
///
/// # Errors
/// The first rule that is broken.
pub fn inspect(scratch: &mut Scratch, body: &[u8], headers: &McpHeaders<'_>) -> Result<Call, Fault> {
    inspect_each(scratch, body, headers, &mut |_| ())
}

/// [`inspect`], which also shows each message of a batch, in order, to `each`; a message that is no
/// batch is shown once. What was shown counts only if the whole body passes.
///
/// # Errors
/// The first rule that is broken, in any message.
pub fn inspect_each(
    scratch: &mut Scratch,
    body: &[u8],
    headers: &McpHeaders<'_>,
    each: &mut dyn FnMut(&Call),
) -> Result<Call, Fault> {
    let verdict = reading::by_tape(scratch, body, headers);
    let verdict = verdict.unwrap_or_else(|| reading::by_skipper(scratch, body, headers, each));
    if let Ok(call) = &verdict
        && call.kind != CallKind::Batch
    {
        each(call);
    }
    verdict
}

/// Whether a body can only be a batch, if it is anything.
pub fn may_be_batch(body: &[u8]) -> bool {
    reading::first(body) == Some(b'[')
}

/// The messages of a batch that passed [`inspect_each`], in order, as they were written.
pub fn elements(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    skipper::elements(body)
}

/// The raw bytes of a readable id (a string or an integer, at the top level, unambiguous), for a refusal;
/// None where it cannot be read, in bodies that are no JSON and in batches. Only for refused calls: it
/// reads the body again.
pub fn raw_id(body: &[u8]) -> Option<Range<usize>> {
    reading::raw_id(body)
}
