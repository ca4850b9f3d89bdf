//! Connections: taking them, so many at once, and ending them.
//!
//! Here lives the loop of a listener. A connection that does not finish its request's head in time is closed, so that who is
//! slow (or means harm) keeps no place for ever, and the kernel finds out whose host has gone without a word; when all places
//! are taken, who comes waits at the door. Its body is the business of `body`, what is asked `http`'s.

use crate::peer::Peer;
use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Connections of one listener at once.
pub(crate) const CONNECTIONS_MAX: usize = 512;
/// How long a client may take for the head of a request, and be silent between two.
pub(crate) const HEAD_MAX: Duration = Duration::from_secs(10);
/// The kernel asks the host of a client that was silent for so long whether it is still there …
const IDLE: Duration = Duration::from_secs(15);
/// … again after so long …
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// … and so often, before the connection is closed.
const ASKED_MAX: u32 = 3;
/// How long the loop rests when a connection cannot be taken: there may be no file handles left.
const TROUBLE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// A connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Returns the two ends of one, where the kernel can be asked whose the other is.
    fn peer(stream: &Self::Stream) -> Option<Peer>;
}

impl Listener for TcpListener {
    type Stream = tokio::net::TcpStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        let (stream, _) = self.accept().await?;
        // An answer is small, and who waits for it is to have it at once; without this it is only later.
        let _ = stream.set_nodelay(true);
        // Who waits for an answer sends nothing: whether he is still there, only his host can say.
        let asked = TcpKeepalive::new().with_time(IDLE).with_interval(ASK_AGAIN).with_retries(ASKED_MAX);
        let _ = SockRef::from(&stream).set_tcp_keepalive(&asked);
        Ok(stream)
    }

    fn peer(stream: &Self::Stream) -> Option<Peer> {
        Peer::of(stream)
    }
}

impl Listener for UnixListener {
    type Stream = tokio::net::UnixStream;

    async fn next(&self) -> io::Result<Self::Stream> {
        Ok(self.accept().await?.0)
    }

    fn peer(_: &Self::Stream) -> Option<Peer> {
        None
    }
}

/// Serves until told to stop, and then until what is being answered has been.
pub(crate) async fn serve<L: Listener>(listener: L, router: Router, mut stopped: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.expect("nobody closes it");
            (place, listener.next().await)
        };
        let (place, next) = tokio::select! {
            next = next => next,
            // A sender that is gone means the same as its word.
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match next {
            Ok(stream) => {
                let peer = L::peer(&stream);
                drop(tokio::spawn(attend((stream, peer), router.clone(), graceful.watcher(), place)));
            }
            Err(_) => tokio::time::sleep(TROUBLE).await,
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn attend(
    (stream, peer): (impl AsyncRead + AsyncWrite + Unpin + Send + 'static, Option<Peer>),
    router: Router,
    watcher: Watcher,
    place: OwnedSemaphorePermit,
) {
    let mut http = hyper::server::conn::http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        router.call(request)
    });
    let connection = http.serve_connection(TokioIo::new(stream), service);
    // Who hangs up in the middle has told us so: there is nobody to tell.
    let _ = watcher.watch(connection).await;
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_says_nothing_is_asked_whether_it_is_there() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let client = tokio::net::TcpStream::connect(listener.local_addr().expect("an address"));
        let (client, taken) = tokio::join!(client, listener.next());
        let taken = taken.expect("a connection");
        let socket = SockRef::from(&taken);
        assert!(socket.keepalive().expect("it is asked"));
        assert_eq!(socket.tcp_keepalive_time().expect("it is asked"), IDLE);
        assert_eq!(socket.tcp_keepalive_interval().expect("it is asked"), ASK_AGAIN);
        assert_eq!(socket.tcp_keepalive_retries().expect("it is asked"), ASKED_MAX);
        drop(client);
    }
}
