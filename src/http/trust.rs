//! The root certificates with which TLS checks the certificate of a server.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::Certificate;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::os::files::{self, Trust};

/// Largest certificate file in bytes. The bundles of distributions have about 250 KB.
const MAX_PEM: u64 = 8 * 1024 * 1024;

/// Files in which distributions keep all roots, the most common first.
///
/// In this order: Debian and Alpine; Fedora and RHEL, in two generations; openSUSE; Alpine, macOS and the BSDs.
/// The program reads one file and not the folder of links beside it: the one file
/// takes a tenth of the time.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files and folders with the certificates to trust.
#[derive(Debug, Default)]
pub struct TrustedFiles {
    /// `SSL_CERT_FILE`. It replaces the bundle of the system.
    pub bundle: Option<PathBuf>,
    /// `SSL_CERT_DIR`: folders of additional certificates.
    pub folders: Vec<PathBuf>,
    /// `ca_file`: one more file, in addition to all others.
    pub added: Option<PathBuf>,
}

/// The certificates to trust.
pub struct Roots {
    /// The certificates.
    pub(super) certificates: Vec<Certificate<'static>>,
    /// The paths that they come from, as text.
    pub(super) sources: String,
}

impl TrustedFiles {
    /// Reads the certificates.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) if `SSL_CERT_FILE` or `ca_file` is not usable, or if there is
    /// no certificate at all.
    pub fn read(&self, host: &dyn Host) -> Result<Roots> {
        let mut roots = Vec::new();
        let mut sources = Vec::new();
        if let Some(path) = &self.bundle {
            roots.extend(certificates("SSL_CERT_FILE", path)?);
            sources.push(path.display().to_string());
        } else if let Some(bundle) = BUNDLES.iter().find(|bundle| Path::new(bundle).exists()) {
            // An unreadable bundle is not an error here: ca_file may have the certificate that the server needs.
            match certificates("the system's bundle of certificates", Path::new(bundle)) {
                Ok(found) => roots.extend(found),
                Err(error) => host.note(|| format!("tls: {}", error.what)),
            }
            sources.push((*bundle).to_owned());
        }
        for folder in &self.folders {
            let files = std::fs::read_dir(folder).into_iter().flatten().flatten().take(2000);
            roots.extend(files.filter_map(|file| certificates("a certificate", &file.path()).ok()).flatten());
            sources.push(folder.display().to_string());
        }
        if let Some(path) = &self.added {
            roots.extend(certificates("ca_file", path)?);
            sources.push(path.display().to_string());
        }
        if roots.is_empty() {
            return Err(Error::config(
                "there are no certificates to check the server with",
                "install the package ca-certificates, or set ca_file to the PEM file of the authority that signed the server's",
            ));
        }
        host.note(|| format!("tls: {} certificates from {}", roots.len(), sources.join(", ")));
        Ok(Roots { certificates: roots, sources: sources.join(" and ") })
    }
}

/// Reads the certificates of a PEM file. `what` names the file in the message.
fn certificates(what: &str, path: &Path) -> Result<Vec<Certificate<'static>>> {
    let fault = |why: String| {
        Error::config(
            format!("cannot use {what} {}: {why}", path.display()),
            "it must be a readable PEM file with at least one CERTIFICATE",
        )
    };
    let pem = files::read(path, Trust::NotWritableByAll, MAX_PEM).map_err(|error| fault(error.to_string()))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem)
        .map(|certificate| certificate.map(|der| Certificate::from_der(&der).to_owned()))
        .collect();
    match certificates {
        Ok(found) if found.is_empty() => Err(fault("it holds no certificate".to_owned())),
        Ok(found) => Ok(found),
        Err(_) => Err(fault("it is not PEM".to_owned())),
    }
}
