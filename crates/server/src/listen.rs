//! Where the doors are: a TCP address, and a socket in the folder of state.
//!
//! Here live listening and the end of it. A taken port is the next free one, unless somebody asked for that very port.

use crate::body::{self, BODY_MAX};
use crate::desk::Desk;
use crate::guard::{self, Guard, Unknown};
use crate::http::{self, App};
use crate::mcp::{self, Mcp};
use crate::metrics;
use crate::serve::serve;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use quorate_model::{Error, Result};
use rmcp::ServerHandler;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How long what is being answered may take when the doors close.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How the doors are opened.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// The address to listen at.
    pub listen: SocketAddr,
    /// Whether somebody asked for this very address: then a taken port is an error.
    pub is_set: bool,
    /// A socket to listen at as well.
    pub socket: Option<PathBuf>,
    /// The person's token, which is then asked for at the address. Without one only this user of this machine is let in.
    pub token: Option<String>,
}

/// Open doors. They close with [`end`](Server::end), or when the value is dropped.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    moved: bool,
    no_socket: Option<Error>,
    stop: watch::Sender<bool>,
    serving: JoinSet<()>,
}

impl Server {
    /// Opens the doors of a ledger.
    ///
    /// # Errors
    /// `Invalid` when the address is for other machines and there is no token, or when the port that was asked for is
    /// taken.
    pub async fn begin(desk: Desk, options: ServerOptions) -> Result<Server> {
        let tools = Mcp::for_all(desk.clone());
        Server::begin_with(desk, tools, options).await
    }

    /// Opens the doors of a ledger with something else than our tools at `/mcp`: who judges how it speaks asks for more than
    /// they are.
    ///
    /// # Errors
    /// As [`begin`](Server::begin).
    pub async fn begin_with(
        desk: Desk,
        handler: impl ServerHandler + Clone,
        options: ServerOptions,
    ) -> Result<Server> {
        let strict = !options.listen.ip().is_loopback();
        if strict && options.token.is_none() {
            let message =
                format!("listening at {} lets other machines in: that needs a token", options.listen);
            return Err(
                Error::invalid(message).hint("put QUORATE_SERVER_TOKEN=… into .env, or listen at 127.0.0.1")
            );
        }
        let (listener, moved) = bind(options.listen, options.is_set).await?;
        let address = listener.local_addr().map_err(|e| no_address(options.listen, &e))?;
        let app = App::new(desk);
        let mcp = mcp::door::routes(handler);
        let (stop, stopped) = watch::channel(false);
        let mut serving = JoinSet::new();
        // A token that is set is asked for: without it, an agent or a proxy on this machine would pass for the person.
        let unknown = if strict || options.token.is_some() { Unknown::Nobody } else { Unknown::FromHere };
        let open = Guard::new(options.token.as_deref(), unknown);
        serving.spawn(serve(listener, router(app.clone(), mcp.clone(), open), stopped.clone()));
        let mut no_socket = None;
        if let Some(path) = &options.socket {
            match bind_socket(path).await {
                // Who may open the file is this user; `Host` is whatever the client makes up.
                Ok(Some(socket)) => {
                    let guard = Guard::new(options.token.as_deref(), Unknown::Anyone);
                    drop(serving.spawn(serve(socket, router(app, mcp, guard), stopped)));
                }
                Ok(None) => {}
                Err(error) => no_socket = Some(error),
            }
        }
        Ok(Server { address, moved, no_socket, stop, serving })
    }

    /// Returns the address that it listens at.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns where this machine reaches it.
    pub fn url(&self) -> String {
        let mut here = self.address;
        if here.ip().is_unspecified() {
            here.set_ip(match here {
                SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        format!("http://{here}")
    }

    /// Tells whether it is another one than the usual, which was taken.
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// Returns why there is no socket, where one was wished for and could not be made: its path may be too long.
    pub fn no_socket(&self) -> Option<&Error> {
        self.no_socket.as_ref()
    }

    /// Closes the doors: what is being answered is answered, who follows is cut off.
    pub async fn end(mut self) {
        self.stop.send_replace(true);
        let ended = async { while self.serving.join_next().await.is_some() {} };
        // Who follows the log would never end by himself.
        let _ = tokio::time::timeout(LAST_ANSWERS, ended).await;
    }
}

fn router(app: App, mcp: Router, guard: Guard) -> Router {
    let desk = app.desk.clone();
    let health = || async { "ok\n" };
    let monitor = Router::new().route("/health", get(health)).merge(metrics::routes(desk.clone()));
    http::router(app)
        .merge(mcp)
        .layer(from_fn(body::read))
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(from_fn_with_state((guard, desk.store().clone()), guard::check))
        .merge(monitor.method_not_allowed_fallback(http::no_method))
}

async fn bind(listen: SocketAddr, is_set: bool) -> Result<(TcpListener, bool)> {
    match TcpListener::bind(listen).await {
        Ok(listener) => Ok((listener, false)),
        Err(e) if e.kind() == ErrorKind::AddrInUse && !is_set => {
            let free = SocketAddr::new(listen.ip(), 0);
            let listener = TcpListener::bind(free).await.map_err(|e| no_address(free, &e))?;
            Ok((listener, true))
        }
        Err(e) => Err(no_address(listen, &e)),
    }
}

fn no_address(address: SocketAddr, e: &std::io::Error) -> Error {
    Error::invalid(format!("cannot listen at {address}: {e}"))
        .hint("[server] listen in quorate.toml says where; leave it out for any free port of this machine")
}

/// Listens at a socket that only this user may open; `None` where another node of this folder does so already.
async fn bind_socket(path: &Path) -> Result<Option<UnixListener>> {
    let cannot = |e: std::io::Error| Error::failed(format!("cannot listen at {}: {e}", path.display()));
    if UnixStream::connect(path).await.is_ok() {
        return Ok(None);
    }
    if let Some(folder) = path.parent() {
        quorate_store::private_folder(folder).map_err(cannot)?;
    }
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(cannot(e)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(cannot)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(cannot)?;
    Ok(Some(listener))
}
