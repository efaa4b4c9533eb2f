//! Whose certificates are trusted, and what is said of others.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{CertificateError, Error};
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::PullError;

/// TLS that trusts the certificates in a file, or else those of the system's store.
pub(super) fn tls(ca_file: Option<&Path>) -> Result<TlsConfig, PullError> {
    let trusted = match ca_file {
        Some(file) => of_file(file)?,
        None => of_system()?,
    };
    let trusted = trusted
        .iter()
        .map(|found| Certificate::from_der(found).to_owned());
    let trusted: Vec<_> = trusted.collect();
    Ok(TlsConfig::builder()
        .root_certs(RootCerts::from(trusted))
        .unversioned_rustls_crypto_provider(Arc::new(ring::default_provider()))
        .build())
}

fn of_file(file: &Path) -> Result<Vec<CertificateDer<'static>>, PullError> {
    let wrong =
        |reason: String| PullError::Trust(format!("--ca-file {}: {reason}", file.display()));
    let text = fs::read(file).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let found = found.map_err(|_| wrong("it is not PEM".to_owned()))?;
    if found.is_empty() {
        return Err(wrong(
            "it has no certificate: PEM is wanted, with -----BEGIN CERTIFICATE-----".to_owned(),
        ));
    }
    Ok(found)
}

fn of_system() -> Result<Vec<CertificateDer<'static>>, PullError> {
    let found = rustls_native_certs::load_native_certs();
    if !found.certs.is_empty() {
        return Ok(found.certs);
    }
    let errors = found.errors.iter().map(|error| format!(" ({error})"));
    Err(PullError::Trust(format!(
        "this system has no certificates that it trusts{}: --ca-file names a file of some; or install the \
         system's, in Debian the package ca-certificates",
        errors.collect::<String>()
    )))
}

/// Why a server's certificate is not trusted, if that is what went wrong; and the way out.
pub(super) fn distrust(error: &ureq::Error) -> Option<String> {
    let error = match error {
        ureq::Error::Rustls(error) => error,
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref()?,
        _ => return None,
    };
    Some(match error {
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "whoever signed the server's certificate is not trusted; --ca-file names a file of certificates that \
             are"
            .to_owned()
        }
        Error::InvalidCertificate(error) => {
            format!("the server's certificate is not to be trusted ({error})")
        }
        Error::InvalidMessage(_) => "this is no TLS; does the URL begin with http://?".to_owned(),
        _ => return None,
    })
}
