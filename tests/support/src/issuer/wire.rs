//! The common parts of the test servers: a listener that stops completely, and enough HTTP/1.1 to read one request.
//!
//! Routes and answers are in `issuer/mod.rs`.

use std::any::Any;
use std::collections::HashMap;
use std::io::{self, Read};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::Value;

/// A TCP server with one thread for each connection. Its stop wakes and joins all of them.
pub struct Listener {
    address: SocketAddr,
    floor: Arc<Floor>,
    acceptor: Option<JoinHandle<()>>,
}

/// The shared state of one listener's connections, which tells them when to stop.
pub struct Floor {
    stopped: Mutex<bool>,
    stop_signal: Condvar,
    /// The stop shuts these sockets down, so that a thread in a blocked read or write returns.
    open: Mutex<HashMap<usize, Arc<TcpStream>>>,
    accepted: AtomicUsize,
    panics: Mutex<Vec<String>>,
}

impl Listener {
    pub fn start(name: &str, serve: impl Fn(&TcpStream, &Floor) + Send + Sync + 'static) -> Listener {
        raise_file_limit();
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("bind a loopback port");
        let address = listener.local_addr().expect("address of a bound socket");
        let floor = Arc::new(Floor {
            stopped: Mutex::new(false),
            stop_signal: Condvar::new(),
            open: Mutex::default(),
            accepted: AtomicUsize::new(0),
            panics: Mutex::default(),
        });
        let acceptor = {
            let floor = Arc::clone(&floor);
            let serve = Arc::new(serve);
            let name = name.to_owned();
            spawn(&name.clone(), move || accept(&name, &listener, &floor, &serve))
        };
        Listener { address, floor, acceptor: Some(acceptor) }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Returns how many connections were accepted so far.
    pub fn accepted(&self) -> usize {
        self.floor.accepted.load(Ordering::SeqCst)
    }

    /// Ends the acceptor and every connection, waits for their threads, and returns the texts of their panics.
    pub fn stop(&mut self) -> Vec<String> {
        if let Some(acceptor) = self.acceptor.take() {
            *lock(&self.floor.stopped) = true;
            self.floor.stop_signal.notify_all();
            for stream in lock(&self.floor.open).values() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            // Only a connection wakes `accept`, and connecting may fail while the process has no free file descriptor.
            while !acceptor.is_finished() {
                let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(100));
                thread::sleep(Duration::from_millis(1));
            }
            let _ = acceptor.join();
        }
        std::mem::take(&mut *lock(&self.floor.panics))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Floor {
    pub fn stopped(&self) -> bool {
        *lock(&self.stopped)
    }

    /// Sleeps for this time, or until the stop.
    pub fn sleep(&self, duration: Duration) {
        let guard = lock(&self.stopped);
        drop(self.stop_signal.wait_timeout_while(guard, duration, |stopped| !*stopped));
    }

    pub fn wait_for_stop(&self) {
        let guard = lock(&self.stopped);
        drop(self.stop_signal.wait_while(guard, |stopped| !*stopped));
    }

    /// Registers a socket that the stop shuts down, until the guard is dropped.
    pub fn adopt(&self, stream: &Arc<TcpStream>) -> Adopted<'_> {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&self.open).insert(id, Arc::clone(stream));
        // The stop may have read the list before the socket was in it.
        if self.stopped() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        Adopted { floor: self, id }
    }
}

/// Keeps a socket in the list of those that the stop shuts down.
pub struct Adopted<'a> {
    floor: &'a Floor,
    id: usize,
}

impl Drop for Adopted<'_> {
    fn drop(&mut self) {
        lock(&self.floor.open).remove(&self.id);
    }
}

fn accept<S>(name: &str, listener: &TcpListener, floor: &Arc<Floor>, serve: &Arc<S>)
where
    S: Fn(&TcpStream, &Floor) + Send + Sync + 'static,
{
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    loop {
        let accepted = listener.accept();
        if floor.stopped() {
            break;
        }
        connections.retain(|thread| !thread.is_finished());
        let Ok((stream, _)) = accepted else {
            // Probably no file descriptor is free. Connections that end will free some.
            floor.sleep(Duration::from_millis(10));
            continue;
        };
        floor.accepted.fetch_add(1, Ordering::SeqCst);
        let floor = Arc::clone(floor);
        let serve = Arc::clone(serve);
        connections.push(spawn(name, move || {
            let stream = Arc::new(stream);
            let _adopted = floor.adopt(&stream);
            let _ = stream.set_nodelay(true);
            // A failed assertion in a test's script must fail that test and not only end a thread.
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| serve(&stream, &floor))) {
                lock(&floor.panics).push(panic_text(&*panic));
            }
        }));
    }
    for thread in connections {
        let _ = thread.join();
    }
}

