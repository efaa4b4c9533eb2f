//! TLS: the certificate and its key, and the handshake.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use httpdate::fmt_http_date;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio_rustls::rustls::{CertificateError, Error, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

use super::tcp::{Raw, Tcp};
use crate::config::Tls;
use crate::store::Finding;

/// What is wrong with the certificate or its key.
#[derive(Debug, thiserror::Error)]
#[error("server.tls.{key}: {file} {reason}")]
pub struct TlsError {
    key: &'static str,
    file: String,
    reason: String,
}

/// Says until when the certificate is valid, or what is wrong with it or its key.
pub fn check(tls: &Tls) -> Finding {
    let certificates = match load(tls) {
        Err(error) => return Finding::Error(error.to_string()),
        Ok((_, certificates)) => certificates,
    };
    let file = tls.cert.display();
    let last = UnixTime::since_unix_epoch(LAST);
    let until = match judged(&certificates, last) {
        Some(CertificateError::ExpiredContext { not_after, .. }) => time(not_after),
        _ => time(last),
    };
    if until < SystemTime::now() {
        return Finding::Warning(format!(
            "server.tls.cert: {file} expired at {}, and clients refuse it: renew it, and send SIGHUP to the \
             server",
            fmt_http_date(until)
        ));
    }
    match judged(&certificates, UnixTime::now()) {
        // Whom clients trust, and by which name they call the server, is theirs to know.
        None | Some(CertificateError::UnknownIssuer) => Finding::Fine(format!(
            "TLS by {file}, which is valid until {}",
            fmt_http_date(until)
        )),
        Some(CertificateError::NotValidYetContext { not_before, .. }) => {
            let from = fmt_http_date(time(not_before));
            Finding::Warning(format!(
                "server.tls.cert: {file} is not valid before {from}, and clients refuse it until then"
            ))
        }
        Some(error) => Finding::Warning(format!(
            "server.tls.cert: {file} is a certificate that many clients refuse, `flows pull` too ({error})"
        )),
    }
}

/// The end of the year 9999, which is that of certificates without an end (RFC 5280 section 4.1.2.5).
const LAST: Duration = Duration::from_secs(253_402_300_799);

fn time(time: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(time.as_secs())
}

/// What is wrong with the server's certificate at a time, whoever signed it.
fn judged(certificates: &[CertificateDer<'_>], at: UnixTime) -> Option<CertificateError> {
    let (own, others) = certificates.split_first()?;
    let mut trusted = RootCertStore::empty();
    let mut judge = || {
        trusted.add(own.clone())?;
        let parsed = ParsedCertificate::try_from(own)?;
        let algorithms = provider().signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&parsed, &trusted, others, at, algorithms)
    };
    match judge() {
        Err(Error::InvalidCertificate(error)) => Some(error),
        _ => None,
    }
}

fn provider() -> CryptoProvider {
    ring::default_provider()
}

/// What new connections are encrypted with.
///
/// # Errors
/// What is wrong with the certificate or its key.
pub(super) fn acceptor(tls: &Tls) -> Result<Arc<ServerConfig>, TlsError> {
    load(tls).map(|(config, _)| config)
}

fn load(tls: &Tls) -> Result<(Arc<ServerConfig>, Vec<CertificateDer<'static>>), TlsError> {
    let wrong = |key, path: &Path, reason: String| TlsError {
        key,
        file: path.display().to_string(),
        reason,
    };
    let wrong_cert = |reason| wrong("cert", &tls.cert, reason);
    let wrong_key = |reason| wrong("key", &tls.key, reason);

    let text = fs::read(&tls.cert).map_err(|error| wrong_cert(unreadable(&error)))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let certificates = certificates.map_err(|error| wrong_cert(no_pem(&error)))?;
    if certificates.is_empty() {
        return Err(wrong_cert(
            "has no certificate in it: PEM is wanted, with -----BEGIN CERTIFICATE-----".to_owned(),
        ));
    }
    let text = fs::read(&tls.key).map_err(|error| wrong_key(unreadable(&error)))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| {
        let encrypted = text
            .windows(9)
            .any(|part| part.eq_ignore_ascii_case(b"encrypted"));
        wrong_key(match error {
            pem::Error::NoItemsFound if encrypted => {
                "has a key that is encrypted: `openssl pkey -in FILE -out NEW` decrypts it"
                    .to_owned()
            }
            pem::Error::NoItemsFound => {
                "has no private key in it: PEM is wanted, with -----BEGIN PRIVATE KEY-----"
                    .to_owned()
            }
            error => no_pem(&error),
        })
    })?;

    let pair = CertifiedKey::from_der(certificates.clone(), key, &provider());
    let pair = pair.map_err(|error| match error {
        Error::InconsistentKeys(_) => wrong_key(format!(
            "is not the key of the first certificate in {}, which must be the server's own",
            tls.cert.display()
        )),
        Error::InvalidCertificate(error) => {
            wrong_cert(format!("has a certificate that cannot be used ({error})"))
        }
        error => wrong_key(format!(
            "has a key that cannot be used: RSA of 2048 to 8192 bits, ECDSA over P-256 or P-384, and Ed25519 \
             can ({error})"
        )),
    })?;
    let versions = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong_key(format!("cannot be used ({error})")))?;
    let mut config = versions
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(pair)));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok((Arc::new(config), certificates))
}

fn unreadable(error: &io::Error) -> String {
    format!("cannot be read ({error}); a relative path counts from the working directory")
}

fn no_pem(error: &pem::Error) -> String {
    match error {
        // It would be printed as numbers.
        pem::Error::MissingSectionEnd { .. } => "is not PEM: an END line is missing".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "is not PEM: a BEGIN line is cut off".to_owned(),
        error => format!("is not PEM ({error})"),
    }
}

/// What a client wants that has just connected.
pub(super) enum Greeted {
    /// TLS, which is agreed upon.
    Tls(Box<TlsStream<Raw>>),
    /// HTTP without TLS.
    Plain,
}

/// Shakes hands with a client.
///
/// # Errors
/// It wants something else than TLS as we speak it, or has left.
pub(super) async fn greet(tls: Arc<ServerConfig>, tcp: &Arc<Tcp>) -> io::Result<Greeted> {
    let first = tcp.first_byte().await?;
    // As a method begins, and nothing of TLS.
    if first.is_some_and(|first| first.is_ascii_uppercase()) {
        return Ok(Greeted::Plain);
    }
    let agreed = TlsAcceptor::from(tls).accept(Raw(Arc::clone(tcp))).await?;
    Ok(Greeted::Tls(Box::new(agreed)))
}
