//! What an older or a newer server gets instead of the client's own words: the body, the header fields, and the lens for
//! the way back.
//!
//! Not here: the splices (`mcp::crossing`), and when they are made (`crossing`).

use crate::base::fault::Fault;
use crate::config::limits;
use crate::mcp::crossing::Abilities;
use crate::mcp::crossing::answer::Lens;
use crate::mcp::crossing::envelope;
use crate::mcp::crossing::path;
use crate::mcp::crossing::request;
use crate::mcp::crossing::request::Envelope;
use crate::mcp::crossing::request::Place;
use crate::mcp::crossing::request::Rewrite;
use crate::mcp::envelope::Era;
use crate::mcp::envelope::Method;
use crate::mcp::envelope::REVISION_MODERN;
use crate::mcp::header;
use crate::mcp::log_level;
use crate::mcp::mirror;
use crate::mcp::mirror::Mirrored;
use crate::mcp::refusal;
use crate::worker::Worker;
use crate::worker::adopted::Adopted;
use crate::worker::adopted::ServerState;
use crate::worker::client::Client;
use crate::worker::crossing::Crossing;
use crate::worker::crossing::MISMATCH;
use crate::worker::crossing::UNFIT;
use crate::worker::crossing::asker;
use crate::worker::hub::session;
use crate::worker::state::Exchange;

impl Crossing {
    /// Writes the server's own name instead of the client's, and nothing else. Keys that readers could take for it twice
    /// are none in a message that passed the rules of the envelope.
    pub(super) fn rename(&mut self, message: &[u8]) -> Result<(), Fault> {
        let place: &[&str] = match Place::of(self.method) {
            Place::Name => &["params", "name"],
            Place::Uri => &["params", "uri"],
            // Deeper than the envelope looks.
            Place::Reference | Place::Nowhere => return self.rename_checked(message),
        };
        let text = std::str::from_utf8(message).map_err(|_| UNFIT)?;
        let at = path::find(text, place).ok_or(UNFIT)?;
        let mut body = Vec::with_capacity(message.len());
        body.extend_from_slice(text.get(..at.start).unwrap_or_default().as_bytes());
        refusal::string(&mut body, &self.name);
        body.extend_from_slice(text.get(at.end..).unwrap_or_default().as_bytes());
        self.body = body;
        self.fields = self.fields_for();
        Ok(())
    }

    fn rename_checked(&mut self, message: &[u8]) -> Result<(), Fault> {
        let rewrite = Rewrite {
            name: (self.name != self.shown).then_some(&*self.name),
            place: Place::of(self.method),
            ..Rewrite::default()
        };
        request::rewrite(message, &rewrite, &mut self.body).map_err(|_| UNFIT)?;
        self.fields = self.fields_for();
        Ok(())
    }

    /// Writes the body and the field lines that the server gets.
    pub(super) fn speak(
        &mut self,
        worker: &Worker,
        exchange: &Exchange,
        message: &[u8],
        params: &str,
    ) -> Result<(), Fault> {
        // Where calls share a session ids must differ (2025-11-25, basic, "Requests"); and each round has its own
        // (2026-07-28, multi round-trip requests).
        let shares = self.server == Era::Legacy && self.client == Era::Modern;
        let id = (shares || self.round > 0).then(|| worker.next_request_id().to_string());
        let tokened;
        let token = if shares { progress_token(message) } else { None };
        let message = match (&id, token) {
            (Some(id), Some(at)) => {
                tokened = [&message[..at.start], id.as_bytes(), &message[at.end..]].concat();
                &tokened
            }
            _ => message,
        };
        let added = match (self.client, self.server) {
            (Era::Legacy, Era::Modern) => self.envelope(worker, exchange),
            _ => String::new(),
        };
        let rewrite = Rewrite {
            name: (self.name != self.shown).then_some(&*self.name),
            place: Place::of(self.method),
            id: id.as_deref(),
            params,
            envelope: match (self.client, self.server) {
                (Era::Modern, Era::Legacy) => Envelope::Strip,
                (Era::Legacy, Era::Modern) => Envelope::Add(&added),
                _ => Envelope::Keep,
            },
        };
        let mut body = Vec::with_capacity(message.len() + limits::CROSSING_ROOM_BYTES);
        request::rewrite(message, &rewrite, &mut body).map_err(|_| UNFIT)?;
        self.body = body;
        self.upstream_id = id.unwrap_or_else(|| self.client_id.clone());
        self.fields = self.fields_for();
        if self.client == Era::Legacy && self.server == Era::Modern {
            self.mirror(worker, exchange, message)?;
        }
        Ok(())
    }

    /// Repeats arguments in header fields, as the tool wants it (2026-07-28, transports, "Custom Headers from Tool
    /// Parameters").
    fn mirror(&mut self, worker: &Worker, exchange: &Exchange, message: &[u8]) -> Result<(), Fault> {
        let adopted = worker.adopt();
        let Some(wanted) = self.wanted(&adopted, exchange) else { return Ok(()) };
        let text = std::str::from_utf8(message).unwrap_or_default();
        let arguments = path::find(text, &["params", "arguments"]).and_then(|at| text.get(at));
        self.mirrored = mirror::fields(wanted, arguments).map_err(|_| UNFIT)?;
        Ok(())
    }

