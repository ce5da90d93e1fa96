//! An HTTPS server that requires a token. The test writes its answers, and the server records the requests.

use std::io::{self, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection};

use crate::issuer::wire::{Floor, Listener, lock};
use crate::{Answer, Pki, Request};

/// The server. Dropping it ends it, and fails the test if one of its answers panicked.
pub struct Site {
    listener: Listener,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Site {
    /// Starts a server with a certificate of [`Pki::shared`] for `127.0.0.1` and `localhost`. It answers one request a
    /// connection.
    pub fn start(answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Site {
        let cert = Pki::shared().server(&["127.0.0.1", "localhost"]);
        let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(cert.chain_der.clone(), cert.key_der()));
        let config = Arc::new(config.expect("a certificate that fits its key"));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        let listener = Listener::start("site", move |tcp, floor| {
            // A client may close its connection early: the test looks only at the requests that came.
            let _ = serve(&config, tcp, floor, &seen, &answer);
        });
        Site { listener, requests }
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// `127.0.0.1:PORT`.
    pub fn authority(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    /// Returns its origin.
    pub fn url(&self) -> String {
        format!("https://{}", self.authority())
    }

    /// Returns the URL of the same server with its other name, which is another origin.
    pub fn other_url(&self) -> String {
        format!("https://localhost:{}", self.port())
    }

    /// Returns the requests that came so far.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.requests).clone()
    }

    /// Returns the `Authorization` header of each request that had one.
    pub fn authorizations(&self) -> Vec<String> {
        self.requests().iter().filter_map(|request| request.header("authorization").map(str::to_owned)).collect()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let panics = self.listener.stop();
        if !panics.is_empty() && !std::thread::panicking() {
            panic!("the site's answers panicked: {panics:?}");
        }
    }
}

fn serve(
    config: &Arc<ServerConfig>,
    mut tcp: &TcpStream,
    floor: &Floor,
    seen: &Mutex<Vec<Request>>,
    answer: &impl Fn(&Request) -> Answer,
) -> io::Result<()> {
    let mut tls = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other)?;
    let mut stream = rustls::Stream::new(&mut tls, &mut tcp);
    let Some(request) = Request::read(&mut stream)? else { return Ok(()) };
    lock(seen).push(request.clone());
    answer(&request).write(&mut stream, floor, || unreachable!("a site grants no tokens"))?;
    stream.conn.send_close_notify();
    let _ = stream.flush();
    let _ = tcp.shutdown(Shutdown::Write);
    Ok(())
}
