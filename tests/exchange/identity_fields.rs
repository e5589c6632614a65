//! Fields that say who calls: ours reach a server, whatever a client sends beside them, in whatever spelling.
//!
//! Not here: which credential a server is shown (credentials), and who a caller is (oauth, secrets).

use crate::support::Era;
use crate::support::everywhere;
use crate::support::gateway::Gateway;
use crate::support::http2::Http2;
use crate::support::issuer::issuer;
use crate::support::upstream::Received;
use crate::support::upstream::Upstream;
use crate::support::upstream::upstream;

/// Names that some servers take for `X-User` and `X-Up`.
const SPELLINGS: [&str; 10] =
    ["X-User", "x-user", "X_User", "x_user", "X-USER", "X.User", "X-Up", "x_up", "X_UP", "x.up"];

/// The values of all fields of a request that a server may read as this one.
fn read_as<'a>(request: &'a Received, name: &str) -> Vec<&'a [u8]> {
    let folded =
        |name: &str| name.replace(|letter: char| !letter.is_ascii_alphanumeric(), "_").to_lowercase();
    let fields = request.head.fields.iter().filter(|(field, _)| folded(field) == folded(name));
    fields.map(|(_, value)| &**value).collect()
}

/// What a server gets of a call by alice that brings a field of its own.
fn received(gw: &Gateway, up: &Upstream, bearer: &str, field: &str, version: u8) -> Received {
    let call = gw.call("up", "echo").field(bearer).field(field);
    let word = call.token.clone();
    if version == 1 {
        assert_eq!(call.send().status, 200, "{field}");
    } else {
        let call = if call.era == Era::Legacy { call.in_session() } else { call };
        Http2::connect(gw.address).call(&call).is_whole(200);
    }
    up.once(&word)
}

/// Found in an audit: `X_User: root2` reached the server beside `X-User`, and CGI and WSGI servers read both as one.
#[test]
fn a_field_of_ours_is_not_forged_in_another_spelling() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let auth = "auth: {kind: headers, claims: {X-User: sub, X-Team: team}}";
        let gw =
            run.gateway().top(issuer.identity(&[])).with("up", &up, &[auth, "headers: {X-Up: ours}"]).run();
        let bearer = issuer.token("alice").bearer();
        for version in [1, 2] {
            for name in SPELLINGS {
                let request = received(&gw, &up, &bearer, &format!("{name}: root"), version);
                assert_eq!(read_as(&request, "X-User"), [b"alice"], "HTTP/{version} {name}");
                assert_eq!(read_as(&request, "X-Up"), [b"ours"], "HTTP/{version} {name}");
            }
            // Of a claim that the caller does not have there is nothing, least of all the client's word.
            let request = received(&gw, &up, &bearer, "x_team: root", version);
            assert!(read_as(&request, "X-Team").is_empty(), "HTTP/{version}");
            // What is nobody's passes as it is.
            let request = received(&gw, &up, &bearer, "x_request_note: theirs", version);
            assert_eq!(request.head.all("x_request_note"), [b"theirs"], "HTTP/{version}");
        }
    });
}

/// Names that say who calls, or how a call is framed, with other letters in place of hyphens: some servers read them as
/// those. None passes, over either protocol, beside a credential or without one.
#[test]
fn no_field_of_ours_hides_behind_another_letter() {
    everywhere(|run| {
        let (issuer, up) = (issuer(), upstream().tool("echo").run());
        let gw = run.gateway().workers(1).top(issuer.identity(&[])).to("up", &up).run();
        let bearer = issuer.token("alice").bearer();
        let names = [
            "X_Api_Key",
            "x.api.key",
            "X.API-KEY",
            "x~api_key",
            "X_Forwarded_For",
            "x.forwarded.for",
            "X-Forwarded_For",
            "X.Forwarded-Host",
            "x_real_ip",
            "X.Real.IP",
            "Ringgate_Principal",
            "ringgate.child",
            "Proxy_Authorization",
            "proxy.authorization",
            "Mcp_Session_Id",
            "mcp.session.id",
            "MCP.Protocol-Version",
            "Content_Length",
            "content.length",
            "Transfer_Encoding",
            "transfer!encoding",
            "Content.Encoding",
        ];
        let first = gw.call("up", "echo").field(bearer.as_str()).in_session();
        for name in names {
            let call = first.again().field(format!("{name}: 4"));
            let answer = call.connect().talk(&call.raw().bytes()).unwrap();
            assert_eq!(answer.status, 400, "{name}: {answer:?}");
            let mut http2 = Http2::connect(gw.address);
            let stream = http2.call(&call);
            assert_eq!(stream.status, 400, "{name}");
            assert_eq!(up.mentions(&call.token), 0, "{name}");
        }
        // One that is known by how it begins does not go on either.
        let call = first.again().field("X-Forwarded-For_: 10.0.0.1".to_owned());
        assert_eq!(call.connect().talk(&call.raw().bytes()).unwrap().status, 200);
        let request = up.once(&call.token);
        assert!(read_as(&request, "X-Forwarded-For_").is_empty(), "{request:?}");
        // White space, in a name or behind it, makes no field at all.
        for line in ["X-Api Key: 4", "X-Api-Key : 4", "X-Api-Key\t: 4", " X-Api-Key: 4"] {
            let call = first.again().field(line);
            assert_eq!(call.connect().talk(&call.raw().bytes()).unwrap().status, 400, "{line:?}");
        }
    });
}
