//! A way to a server that can fall silent: it takes what is sent and passes nothing on, and closes nothing.
//!
//! Here lives a small relay between a port of this machine and a server's socket. So do firewalls and managed services
//! lose connections: neither side hears that the other is gone.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How long a read waits before it looks whether all is over.
const LOOK: Duration = Duration::from_millis(50);

/// A relay; it ends with the value.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    door: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    to: PathBuf,
    is_over: AtomicBool,
    /// Whether connections that come are left without an answer.
    is_deaf: AtomicBool,
    /// Connections made before this many are silent.
    silent_below: AtomicU64,
    made: AtomicU64,
}

impl Proxy {
    /// Relays a free port of this machine to the socket of a server.
    ///
    /// # Errors
    /// That no port could be had.
    pub fn to(socket: &Path) -> Result<Proxy, String> {
        let door = TcpListener::bind(("127.0.0.1", 0)).map_err(|e| format!("no port for a relay: {e}"))?;
        let port = door.local_addr().map_err(|e| e.to_string())?.port();
        door.set_nonblocking(true).map_err(|e| e.to_string())?;
        let shared = Arc::new(Shared {
            to: socket.to_owned(),
            is_over: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
            silent_below: AtomicU64::new(0),
            made: AtomicU64::new(0),
        });
        let kept = Arc::clone(&shared);
        Ok(Proxy { port, shared, door: Some(std::thread::spawn(move || serve(&door, &kept))) })
    }

    /// Returns its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Makes every connection silent, for good; new ones work, unless it is deaf.
    pub fn silence(&self) -> u64 {
        let made = self.shared.made.load(Ordering::SeqCst);
        self.shared.silent_below.store(made, Ordering::SeqCst);
        made
    }

    /// Leaves new connections without an answer, or no longer. Those that came meanwhile stay without.
    pub fn be_deaf(&self, is_deaf: bool) {
        self.shared.is_deaf.store(is_deaf, Ordering::SeqCst);
        if !is_deaf {
            self.silence();
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        if let Some(door) = self.door.take() {
            // One that panicked relays nothing any more either.
            let _ = door.join();
        }
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn is_silent(&self, number: u64) -> bool {
        self.is_deaf.load(Ordering::SeqCst) || number < self.silent_below.load(Ordering::SeqCst)
    }
}

fn serve(door: &TcpListener, shared: &Arc<Shared>) {
    while !shared.is_over() {
        match door.accept() {
            Ok((client, _)) => {
                let number = shared.made.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(shared);
                std::thread::spawn(move || relay(&client, number, &shared));
            }
            Err(_) => std::thread::sleep(LOOK / 10),
        }
    }
}

/// Passes on what both say until one of them closes.
fn relay(client: &TcpStream, number: u64, shared: &Arc<Shared>) {
    // The socket of a server that is away: the client sees a connection that closes.
    let Ok(server) = UnixStream::connect(&shared.to) else { return };
    let ready = client
        .set_nonblocking(false)
        .and_then(|()| client.set_read_timeout(Some(LOOK)))
        .and_then(|()| client.set_nodelay(true))
        .and_then(|()| server.set_read_timeout(Some(LOOK)));
    if ready.is_err() {
        return;
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            pass_on(client, &server, number, shared);
            let _ = server.shutdown(std::net::Shutdown::Both);
        });
        pass_on(&server, client, number, shared);
        let _ = client.shutdown(std::net::Shutdown::Both);
    });
}

/// While it is silent it reads nothing, so that an end of the other side is not heard either.
fn pass_on(mut from: impl Read, mut to: impl Write, number: u64, shared: &Shared) {
    let mut bytes = [0; 16 << 10];
    while !shared.is_over() {
        if shared.is_silent(number) {
            std::thread::sleep(LOOK);
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                while shared.is_silent(number) && !shared.is_over() {
                    std::thread::sleep(LOOK);
                }
                if to.write_all(&bytes[..length]).is_err() {
                    return;
                }
            }
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ) => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
