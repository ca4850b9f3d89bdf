//! A way to a server that is slow, stands still, or falls silent: a small proxy.
//!
//! Here lives the passing on of bytes. Each piece is given on so long after it came as the delay says, in order, and
//! not while its direction stands still; connections stay open meanwhile, so neither end can see why nothing comes. So do
//! firewalls and managed services lose connections.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
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

/// What is passed on at the moment.
#[derive(Debug, Clone, Copy)]
struct State {
    still: Still,
    /// Whether nothing is passed on for any connection.
    is_deaf: bool,
    /// Connections made before this many are silent.
    silent_below: u64,
    /// Connections made before this many are closed.
    closed_below: u64,
}

/// A running proxy; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
    /// How many connections have come.
    made: Arc<AtomicU64>,
    state: watch::Sender<State>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What each direction of each connection looks at.
#[derive(Debug, Clone)]
struct Way {
    /// Which connection it is.
    number: u64,
    delay_ms: Arc<AtomicU64>,
    state: watch::Receiver<State>,
    stops_it: fn(Still) -> bool,
}

impl Way {
    fn is_open(&self, state: &State) -> bool {
        !(self.stops_it)(state.still) && !state.is_deaf && self.number >= state.silent_below
    }
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
        let open = State { still: Still::Nothing, is_deaf: false, silent_below: 0, closed_below: 0 };
        let (delay_ms, made, (state, seen)) = (Arc::default(), Arc::default(), watch::channel(open));
        let way = Way { number: 0, delay_ms: Arc::clone(&delay_ms), state: seen, stops_it: |_| true };
        let (end, ended) = oneshot::channel();
        let counted = Arc::clone(&made);
        let thread = std::thread::spawn(move || runtime.block_on(serve(listener, to, way, &counted, ended)));
        Ok(Proxy { address, delay_ms, made, state, end: Some(end), thread: Some(thread) })
    }

    /// Leads from a free port of this machine to the socket of a server.
    ///
    /// # Errors
    /// As [`start`](Proxy::start).
    pub fn to(socket: &Path) -> Result<Proxy, String> {
        Proxy::start(SocketAddr::from(([127, 0, 0, 1], 0)), Target::Unix(socket.to_owned()))
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
        let proxy = Proxy::to(&Path::new(folder).join(".s.PGSQL.5432"))?;
        let head = head.replacen("@/", &format!("@{}/", proxy.address), 1);
        Ok((proxy, format!("{head}?{}", rest.join("&"))))
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Sets how long each piece is under way, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.delay_ms.store(delay.as_millis() as u64, Ordering::SeqCst);
    }

    /// Lets directions stand still, or go on.
    pub fn stand(&self, still: Still) {
        self.state.send_modify(|state| state.still = still);
    }

    /// Makes every connection silent, for good; new ones work, unless it is deaf. Answers with how many there were.
    pub fn silence(&self) -> u64 {
        let made = self.made.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.silent_below = made);
        made
    }

    /// Closes every connection; new ones work.
    pub fn close(&self) {
        let made = self.made.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.closed_below = made);
    }

    /// Leaves new connections without an answer, or no longer. Those that came meanwhile stay without.
    pub fn be_deaf(&self, is_deaf: bool) {
        if !is_deaf {
            self.silence();
        }
        self.state.send_modify(|state| state.is_deaf = is_deaf);
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

async fn serve(
    listener: std::net::TcpListener,
    to: Target,
    way: Way,
    made: &AtomicU64,
    mut ended: oneshot::Receiver<()>,
) {
    // It was made ready for this: without it, nobody gets an answer, and the test says so.
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    let number = made.fetch_add(1, Ordering::SeqCst);
                    tokio::spawn(connect(client, to.clone(), Way { number, ..way.clone() }));
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
    let (mut closed, number) = (way.state.clone(), way.number);
    tokio::select! {
        _ = async { tokio::join!(pass(from_client, to_server, there), pass(from_server, to_client, back)) } => {}
        // An error means that the proxy ends.
        _ = closed.wait_for(|state| state.still == Still::Closed || number < state.closed_below) => {}
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

async fn write(mut to: impl AsyncWrite + Unpin, mut queue: mpsc::Receiver<(Instant, Vec<u8>)>, way: Way) {
    let mut state = way.state.clone();
    while let Some((due, piece)) = queue.recv().await {
        sleep_until(due).await;
        // An error means that the proxy ends.
        let goes_on = state.wait_for(|state| way.is_open(state)).await.is_ok();
        if !goes_on || to.write_all(&piece).await.is_err() {
            return;
        }
    }
    // An end is not heard either while nothing is passed on.
    if state.wait_for(|state| way.is_open(state)).await.is_ok() {
        let _ = to.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::os::unix::net::UnixListener;

    type Tested = Result<(), Box<dyn std::error::Error>>;

    /// A server that says everything back.
    fn echo(folder: &Path) -> std::io::Result<PathBuf> {
        let socket = folder.join("echo");
        let door = UnixListener::bind(&socket)?;
        std::thread::spawn(move || {
            for client in door.incoming().flatten() {
                std::thread::spawn(move || std::io::copy(&mut &client, &mut &client));
            }
        });
        Ok(socket)
    }

    fn say(port: u16) -> std::io::Result<TcpStream> {
        let mut client = TcpStream::connect(("127.0.0.1", port))?;
        client.set_read_timeout(Some(Duration::from_secs(5)))?;
        client.write_all(b"a")?;
        client.read_exact(&mut [0])?;
        Ok(client)
    }

    #[test]
    fn a_silent_connection_answers_nothing_and_stays_open_while_new_ones_work() -> Tested {
        let folder = tempfile::tempdir()?;
        let proxy = Proxy::to(&echo(folder.path())?)?;
        let mut old = say(proxy.port())?;
        proxy.silence();
        old.write_all(b"b")?;
        old.set_read_timeout(Some(Duration::from_millis(300)))?;
        let unheard = old.read(&mut [0]).expect_err("nothing comes, and no end either");
        assert!(matches!(unheard.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{unheard}");
        say(proxy.port())?;
        Ok(())
    }
}
