//! Whom this program believes on the other end of an encrypted connection.
//!
//! Here live the authorities that this machine trusts, read once for the whole process, and the client's side of TLS for who
//! asks over HTTPS. They are those of the operating system, or of the file that `SSL_CERT_FILE` names, as other programs
//! have it. What is said over the connection is the business of who opens it; PostgreSQL has its own way to begin TLS,
//! in `store`.

use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig, Error as TlsError, RootCertStore};
use std::io;
use std::sync::{Arc, LazyLock};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Why there is no encrypted connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What is wrong, and what mends it.
    pub why: String,
    /// Whether another try may help: not where the other end is not believed.
    pub passes: bool,
}

struct Authorities {
    roots: Arc<RootCertStore>,
    /// What kept some of them from being read.
    trouble: Option<String>,
}

static AUTHORITIES: LazyLock<Authorities> = LazyLock::new(|| {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    Authorities { roots: Arc::new(roots), trouble: found.errors.first().map(ToString::to_string) }
});

static CONNECTOR: LazyLock<Result<TlsConnector, String>> = LazyLock::new(|| {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be used: {e}"))?
        .with_root_certificates(roots())
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
});

/// Returns the authorities that this machine trusts; there may be none.
pub fn roots() -> Arc<RootCertStore> {
    Arc::clone(&AUTHORITIES.roots)
}

/// Encrypts a connection to a host, which must prove that it has that name.
///
/// # Errors
/// What is wrong, in words.
pub async fn encrypt<S: AsyncRead + AsyncWrite + Unpin>(
    host: &str,
    stream: S,
) -> Result<TlsStream<S>, Refused> {
    let for_good = |why: String| Refused { why, passes: false };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned())
        .map_err(|_| for_good(format!("{host} is no name that a certificate could have")))?;
    let connector = CONNECTOR.as_ref().map_err(|why| for_good(why.clone()))?;
    connector.connect(name, stream).await.map_err(|e| refused(host, &e))
}

fn refused(host: &str, e: &io::Error) -> Refused {
    match e.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()) {
        Some(TlsError::InvalidCertificate(CertificateError::UnknownIssuer)) => {
            let trouble = AUTHORITIES.trouble.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            let why = format!(
                "the certificate of {host} is signed by no authority that is trusted here{trouble}; \
                 SSL_CERT_FILE=FILE names those to trust (PEM)"
            );
            Refused { why, passes: false }
        }
        Some(TlsError::InvalidCertificate(wrong)) => {
            Refused { why: format!("the certificate of {host} is not accepted: {wrong}"), passes: false }
        }
        _ => Refused { why: format!("no encrypted connection to {host}: {e}"), passes: true },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_testkit::tls::{Authority, Front};
    use tokio::net::{TcpListener, TcpStream};

    async fn refusal(certified: &str, host: &str) -> Refused {
        let front = Front::before(9, &Authority::new("nobody's"), certified);
        let stream = TcpStream::connect(("127.0.0.1", front.port())).await.expect("connects");
        encrypt(host, stream).await.map(drop).expect_err("nobody trusts it")
    }

    #[tokio::test]
    async fn who_is_not_believed_is_told_apart_from_who_breaks_off() {
        let unknown = refusal("localhost", "localhost").await;
        assert!(!unknown.passes && unknown.why.contains("SSL_CERT_FILE=FILE names those"), "{unknown:?}");
        let nameless = refusal("localhost", "no name").await;
        assert!(!nameless.passes && nameless.why.contains("no name that a certificate"), "{nameless:?}");

        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let stream = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connects");
        drop(listener.accept().await.expect("accepts"));
        let broken = encrypt("localhost", stream).await.map(drop).expect_err("it hung up");
        assert!(broken.passes && broken.why.contains("no encrypted connection to localhost"), "{broken:?}");
    }
}
