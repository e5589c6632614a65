//! How subcommands reach a running gateway: its admin address, one request, its answer.
//!
//! Not here: what they ask.

use crate::cli::demo::client::Client;
use crate::cli::demo::client::Request;
use crate::config;
use std::net::SocketAddr;
use std::net::TcpStream;
use std::path::PathBuf;
use std::time::Duration;

/// How long a gateway may take for an answer: a change waits for the disk.
const PATIENCE: Duration = Duration::from_secs(10);
const DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9090);

#[derive(Debug, clap::Args)]
pub struct Where {
    /// Admin listener of the gateway; 127.0.0.1:9090 if neither this nor --config is given
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    admin: Option<SocketAddr>,
    /// Config of the gateway, which says where its admin listener is
    #[arg(short, long, value_name = "FILE", global = true, conflicts_with = "admin")]
    config: Option<PathBuf>,
}

impl Where {
    fn address(&self) -> Result<SocketAddr, String> {
        let Some(config) = &self.config else { return Ok(self.admin.unwrap_or(DEFAULT)) };
        let plan = config::load(config).map_err(|problems| problems.to_string())?.plan;
        let shown = config.display();
        match plan.admin {
            Some(address) if address.port() != 0 => Ok(address),
            Some(_) => Err(format!(
                "{shown} has port 0 for its admin listener, which takes any free one. `ringgate run` printed it: \
                 give it with `--admin ADDRESS:PORT`."
            )),
            None => Err(format!(
                "{shown} says `admin: off`, so this gateway cannot be reached. Give it an admin listener and restart it."
            )),
        }
    }

    /// Sends one request, and gives the JSON of the answer.
    ///
    /// # Errors
    /// A sentence with cause and cure: nobody listens there, or what the gateway says is wrong.
    pub fn ask(
        &self,
        method: &'static str,
        target: &str,
        body: Option<&serde_json::Value>,
    ) -> Result<serde_json::Value, String> {
        let address = self.address()?;
        let failed = |error: std::io::Error| {
            format!(
                "cannot reach the admin listener at {address}: {error}. Is the gateway running? Name another \
                 address with `--admin ADDRESS:PORT` or `-c FILE`."
            )
        };
        let stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(failed)?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        stream.set_write_timeout(Some(PATIENCE)).map_err(failed)?;
        let request = Request {
            method,
            target: target.to_owned(),
            fields: vec![("Content-Type", "application/json".into()), ("Connection", "close".into())],
            body: body.map(ToString::to_string).unwrap_or_default(),
        };
        let answer = Client::new(stream, &address.to_string()).call(&request).map_err(failed)?;
        let said = answer.message();
        if answer.head.status == 200 {
            return said.map_err(failed);
        }
        let problem = said.ok().and_then(|said| said.get("error")?.as_str().map(str::to_owned));
        let text = || String::from_utf8_lossy(&answer.body).trim().to_owned();
        Err(problem.unwrap_or_else(|| format!("{address} answers {}: {}", answer.head.status, text())))
    }
}

/// A part of a path or query, percent-encoded but for what RFC 3986 never reserves.
pub fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let shown = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded() {
        for (text, expected) in [("agent-7", "agent-7"), ("a/b c?", "a%2Fb%20c%3F"), ("é", "%C3%A9")] {
            assert_eq!(encoded(text), expected);
        }
    }
}