/// A request as it was received.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// The text after the `?`, or nothing.
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    /// When its last byte had been read.
    pub arrived: Instant,
}

impl Request {
    /// Reads one request. `None`: the peer closed the connection without a byte, as a port probe does.
    pub fn read(from: &mut impl Read) -> io::Result<Option<Request>> {
        const HEAD_LIMIT: usize = 64 * 1024;
        const BODY_LIMIT: usize = 64 * 1024 * 1024;

        let mut received = Vec::new();
        let mut chunk = [0; 4096];
        let head_end = loop {
            if let Some(at) = received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at;
            }
            if received.len() > HEAD_LIMIT {
                return Err(io::Error::other("the request's head is too long"));
            }
            match from.read(&mut chunk)? {
                0 if received.is_empty() => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => received.extend_from_slice(&chunk[..n]),
            }
        };
        let head = String::from_utf8_lossy(&received[..head_end]).into_owned();
        let mut lines = head.split("\r\n");
        let mut words = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target), Some("HTTP/1.1" | "HTTP/1.0")) = (words.next(), words.next(), words.next())
        else {
            return Err(io::Error::other(format!("not a request line: {head:?}")));
        };
        let headers = lines
            .map(|line| match line.split_once(':') {
                Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
                None => Err(io::Error::other(format!("not a header: {line:?}"))),
            })
            .collect::<io::Result<Vec<_>>>()?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut request = Request {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            headers,
            body: received.split_off(head_end + 4),
            arrived: Instant::now(),
        };
        match request.header("transfer-encoding") {
            None => {}
            Some("chunked") => {
                request.body = read_chunks(std::mem::take(&mut request.body), from, BODY_LIMIT)?;
                request.arrived = Instant::now();
                return Ok(Some(request));
            }
            Some(other) => return Err(io::Error::other(format!("transfer-encoding: {other}"))),
        }
        let length = match request.header("content-length").map(str::parse::<usize>) {
            None => 0,
            Some(Ok(length)) if length <= BODY_LIMIT => length,
            Some(other) => return Err(io::Error::other(format!("content-length: {other:?}"))),
        };
        while request.body.len() < length {
            match from.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => request.body.extend_from_slice(&chunk[..n]),
            }
        }
        request.arrived = Instant::now();
        Ok(Some(request))
    }

    /// Returns the first header of this name, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Returns the body read as a form, in the order sent, duplicates included.
    pub fn form(&self) -> Vec<(String, String)> {
        form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// Returns the first value of a form parameter.
    pub fn field(&self, name: &str) -> Option<String> {
        self.form().into_iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// Returns the body read as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("body is not JSON: {error}: {:?}", String::from_utf8_lossy(&self.body)))
    }
}

/// Reads a body in chunks (RFC 9112 §7.1) whose beginning is in `received`. It ignores trailers.
fn read_chunks(mut received: Vec<u8>, from: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    let mut piece = [0; 16 * 1024];
    let mut more = |received: &mut Vec<u8>| match from.read(&mut piece)? {
        0 => Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        n => {
            received.extend_from_slice(&piece[..n]);
            Ok(())
        }
    };
    loop {
        let end = loop {
            if let Some(at) = received.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            more(&mut received)?;
        };
        let size = String::from_utf8_lossy(&received[..end]).into_owned();
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).map_err(io::Error::other)?;
        received.drain(..end + 2);
        if body.len() + size > most {
            return Err(io::Error::other("the request's body is too long"));
        }
        while received.len() < size + 2 {
            more(&mut received)?;
        }
        body.extend(received.drain(..size + 2).take(size));
        if size == 0 {
            return Ok(body);
        }
    }
}

/// Locks a mutex even after a panic in another thread: the test should report that panic and not a poisoned lock.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread with a small stack, because a test may start a thousand. A handshake of a debug build fits.
pub fn spawn<T: Send + 'static>(name: &str, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let thread = thread::Builder::new().name(name.to_owned()).stack_size(512 * 1024);
    thread.spawn(work).expect("start a thread")
}

/// Raises the limit of open files: 500 processes and their connections need more than the usual 1024.
pub fn raise_file_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum;
        // If the system refuses, the test itself reports the missing descriptors.
        let _ = setrlimit(Resource::Nofile, limit);
    });
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}
