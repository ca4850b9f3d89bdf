//! The way to a server: how a connection to PostgreSQL is encrypted, and how its server proves who it is.
//!
//! Here lives what a store's address says of that and what the driver is not to read in it, in the words of PostgreSQL's own programs: `sslmode`, `sslrootcert`,
//! `sslcert`, `sslkey` (PostgreSQL manual, "SSL Support"). Over a Unix socket nothing is encrypted.

use crate::pooler::Pooler;
use crate::url::split_query;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};
use quorate_model::{Error, Result};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use tokio_postgres::{Config, config::SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// What must not stand in a value of the address's query as it is.
const QUOTED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'&').add(b'#').add(b'+');

/// A server and the way to it.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) tls: MakeRustlsConnect,
    /// What stands in between, if the address says so.
    pub(crate) pooler: Option<Pooler>,
    /// The settings that the address asks for (`options=`); they are not in `config`.
    pub(crate) options: String,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads a store's address.
    pub(crate) fn parse(text: &str, shown: &str) -> Result<Server> {
        let (rest, wish) = take_out(text)?;
        let mut config = Config::from_str(&rest).map_err(|e| {
            Error::invalid(format!("store url {shown}: {e}")).hint("postgres://USER@HOST:PORT/DATABASE")
        })?;
        config.ssl_mode(wish.mode.unwrap_or(Mode::Prefer).word());
        let tls = MakeRustlsConnect::new(client(&wish, wish.proof()?)?);
        Ok(Server { config, tls, pooler: wish.pooler, options: wish.options })
    }
}

/// Makes the paths of certificates in an address independent of the folder in which it is used.
pub(crate) fn absolute(text: &str, base: &Path) -> String {
    let Some((head, query)) = split_query(text) else { return text.to_owned() };
    let parts: Vec<String> = query.split('&').map(|part| absolute_part(part, base)).collect();
    format!("{head}?{}", parts.join("&"))
}

fn absolute_part(part: &str, base: &Path) -> String {
    match part.split_once('=') {
        Some((key @ ("sslrootcert" | "sslcert" | "sslkey"), value)) if value != SYSTEM => {
            let path = base.join(&*percent_decode_str(value).decode_utf8_lossy());
            format!("{key}={}", utf8_percent_encode(&path.to_string_lossy(), QUOTED))
        }
        _ => part.to_owned(),
    }
}

/// Stands for the authorities that the operating system trusts.
const SYSTEM: &str = "system";

/// What an address asks for.
#[derive(Debug, Default, PartialEq)]
struct Wish {
    mode: Option<Mode>,
    authority: Option<String>,
    certificate: Option<String>,
    key: Option<String>,
    pooler: Option<Pooler>,
    options: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl Mode {
    fn parse(word: &str) -> Result<Mode> {
        match word {
            "disable" => Ok(Mode::Disable),
            "allow" | "prefer" => Ok(Mode::Prefer),
            "require" => Ok(Mode::Require),
            "verify-ca" => Ok(Mode::VerifyCa),
            "verify-full" => Ok(Mode::VerifyFull),
            _ => Err(Error::invalid(format!("store url: unknown sslmode `{word}`"))
                .hint("disable, prefer, require, verify-ca or verify-full")),
        }
    }

    fn word(self) -> SslMode {
        match self {
            Mode::Disable => SslMode::Disable,
            Mode::Prefer => SslMode::Prefer,
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => SslMode::Require,
        }
    }
}

/// What the server's certificate must prove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proof {
    Nothing,
    Authority,
    AuthorityAndName,
}

