//! HTTPS on this machine: an authority of the test's own, and what encrypts before a server that does not.
//!
//! Here lives the other end of TLS, a real one; what is behind it is any server of a test.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;
use std::thread;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

/// Signs certificates.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    /// Makes one that nobody trusts yet.
    ///
    /// # Panics
    /// Where no key can be made.
    pub fn new(name: &str) -> Authority {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("signed").pem();
        Authority { issuer: Issuer::new(params, key), certificate }
    }

    /// Returns its own certificate, as PEM: who has it trusts it.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Returns a certificate for a name, and its key, both as PEM.
    ///
    /// # Panics
    /// For what is no name.
    pub fn certify(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (certificate.pem(), key.serialize_pem())
    }

    fn server(&self, name: &str) -> ServerConfig {
        let (certificate, key) = self.certify(name);
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
        ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .expect("a certificate with its key")
    }
}

/// Takes encrypted connections and passes on what they say; it ends with the value.
#[derive(Debug)]
pub struct Front {
    port: u16,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Front {
    /// Stands on loopback before the server at port `to`, with a certificate for `name`.
    ///
    /// # Panics
    /// Where this machine has no loopback interface or no thread to give.
    pub fn before(to: u16, authority: &Authority, name: &str) -> Front {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let port = listener.local_addr().expect("an address").port();
        let acceptor = TlsAcceptor::from(Arc::new(authority.server(name)));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::spawn(move || serve(listener, to, &acceptor, stopped));
        Front { port, stop: Some(stop), thread: Some(thread) }
    }

    /// Returns where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        // Dropped or sent: both end it.
        let _ = self.stop.take().map(|stop| stop.send(()));
        let _ = self.thread.take().map(thread::JoinHandle::join);
    }
}

fn serve(listener: std::net::TcpListener, to: u16, acceptor: &TlsAcceptor, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let accept = async {
        let listener = TcpListener::from_std(listener).expect("a listener");
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(pass_on(stream, to, acceptor.clone()));
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = accept => {}
            _ = stopped => {}
        }
    });
}

/// Who does not believe this end, or finds nothing behind it, hangs up: that is what tests look at.
async fn pass_on(stream: TcpStream, to: u16, acceptor: TlsAcceptor) {
    let Ok(mut outer) = acceptor.accept(stream).await else { return };
    let Ok(mut inner) = TcpStream::connect(("127.0.0.1", to)).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
}
