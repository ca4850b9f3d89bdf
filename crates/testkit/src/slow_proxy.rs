//! A way to a server that is slow, or stands still: a small proxy.
//!
//! Here lives the passing on of bytes. Each piece is given on so long after it came as the delay says, in order, and
//! not while its direction stands still; connections stay open meanwhile, so neither end can see why nothing comes.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

/// Pieces on their way in one direction, at most.
const PIECES_MAX: usize = 1_024;
/// The size of a piece, at most.
const PIECE_MAX: usize = 16 * 1_024;

/// Where a proxy leads.
#[derive(Debug, Clone)]
pub enum Target {
    /// An address.
    Tcp(SocketAddr),
    /// A socket.
    Unix(PathBuf),
}

/// Which directions stand still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Still {
    /// None.
    Nothing,
    /// What the server says: it hears and does all.
    Answers,
    /// Both.
    All,
    /// There is nothing to stand still: connections are closed, and so are new ones, as by a server that starts anew.
    Closed,
}

/// A running proxy; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    still: watch::Sender<Still>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What each direction of each connection looks at.
#[derive(Debug, Clone)]
struct Way {
    delay_ms: Arc<AtomicU64>,
    still: watch::Receiver<Still>,
    stops_it: fn(Still) -> bool,
}

impl Proxy {
    /// Listens at `from` and passes all on to `to`, both as seen from the network of the calling thread.
    ///
    /// # Errors
    /// That it cannot listen there.
    pub fn start(from: SocketAddr, to: Target) -> Result<Proxy, String> {
        let wrong = |e: std::io::Error| format!("the proxy cannot listen at {from}: {e}");
        let listener = std::net::TcpListener::bind(from).map_err(wrong)?;
        listener.set_nonblocking(true).map_err(wrong)?;
        let address = listener.local_addr().map_err(wrong)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(wrong)?;
        let (delay_ms, (still, is_still)) = (Arc::default(), watch::channel(Still::Nothing));
        let way = Way { delay_ms: Arc::clone(&delay_ms), still: is_still, stops_it: |_| true };
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || runtime.block_on(serve(listener, to, way, ended)));
        Ok(Proxy { address, delay_ms, still, end: Some(end), thread: Some(thread) })
    }

    /// Puts one on loopback before a PostgreSQL that is reached by a socket; answers also with the new address.
    ///
    /// # Errors
    /// That the address names no socket, or as [`start`](Proxy::start).
    pub fn before(url: &str) -> Result<(Proxy, String), String> {
        let missing = || format!("no socket in {url}");
        let (head, query) = url.split_once('?').ok_or_else(missing)?;
        let (hosts, rest): (Vec<&str>, Vec<&str>) =
            query.split('&').partition(|part| part.starts_with("host="));
        let folder = hosts.first().and_then(|host| host.strip_prefix("host=")).ok_or_else(missing)?;
        let socket = PathBuf::from(folder).join(".s.PGSQL.5432");
        let proxy = Proxy::start(SocketAddr::from(([127, 0, 0, 1], 0)), Target::Unix(socket))?;
        let head = head.replacen("@/", &format!("@{}/", proxy.address), 1);
        Ok((proxy, format!("{head}?{}", rest.join("&"))))
    }

    /// Sets how long each piece is under way, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Lets directions stand still, or go on.
    pub fn stand(&self, still: Still) {
        self.still.send_replace(still);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // One that panicked has nothing left to end.
            let _ = thread.join();
        }
    }
}

async fn serve(listener: std::net::TcpListener, to: Target, way: Way, mut ended: oneshot::Receiver<()>) {
    // It was made ready for this: without it, nobody gets an answer, and the test says so.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, to.clone(), way.clone()));
                }
            }
            _ = &mut ended => return,
        }
    }
}

/// A client whose server cannot be reached sees its connection close.
async fn connect(client: TcpStream, to: Target, way: Way) {
    let _ = client.set_nodelay(true);
    match to {
        Target::Tcp(to) => {
            let Ok(server) = TcpStream::connect(to).await else { return };
            let _ = server.set_nodelay(true);
            join(client, server, way).await;
        }
        Target::Unix(to) => {
            let Ok(server) = UnixStream::connect(to).await else { return };
            join(client, server, way).await;
        }
    }
}

async fn join(client: impl AsyncRead + AsyncWrite, server: impl AsyncRead + AsyncWrite, way: Way) {
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    let there = Way { stops_it: |still| still == Still::All, ..way.clone() };
    let back = Way { stops_it: |still| still != Still::Nothing, ..way.clone() };
    let mut closed = way.still.clone();
    tokio::select! {
        _ = async { tokio::join!(pass(from_client, to_server, there), pass(from_server, to_client, back)) } => {}
        // An error means that the proxy ends.
        _ = closed.wait_for(|still| *still == Still::Closed) => {}
    }
}

/// Passes on one direction until it ends.
async fn pass(mut from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, way: Way) {
    let (pieces, queue) = mpsc::channel(PIECES_MAX);
    let delay_ms = Arc::clone(&way.delay_ms);
    let read = async move {
        let mut buffer = vec![0; PIECE_MAX];
        while let Ok(size @ 1..) = from.read(&mut buffer).await {
            let due = Instant::now() + Duration::from_millis(delay_ms.load(Ordering::SeqCst));
            if pieces.send((due, buffer[..size].to_vec())).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write(to, queue, way));
}

async fn write(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<(Instant, Vec<u8>)>, mut way: Way) {
    while let Some((due, piece)) = queue.recv().await {
        sleep_until(due).await;
        // An error means that the proxy ends.
        let goes_on = way.still.wait_for(|still| !(way.stops_it)(*still)).await.is_ok();
        if !goes_on || to.write_all(&piece).await.is_err() {
            return;
        }
    }
    let _ = to.shutdown().await;
}
