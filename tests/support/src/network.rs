//! The obstacles between a client and its server: proxies, silent servers, unreachable addresses.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::issuer::wire::{Floor, Listener, Request, lock, raise_file_limit, spawn};

/// An address that never completes a connection, as with a dropped route or a silent firewall.
pub struct BlackHole {
    listener: TcpListener,
    /// They fill the listener's queue, which no thread empties, so the kernel ignores later connections.
    _queue: Vec<TcpStream>,
}

impl BlackHole {
    pub fn start() -> BlackHole {
        BlackHole::at((Ipv4Addr::LOCALHOST, 0).into()).expect("a free loopback port")
    }

    /// Starts at a given loopback address, for example at `[::1]` with the port of an issuer on 127.0.0.1.
    ///
    /// # Errors
    /// The address is in use, or this machine has no such address (no IPv6).
    pub fn at(address: SocketAddr) -> io::Result<BlackHole> {
        // If the queue takes more connections than this, the kernel accepts them all and a connect would not hang.
        const LIMIT: usize = 20_000;
        raise_file_limit();
        let listener = TcpListener::bind(address)?;
        let address = listener.local_addr()?;
        let mut queue = Vec::new();
        while queue.len() < LIMIT {
            match TcpStream::connect_timeout(&address, Duration::from_millis(250)) {
                Ok(stream) => queue.push(stream),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    return Ok(BlackHole { listener, _queue: queue });
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other(format!("{LIMIT} connections wait and the queue is not full")))
    }

    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("address of a bound socket")
    }

    /// Returns a URL with the address, so that no other address of `localhost` answers.
    pub fn url(&self) -> String {
        format!("https://{}", self.address())
    }
}

/// A server that accepts connections and sends nothing: no TLS, no HTTP.
pub struct Mute(Listener);

impl Mute {
    pub fn start() -> Mute {
        Mute(Listener::start("mute", |_, floor| floor.wait_for_stop()))
    }

    /// Starts a server that answers any first bytes with `reply`.
    pub fn with_reply(reply: &'static [u8]) -> Mute {
        Mute(Listener::start("babbler", move |mut stream, _| {
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(reply);
            let _ = stream.shutdown(Shutdown::Write);
        }))
    }

    pub fn url(&self) -> String {
        format!("https://localhost:{}", self.0.port())
    }

    pub fn connections(&self) -> usize {
        self.0.accepted()
    }
}

/// Returns the URL of a loopback port without a listener.
///
/// The port was free a moment ago, and Linux does not reuse it soon. Nothing reserves it.
pub fn refused_url() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a loopback port");
    let port = listener.local_addr().expect("address of a bound socket").port();
    format!("https://127.0.0.1:{port}")
}

/// A forward proxy as companies use it, for CONNECT only.
///
/// It connects only to loopback. Another target is a bad gateway, unless [`Proxy::route`] names a local server for it.
pub struct Proxy {
    listener: Listener,
    state: Arc<Mutex<ProxyState>>,
}

#[derive(Default)]
struct ProxyState {
    log: Vec<Connect>,
    login: Option<String>,
    refusal: Option<u16>,
    drip: Option<Duration>,
    routes: Vec<(String, SocketAddr)>,
}

/// The request of a client to the proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Connect {
    /// `CONNECT`, if the client is right.
    pub method: String,
    /// `host:port`, as sent.
    pub target: String,
    /// `Proxy-Authorization`, as sent.
    pub authorization: Option<String>,
}

impl Proxy {
    pub fn start() -> Proxy {
        let state = Arc::new(Mutex::new(ProxyState::default()));
        let listener = {
            let state = Arc::clone(&state);
            // A client may close its connection early. The log has its request.
            Listener::start("proxy", move |stream, floor| {
                let _ = tunnel(stream, floor, &state);
            })
        };
        Proxy { listener, state }
    }

