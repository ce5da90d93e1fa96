//! A private certificate authority, as companies use one for a self-hosted control plane.
//!
//! Keys exist in memory only. A test that needs a file writes one into its own home.

#![allow(dead_code, reason = "the example and the tests each use a part of it")]

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// One certificate authority (ECDSA P-256) and the server certificates that it signs.
pub struct Pki {
    authority: CertifiedIssuer<'static, KeyPair>,
    ca_pem: String,
}

/// A server's certificate chain and key, as PEM for other programs and as DER for rustls.
#[derive(Clone)]
pub struct ServerCert {
    /// The server's certificate, followed by the authority's.
    pub chain_pem: String,
    /// PKCS #8.
    pub key_pem: String,
    pub chain_der: Vec<CertificateDer<'static>>,
    key_pkcs8: Vec<u8>,
}

impl ServerCert {
    pub fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_pkcs8.clone()).into()
    }
}

impl Pki {
    pub fn new() -> Pki {
        // Each authority has its own name. If two have the same name, a client reports a bad signature. A user with the
        // wrong CA file sees an unknown issuer instead.
        static COUNT: AtomicUsize = AtomicUsize::new(1);
        let name = format!("Acme Test CA {}", COUNT.fetch_add(1, Ordering::Relaxed));

        let mut params = params(&[], &name, (2020, 2049));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, key()).expect("sign the CA");
        let ca_pem = authority.pem();
        Pki { authority, ca_pem }
    }

    /// Returns the authority that the servers of a test run use by default.
    pub fn shared() -> &'static Pki {
        static SHARED: OnceLock<Pki> = OnceLock::new();
        SHARED.get_or_init(Pki::new)
    }

    /// Returns the content of a `ca_file`.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// Returns a valid certificate for these names. IP addresses become IP entries.
    pub fn server(&self, names: &[&str]) -> ServerCert {
        self.sign(names, (2020, 2048))
    }

    /// Returns a certificate that expired in 2021.
    pub fn expired(&self, names: &[&str]) -> ServerCert {
        self.sign(names, (2020, 2021))
    }

    /// Returns a certificate that is not valid before 2047.
    pub fn not_yet_valid(&self, names: &[&str]) -> ServerCert {
        self.sign(names, (2047, 2048))
    }

    /// Returns a self-signed certificate: an authority, as `openssl req -x509` makes it, or not an authority, as a
    /// server should have it.
    pub fn self_signed(names: &[&str], is_authority: bool) -> ServerCert {
        let mut params = params(names, "Acme control plane", (2020, 2048));
        params.is_ca = if is_authority { IsCa::Ca(BasicConstraints::Unconstrained) } else { IsCa::ExplicitNoCa };
        let key = key();
        let own = params.self_signed(&key).expect("sign a certificate with its own key");
        ServerCert {
            chain_pem: own.pem(),
            key_pem: key.serialize_pem(),
            chain_der: vec![own.der().clone()],
            key_pkcs8: key.serialize_der(),
        }
    }

    fn sign(&self, names: &[&str], years: (i32, i32)) -> ServerCert {
        let mut params = params(names, "Acme control plane", years);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // The strict checks of Python and Go require a leaf certificate to name the key that signed it.
        params.use_authority_key_identifier_extension = true;
        let key = key();
        let leaf = params.signed_by(&key, &self.authority).expect("sign a server certificate");
        ServerCert {
            chain_pem: leaf.pem() + &self.ca_pem,
            key_pem: key.serialize_pem(),
            chain_der: vec![leaf.der().clone(), self.authority.der().clone()],
            key_pkcs8: key.serialize_der(),
        }
    }
}

fn params(names: &[&str], common_name: &str, years: (i32, i32)) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names fit for a certificate");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date_time_ymd(years.0, 1, 1);
    params.not_after = date_time_ymd(years.1, 1, 1);
    params
}

fn key() -> KeyPair {
    KeyPair::generate().expect("make a P-256 key")
}