impl Wish {
    fn proof(&self) -> Result<Proof> {
        match self.mode.unwrap_or(Mode::Prefer) {
            Mode::Disable | Mode::Prefer => Ok(Proof::Nothing),
            // As libpq does: who names an authority wants it to be asked.
            Mode::Require if self.authority.is_none() => Ok(Proof::Nothing),
            Mode::VerifyCa if self.authority.as_deref().is_none_or(|authority| authority == SYSTEM) => {
                Err(Error::invalid("store url: sslmode=verify-ca needs sslrootcert=FILE").hint(
                    "anyone can have a certificate of a public authority: verify-full checks the name too",
                ))
            }
            Mode::Require | Mode::VerifyCa => Ok(Proof::Authority),
            Mode::VerifyFull => Ok(Proof::AuthorityAndName),
        }
    }
}

/// Takes the words on encryption, pooler and settings out of an address; the rest is for the driver.
fn take_out(text: &str) -> Result<(String, Wish)> {
    let mut wish = Wish::default();
    let Some((head, query)) = split_query(text) else { return Ok((text.to_owned(), wish)) };
    let mut rest = Vec::new();
    for part in query.split('&') {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
        match key {
            "sslmode" => wish.mode = Some(Mode::parse(&value)?),
            "sslrootcert" => wish.authority = Some(value),
            "sslcert" => wish.certificate = Some(value),
            "sslkey" => wish.key = Some(value),
            "pooler" => wish.pooler = Pooler::parse(&value)?,
            "options" => wish.options = value,
            _ => rest.push(part),
        }
    }
    let rest = if rest.is_empty() { head.to_owned() } else { format!("{head}?{}", rest.join("&")) };
    Ok((rest, wish))
}

fn client(wish: &Wish, proof: Proof) -> Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let verifier: Arc<dyn ServerCertVerifier> = match proof {
        Proof::Nothing => Arc::new(Lenient { authority: None, algorithms }),
        Proof::Authority => Arc::new(Lenient { authority: Some(by_authority(wish, &provider)?), algorithms }),
        Proof::AuthorityAndName => by_authority(wish, &provider)?,
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| Error::failed(format!("TLS: {e}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    match (&wish.certificate, &wish.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
            .map_err(|e| Error::invalid(format!("{certificate} and {key} do not go together: {e}"))),
        (None, None) => Ok(builder.with_no_client_auth()),
        _ => Err(Error::invalid("sslcert and sslkey are given together or not at all")),
    }
}

fn by_authority(wish: &Wish, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>> {
    let roots = match wish.authority.as_deref() {
        None | Some(SYSTEM) => quorate_trust::roots(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| Error::invalid(format!("{file}: {e}")))?;
            }
            Arc::new(roots)
        }
    };
    if roots.is_empty() {
        return Err(Error::invalid("this machine has no list of authorities to trust")
            .hint("name the one that signed the server's certificate: sslrootcert=FILE"));
    }
    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
        .build()
        .map_err(|e| Error::failed(format!("TLS: {e}")))
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read =
        CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>);
    match read {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err(unreadable(file, &"it holds no certificate")),
        Err(e) => Err(unreadable(file, &e)),
    }
}

fn private_key(file: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_file(file).map_err(|e| unreadable(file, &e))
}

fn unreadable(file: &str, why: &dyn std::fmt::Display) -> Error {
    Error::invalid(format!("cannot read {file}: {why}")).hint("a file in PEM form is wanted: -----BEGIN …")
}

/// Returns what mends a connection that failed for its encryption, if that is why.
pub(crate) fn hint(e: &tokio_postgres::Error) -> Option<&'static str> {
    let mut source = std::error::Error::source(e);
    while let Some(inner) = source {
        let tls = inner
            .downcast_ref::<TlsError>()
            .or_else(|| inner.downcast_ref::<std::io::Error>()?.get_ref()?.downcast_ref::<TlsError>());
        match tls {
            Some(TlsError::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            )) => {
                return Some("name the authority that signed the server's certificate: sslrootcert=FILE");
            }
            Some(TlsError::InvalidCertificate(e)) if is_about_the_name(e) => {
                return Some(
                    "use the name in the server's certificate, or sslmode=verify-ca if its authority is yours alone",
                );
            }
            Some(_) => return Some("see sslmode, sslrootcert, sslcert and sslkey in the store's url"),
            None => {}
        }
        source = inner.source();
    }
    e.to_string()
        .contains("TLS")
        .then_some("the server has no encryption: set ssl = on there, or sslmode=prefer here")
}