    /// Returns `http://localhost:PORT`, without a login.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.listener.port())
    }

    pub fn port(&self) -> u16 {
        self.listener.port()
    }

    /// Requires this login (Basic) from now on, and answers 407 without it.
    pub fn require_login(&self, user: &str, password: &str) {
        let basic = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        lock(&self.state).login = Some(basic);
    }

    /// Refuses every target with this status from now on.
    pub fn refuse(&self, status: u16) {
        lock(&self.state).refusal = Some(status);
    }

    /// Answers byte by byte without an end from now on.
    pub fn drip(&self, every: Duration) {
        lock(&self.state).drip = Some(every);
    }

    /// Connects to a local server for this target (`app.run.ai:443`): the proxy resolves names, and the program does
    /// not.
    pub fn route(&self, target: &str, to: SocketAddr) {
        lock(&self.state).routes.push((target.to_owned(), to));
    }

    /// Returns every request so far.
    pub fn connects(&self) -> Vec<Connect> {
        lock(&self.state).log.clone()
    }

    pub fn connections(&self) -> usize {
        self.listener.accepted()
    }
}

fn tunnel(mut client: &TcpStream, floor: &Floor, state: &Mutex<ProxyState>) -> io::Result<()> {
    let Some(request) = Request::read(&mut client)? else {
        return Ok(());
    };
    let authorization = request.header("proxy-authorization").map(str::to_owned);
    let (refusal, drip, routed) = {
        let mut state = lock(state);
        state.log.push(Connect {
            method: request.method.clone(),
            target: request.path.clone(),
            authorization: authorization.clone(),
        });
        let refusal = match &state.login {
            _ if request.method != "CONNECT" => Some(405),
            login if login.is_some() && *login != authorization => Some(407),
            _ => state.refusal,
        };
        let route = state.routes.iter().find(|(target, _)| *target == request.path);
        (refusal, state.drip, route.map(|(_, address)| *address))
    };
    if let Some(every) = drip {
        client.write_all(b"HTTP/1.1 200 Connection established\r\nX-Filler: ")?;
        while !floor.stopped() {
            client.write_all(b"a")?;
            floor.sleep(every);
        }
        return Ok(());
    }
    if let Some(status) = refusal {
        return refuse(client, status);
    }
    let Some(server) = routed.or_else(|| loopback(&request.path)) else {
        return refuse(client, 502);
    };
    let Ok(server) = TcpStream::connect(server) else {
        return refuse(client, 502);
    };
    let server = Arc::new(server);
    let _adopted = floor.adopt(&server);
    let _ = server.set_nodelay(true);
    client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;

    let upwards = {
        let (from, to) = (client.try_clone()?, Arc::clone(&server));
        spawn("proxy-up", move || forward(&from, &to))
    };
    forward(&server, client);
    let _ = upwards.join();
    Ok(())
}

/// Copies until the end of `from`, and then ends `to`.
fn forward(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = to.shutdown(Shutdown::Write);
}

/// Returns the address of a loopback target. Names other than `localhost` are not resolved.
fn loopback(target: &str) -> Option<SocketAddr> {
    if let Some(port) = target.strip_prefix("localhost:") {
        return Some((Ipv4Addr::LOCALHOST, port.parse().ok()?).into());
    }
    target.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback())
}

fn refuse(mut client: &TcpStream, status: u16) -> io::Result<()> {
    let (reason, header) = match status {
        403 => ("Forbidden", ""),
        405 => ("Method Not Allowed", ""),
        407 => ("Proxy Authentication Required", "Proxy-Authenticate: Basic realm=\"acme\"\r\n"),
        _ => ("Bad Gateway", ""),
    };
    // Proxies describe their errors in HTML.
    let body = format!("<html><body><h1>{status} {reason}</h1></body></html>");
    let length = body.len();
    write!(
        client,
        "HTTP/1.1 {status} {reason}\r\n{header}Content-Type: text/html\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    )?;
    client.shutdown(Shutdown::Write)
}
