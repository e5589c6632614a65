//! What the targets of a comparison are configured to do.
//! Not here: starting them (`target`); tokens for those that ask for one (`token`).

use std::net::SocketAddr;
use std::path::Path;

/// The mock upstream, as ringgate knows it.
const NAME: &str = "up";
const TOOL: &str = "load";

/// What ringgate does for a call. Each is named by what a target's name begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    Ringgate,
    /// At its one endpoint of all servers, where the server's name stands before the tool's.
    Federated,
    Plain,
    Limited,
    /// `Plain`, for calls with the token of `Identified`, at which nobody looks: what the bytes of the token cost.
    Bearing,
    Identified,
    Inspected,
}

/// Name, and the file but for its first lines.
const SETUPS: [(&str, Setup, &str); 7] = [
    ("ringgate", Setup::Ringgate, include_str!("../setups/ringgate.yaml")),
    ("federated", Setup::Federated, include_str!("../setups/ringgate.yaml")),
    ("plain", Setup::Plain, include_str!("../setups/plain.yaml")),
    ("limited", Setup::Limited, include_str!("../setups/limited.yaml")),
    ("bearing", Setup::Bearing, include_str!("../setups/plain.yaml")),
    ("identified", Setup::Identified, include_str!("../setups/identified.yaml")),
    ("inspected", Setup::Inspected, include_str!("../setups/inspected.yaml")),
];

impl Setup {
    /// Of a target with this name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        SETUPS.iter().find(|(start, ..)| name.starts_with(start)).map(|(_, setup, _)| *setup)
    }

    /// Whether calls carry an access token.
    pub(crate) const fn has_token(self) -> bool {
        matches!(self, Self::Bearing | Self::Identified | Self::Inspected)
    }

    /// Where calls go.
    pub(crate) fn path(self) -> String {
        if self == Self::Federated { "/mcp".to_owned() } else { format!("/mcp/{NAME}") }
    }

    /// What the tool of the mock upstream is called there.
    pub(crate) fn tool(self) -> String {
        if self == Self::Federated { format!("{NAME}__{TOOL}") } else { TOOL.to_owned() }
    }

    /// The file for ringgate. `tls`: where its certificate is.
    pub(crate) fn config(self, upstream: SocketAddr, tls: Option<&Path>) -> String {
        let tls = tls.map(Path::display).map_or_else(String::new, |directory| {
            format!(", tls: {{cert: {directory}/cert.pem, key: {directory}/key.pem}}")
        });
        let rest = SETUPS.iter().find(|(_, setup, _)| *setup == self).map_or("", |(.., text)| text);
        let rest = rest.replace("{upstream}", &upstream.to_string());
        format!("listen: {{address: \"127.0.0.1:0\"{tls}}}\nadmin: off\nworkers: 1\n{rest}")
    }
}

/// nginx at its best for this: one worker, nothing buffered, nothing logged, connections kept. Master and
/// worker are one process, so that nothing is left behind if we are killed; the worker's loop is the same.
pub(crate) fn nginx(
    listen: SocketAddr,
    upstream: SocketAddr,
    directory: &Path,
    tls: Option<&Path>,
) -> String {
    let directory = directory.display();
    let (ssl, tls) = tls.map(Path::display).map_or((String::new(), String::new()), |pair| {
        let tls = format!("ssl_certificate {pair}/cert.pem; ssl_certificate_key {pair}/key.pem;");
        (" ssl".to_owned(), tls + " ssl_protocols TLSv1.3;")
    });
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {directory}/pid;
error_log stderr error;
worker_rlimit_nofile 20000;
events {{ worker_connections 16384; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  keepalive_requests 1000000;
  upstream up {{
    server {upstream};
    keepalive 64;
    keepalive_requests 1000000;
  }}
  server {{
    listen {listen}{ssl} backlog=4096;
    {tls}
    client_max_body_size 64m;
    location / {{
      proxy_pass http://up;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
    }}
  }}
}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That ringgate takes each file, and what it then does, is tested with ringgate, in `tests/cli.rs` of the root.
    #[test]
    fn every_setup_is_found_by_its_name_and_leads_to_the_upstream() {
        for (name, setup, _) in SETUPS {
            assert_eq!(Setup::of(&format!("{name}-old'")), Some(setup));
            let text = setup.config(SocketAddr::from(([127, 0, 0, 1], 4321)), None);
            assert!(text.contains("http://127.0.0.1:4321/mcp") && !text.contains("upstream"), "{text}");
        }
        assert_eq!(Setup::of("nginx"), None);
        assert_eq!((Setup::Federated.path(), Setup::Federated.tool()), ("/mcp".into(), "up__load".into()));
        assert_eq!((Setup::Limited.path(), Setup::Limited.tool()), ("/mcp/up".into(), "load".into()));
        let text = Setup::Ringgate.config(SocketAddr::from(([127, 0, 0, 1], 1)), Some(Path::new("/x")));
        assert!(text.contains("\"127.0.0.1:0\", tls: {cert: /x/cert.pem, key: /x/key.pem}}"), "{text}");
    }
}