    /// Which arguments the tool wants repeated: what the caller's own list says counts more than that for all.
    fn wanted<'a>(&'a self, adopted: &'a Adopted, exchange: &Exchange) -> Option<&'a [Mirrored]> {
        if self.method != Method::ToolsCall {
            return None;
        }
        if let Some(own) = &self.own_mirrored {
            return Some(own);
        }
        let known = adopted.catalogues.by_server.get(exchange.record.server.as_str())?;
        known.mirrored.get(&*self.name).map(Vec::as_slice)
    }

    /// Whether the fields that repeat arguments say what the arguments say: an older server would not look (2026-07-28,
    /// transports, "Server Behavior for Custom Headers").
    pub(super) fn check_mirrored(
        &self,
        worker: &Worker,
        client: &Client,
        exchange: &Exchange,
        message: &[u8],
    ) -> Result<(), Fault> {
        let adopted = worker.adopt();
        let Some(wanted) = self.wanted(&adopted, exchange) else { return Ok(()) };
        let text = std::str::from_utf8(message).unwrap_or_default();
        let arguments = path::find(text, &["params", "arguments"]).and_then(|at| text.get(at));
        let expected = mirror::fields(wanted, arguments).map_err(|_| UNFIT)?;
        let source = &client.input[client.start..client.end];
        for mirrored in wanted {
            let name = mirrored.field().as_bytes();
            let mut came =
                exchange.fields.iter().filter(|field| field.name.of(source).eq_ignore_ascii_case(name));
            let value = came.next().map(|field| field.value.of(source));
            let expected = expected.iter().find(|(field, _)| field.eq_ignore_ascii_case(name));
            let agree = match (value, expected) {
                (Some(value), Some((_, expected))) => mirror::agrees(value, expected),
                (None, None) => true,
                _ => false,
            };
            if !agree || came.next().is_some() {
                return Err(MISMATCH);
            }
        }
        Ok(())
    }

    /// What makes an older client's request one of 2026-07-28.
    fn envelope(&self, worker: &Worker, exchange: &Exchange) -> String {
        let Some(own) = &exchange.own else { return String::new() };
        let level = session::level(worker, own);
        envelope(own.abilities, Some(level))
    }

    /// Field lines that the server gets instead of the client's.
    pub(super) fn fields_for(&self) -> Vec<(&'static [u8], Vec<u8>)> {
        let mut fields: Vec<(&'static [u8], Vec<u8>)> = Vec::new();
        let named = matches!(self.method, Method::ToolsCall | Method::PromptsGet | Method::ResourcesRead);
        let name = || header::encode(&self.name).into_owned();
        match (self.client, self.server) {
            (Era::Modern, Era::Modern) if named => fields.push((b"Mcp-Name", name())),
            (Era::Modern, Era::Modern) => {}
            (Era::Legacy, Era::Modern) => {
                fields.push((b"MCP-Protocol-Version", REVISION_MODERN.into()));
                fields.push((b"Mcp-Method", self.method.as_str().into()));
                if named {
                    fields.push((b"Mcp-Name", name()));
                }
            }
            (_, Era::Legacy) => {
                let Some(held) = &self.held else { return fields };
                fields.push((b"MCP-Protocol-Version", held.revision.as_bytes().into()));
                if !held.name.is_empty() {
                    fields.push((b"Mcp-Session-Id", held.name.clone()));
                }
            }
        }
        fields
    }

    /// How the answer has to be seen. None: as it is.
    pub(super) fn lens(
        &self,
        message: &[u8],
        server: &ServerState,
        wraps: bool,
        able: Abilities,
    ) -> Option<Lens> {
        if self.is_same() && !wraps && self.client == Era::Modern {
            return None;
        }
        let is_ours = self.server == Era::Legacy && self.client == Era::Modern;
        let raw = |at| String::from_utf8_lossy(message.get(at).unwrap_or_default()).into();
        Some(Lens {
            client: self.client,
            server: self.server,
            method: self.method,
            id: is_ours.then(|| self.client_id.as_str().into()),
            progress: is_ours.then(|| progress_token(message)).flatten().map(raw),
            wraps: wraps.then(|| Box::from(&*server.config().name)),
            asker: self
                .held
                .as_ref()
                .filter(|_| self.is_same())
                .and_then(|held| asker(server, held.instance)),
            logs: if self.client == Era::Legacy { Some(0) } else { wanted_level(message) },
            able,
        })
    }
}

/// Where a request's progress token stands.
fn progress_token(message: &[u8]) -> Option<std::ops::Range<usize>> {
    let at = path::find(std::str::from_utf8(message).ok()?, &["params", "_meta", "progressToken"])?;
    // Within the message, as it was found in it.
    message.get(at.clone()).map(|_| at)
}

/// From which level on a client of the newest revision wants log messages with this call; None: it wants none.
fn wanted_level(message: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(message).unwrap_or_default();
    let path = ["params", "_meta", "io.modelcontextprotocol/logLevel"];
    path::find(text, &path)?;
    Some(path::text(text, &path).and_then(|level| log_level::number(&level)).unwrap_or(0))
}
