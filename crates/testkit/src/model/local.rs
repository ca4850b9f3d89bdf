//! A server of this process on the loopback interface that answers as a function says.
//!
//! Here live its thread, its address and its end. What it answers lives with whoever starts it. An answer that is waited for
//! is given up when its client is gone.

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Method, Response, StatusCode, Uri};
use serde_json::Value;
use std::net::TcpListener;
use std::thread;
use tokio::sync::oneshot;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its method.
    pub method: Method,
    /// Its path.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; null where it is no JSON.
    pub body: Value,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Its status.
    pub status: u16,
    /// The type of its body.
    pub kind: &'static str,
    /// Its body.
    pub body: String,
    /// Seconds after which it may be asked again.
    pub retry_after: Option<u64>,
}

impl Reply {
    /// An answer of this type.
    pub fn new(status: u16, kind: &'static str, body: impl Into<String>) -> Reply {
        Reply { status, kind, body: body.into(), retry_after: None }
    }

    /// A refusal that each provider's clients understand.
    pub fn refusal(status: u16) -> Reply {
        Reply::new(status, "application/json", super::wire::error(status))
    }

    fn into_response(self) -> Response<Body> {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        if let Ok(kind) = self.kind.parse() {
            response.headers_mut().insert("content-type", kind);
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert("retry-after", seconds.into());
        }
        response
    }
}

/// The server; it ends with the value.
#[derive(Debug)]
pub struct LocalServer {
    url: String,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl LocalServer {
    /// Starts it on a free port of the loopback interface.
    ///
    /// # Panics
    /// Where this machine has no loopback interface or no thread to give.
    pub fn start<A, F>(answer: A) -> LocalServer
    where
        A: Fn(Request) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || serve(listener, answer, stopped));
        LocalServer { url, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns its address, without a path.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it; what is not answered yet never is.
    pub fn stop(&mut self) {
        // Dropped or sent: both end it.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn serve<A, F>(listener: TcpListener, answer: A, stopped: oneshot::Receiver<()>)
where
    A: Fn(Request) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let handle = move |method: Method, uri: Uri, headers: HeaderMap, body: Bytes| {
            let body = serde_json::from_slice(&body).unwrap_or_default();
            let answered = answer(Request { method, path: uri.path().to_owned(), headers, body });
            async move { answered.await.into_response() }
        };
        let server = axum::serve(listener, Router::new().fallback(handle));
        tokio::select! {
            _ = server.into_future() => {}
            _ = stopped => {}
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    const ASK: &[u8] = b"POST /a HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

    fn ask(server: &LocalServer) -> TcpStream {
        let address = server.url().strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(ASK).expect("it is asked");
        stream
    }

    #[test]
    fn it_answers_as_the_function_says() {
        let server = LocalServer::start(|request: Request| async move {
            let words = format!("{} {} {}", request.method, request.path, request.body);
            Reply { retry_after: Some(7), ..Reply::new(429, "text/plain", words) }
        });
        let mut said = String::new();
        ask(&server).read_to_string(&mut said).expect("it answers");
        assert!(said.starts_with("HTTP/1.1 429") && said.contains("retry-after: 7"), "{said}");
        assert!(said.ends_with("POST /a {}"), "{said}");
    }

    #[test]
    fn an_answer_is_given_up_when_its_client_is_gone() {
        struct Flag(Arc<AtomicBool>);
        impl Drop for Flag {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let (begun, given_up) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (told, flag) = (begun.clone(), given_up.clone());
        let server = LocalServer::start(move |_| {
            let (begun, flag) = (told.clone(), Flag(flag.clone()));
            async move {
                begun.store(true, Ordering::SeqCst);
                std::future::pending::<()>().await;
                drop(flag);
                Reply::refusal(400)
            }
        });
        let stream = ask(&server);
        let until = Instant::now() + Duration::from_secs(10);
        let wait_for = |flag: &AtomicBool| {
            while !flag.load(Ordering::SeqCst) && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            flag.load(Ordering::SeqCst)
        };
        assert!(wait_for(&begun), "it was asked");
        drop(stream);
        assert!(wait_for(&given_up), "nobody waits for the answer any more");
    }
}
