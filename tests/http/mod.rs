//! One HTTPS request: proxies and certificates.

mod proxies;
mod tls;
