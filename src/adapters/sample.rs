//! The sample servers of `ringgate demo`: a fictional shop and its operations desk, on the official SDK.
//!
//! One thread of its own with a tokio runtime serves both on Unix sockets, each under its own path, in both
//! eras: revision 2026-07-28 without sessions, the older ones with them. Each socket is an instance of the
//! same servers: what one was told the other knows, sessions included.
//!
//! Not here: what the tools do (`shop`, `operations`) and any knowledge of the gateway. The servers are
//! real MCP servers that happen to live in the same process; the gateway reaches them as it reaches all.

mod arguments;
mod operations;
mod orders;
mod shop;

use axum::Router;
use rmcp::ServerHandler;
use rmcp::transport::streamable_http_server::StreamableHttpServerConfig;
use rmcp::transport::streamable_http_server::StreamableHttpService;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::net::UnixListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// Where the shop's server answers on the socket.
pub const SHOP_PATH: &str = "/shop/mcp";
/// Where the operations server answers on the socket.
pub const OPERATIONS_PATH: &str = "/operations/mcp";

/// The running sample servers. Dropping it ends them, cuts what is open and removes the sockets.
#[derive(Debug)]
pub struct Handle {
    sockets: Vec<PathBuf>,
    /// Never sent: the receiver wakes when it is dropped.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Handle {
    /// Ends the servers and waits until their thread is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was printed by the panic hook; there is nothing left to stop.
            let _ = thread.join();
        }
        for socket in &self.sockets {
            let _ = std::fs::remove_file(socket);
        }
    }
}

/// Serves both sample servers on each of `sockets` (mode 0600). When it returns, they take connections.
///
/// # Errors
/// The directory of a socket is open to other users, a socket cannot be bound (the path is taken or longer
/// than the 107 bytes that Linux allows), or no thread can be started.
pub fn start(sockets: Vec<PathBuf>) -> io::Result<Handle> {
    let listeners: Vec<_> = sockets.iter().map(|socket| bind_private(socket)).collect::<io::Result<_>>()?;
    let (stop, stopped) = oneshot::channel();
    let thread = std::thread::Builder::new().name("sample-servers".to_owned()).spawn(move || {
        if let Err(error) = serve(listeners, stopped) {
            tracing::error!(%error, "the sample servers stopped");
        }
    })?;
    Ok(Handle { sockets, stop: Some(stop), thread: Some(thread) })
}

/// A listening socket that no other user can reach. Between `bind` and the change of its mode only the
/// directory protects it, hence the check.
fn bind_private(socket: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    let directory = socket.parent().unwrap_or(Path::new("."));
    let mode = std::fs::metadata(directory)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} must be private to its owner: chmod 700", directory.display()),
        ));
    }
    let listener = std::os::unix::net::UnixListener::bind(socket)?;
    std::fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn serve(listeners: Vec<std::os::unix::net::UnixListener>, stopped: oneshot::Receiver<()>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let shop = shop::Shop::new();
        let operations = operations::Operations::new();
        let app = Router::new()
            .nest_service(SHOP_PATH, service(move || shop.clone()))
            .nest_service(OPERATIONS_PATH, service(move || operations.clone()));
        let mut instances = JoinSet::new();
        for listener in listeners {
            let listener = UnixListener::from_std(listener)?;
            instances.spawn(axum::serve(listener, app.clone()).into_future());
        }
        tokio::select! {
            Some(ended) = instances.join_next() => ended.map_err(io::Error::other)?,
            // Not a graceful stop: an open stream would hold it up, and the demo is over.
            _ = stopped => Ok(()),
        }
    })
}

fn service<S>(server: impl Fn() -> S + Send + Sync + 'static) -> StreamableHttpService<S, LocalSessionManager>
where
    S: ServerHandler + Send + Sync + 'static,
{
    // Who may connect is decided by the socket's mode; Host names are checked by the gateway in front.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        // Plain JSON for a simple answer of revision 2026-07-28, an event stream as soon as a tool reports
        // progress: the demo shows both.
        .with_json_response(true)
        .with_legacy_session_mode(true);
    StreamableHttpService::new(move || Ok(server()), Arc::new(LocalSessionManager::default()), config)
}
