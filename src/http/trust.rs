//! The certificates that a server's is checked with.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use ureq::tls::Certificate;

use crate::error::{Error, Result};
use crate::host::Host;
use crate::os::files::{self, Trust};

/// Largest file of certificates; the system's bundles have a quarter of a megabyte.
const MAX_PEM: u64 = 8 * 1024 * 1024;

/// Where distributions keep all roots in one file, the usual first: Debian and Alpine; Fedora and RHEL, in two
/// generations; openSUSE; Alpine, macOS and the BSDs. One file is read rather than the folders of links beside it, which
/// costs a tenth of the time.
const BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The files of certificates to trust.
#[derive(Debug, Default)]
pub struct TrustedFiles {
    /// In place of the system's bundle: `SSL_CERT_FILE`.
    pub bundle: Option<PathBuf>,
    /// Folders of further certificates: `SSL_CERT_DIR`.
    pub folders: Vec<PathBuf>,
    /// One more file, beside all others: `ca_file`.
    pub added: Option<PathBuf>,
}

/// The certificates to trust.
pub struct Roots {
    /// The certificates.
    pub(super) certificates: Vec<Certificate<'static>>,
    /// Where they come from, in words.
    pub(super) sources: String,
}

impl TrustedFiles {
    /// Reads the certificates.
    ///
    /// # Errors
    /// [`Kind::Config`](crate::error::Kind::Config) for a file that cannot be used, or if there is no certificate at all.
    pub fn read(&self, host: &dyn Host) -> Result<Roots> {
        let mut roots = Vec::new();
        let mut sources = Vec::new();
        if let Some(path) = &self.bundle {
            roots.extend(certificates("SSL_CERT_FILE", path)?);
            sources.push(path.display().to_string());
        } else if let Some(bundle) = BUNDLES.iter().find(|bundle| Path::new(bundle).exists()) {
            // A bundle that cannot be read is no reason to fail while ca_file may have all that is needed.
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

/// The certificates of a PEM file.
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