fn is_about_the_name(e: &CertificateError) -> bool {
    matches!(e, CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })
}

/// Asks for less than authority and name, as `sslmode` says: for the authority's signature, or for nothing. The latter
/// is encryption against who listens, none against who pretends.
#[derive(Debug)]
struct Lenient {
    authority: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> std::result::Result<ServerCertVerified, TlsError> {
        let Some(authority) = &self.authority else { return Ok(ServerCertVerified::assertion()) };
        match authority.verify_server_cert(certificate, between, name, ocsp, now) {
            // The chain is checked before the name.
            Err(TlsError::InvalidCertificate(e)) if is_about_the_name(&e) => {
                Ok(ServerCertVerified::assertion())
            }
            answer => answer,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> std::result::Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(query: &str, rest: &str, proof: Proof) {
        let (left, wish) = take_out(&format!("postgres://h/d{query}")).expect("reads");
        assert_eq!(left, format!("postgres://h/d{rest}"));
        assert_eq!(wish.proof().expect("goes together"), proof, "{query}");
    }

    #[test]
    fn the_words_on_encryption_are_those_of_libpq() {
        check("", "", Proof::Nothing);
        check("?sslmode=disable&application_name=x", "?application_name=x", Proof::Nothing);
        check("?sslmode=require", "", Proof::Nothing);
        check("?sslmode=require&sslrootcert=/ca.pem", "", Proof::Authority);
        check(
            "?connect_timeout=3&sslmode=verify-ca&sslrootcert=/ca.pem",
            "?connect_timeout=3",
            Proof::Authority,
        );
        check("?sslmode=verify-full", "", Proof::AuthorityAndName);
    }

    #[test]
    fn what_is_not_for_the_driver_is_taken_out() {
        let read = |text: &str| Server::parse(text, "shown").expect("reads");
        let server = read("postgres://h/d?pooler=transaction&options=-csearch_path%3Dx");
        assert_eq!((server.pooler, server.options.as_str()), (Some(Pooler::Transaction), "-csearch_path=x"));
        assert_eq!(server.config.get_options(), None);
        assert_eq!(read("postgres://h/d?pooler=none").pooler, None);
        assert!(Server::parse("postgres://h/d?pooler=yes", "shown").is_err());
    }

    #[test]
    fn what_would_verify_nothing_is_refused() {
        for query in ["sslmode=verify-ca", "sslmode=verify-ca&sslrootcert=system"] {
            let (_, wish) = take_out(&format!("postgres://h/d?{query}")).expect("reads");
            assert!(wish.proof().is_err(), "{query}");
        }
        assert!(take_out("postgres://h/d?sslmode=verify-most").is_err());
    }

    #[test]
    fn files_of_certificates_are_below_the_project() {
        let text = "postgres://h/d?sslmode=verify-full&sslrootcert=my%20ca.pem&sslkey=/k.pem";
        assert_eq!(
            absolute(text, Path::new("/p")),
            "postgres://h/d?sslmode=verify-full&sslrootcert=/p/my%20ca.pem&sslkey=/k.pem"
        );
        assert_eq!(
            absolute("postgres://h/d?sslrootcert=system", Path::new("/p")),
            "postgres://h/d?sslrootcert=system"
        );
    }

    #[test]
    fn a_file_that_is_no_certificate_is_named() {
        let wish =
            Wish { mode: Some(Mode::VerifyFull), authority: Some("/no/such.pem".into()), ..Wish::default() };
        let error = client(&wish, Proof::AuthorityAndName).expect_err("refused");
        assert!(error.message.contains("/no/such.pem"), "{}", error.message);
    }
}
