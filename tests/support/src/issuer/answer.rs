//! The answers of the issuer to a request, correct HTTP and faulty HTTP.

use std::io::{self, Write};
use std::time::Duration;

use serde_json::{Value, json};

use super::wire::Floor;

/// The answer to one request.
#[derive(Clone, Debug)]
pub struct Answer {
    kind: Kind,
    headers: Vec<(String, String)>,
    wait: Duration,
    pace: Option<Duration>,
}

#[derive(Clone, Debug)]
enum Kind {
    Http { status: u16, body: Vec<u8> },
    Grant,
    Raw(Vec<u8>),
    Cut(Vec<u8>),
    EndlessBody,
    EndlessHeaders,
    Hang,
    Close,
}

/// Answers in correct HTTP.
impl Answer {
    /// The behaviour without a script: a token for the right client, else a refusal.
    pub fn grant() -> Answer {
        Answer::of(Kind::Grant)
    }

    pub fn json(status: u16, body: Value) -> Answer {
        Answer::text(status, "application/json", &body.to_string())
    }

    pub fn text(status: u16, content_type: &str, body: &str) -> Answer {
        Answer::bytes(status, content_type, body)
    }

    pub fn bytes(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(Kind::Http { status, body: body.into() }).header("Content-Type", content_type)
    }

    /// An error of RFC 6749 §5.2: `error` and `error_description`.
    pub fn oauth_error(status: u16, error: &str, description: &str) -> Answer {
        Answer::json(status, json!({"error": error, "error_description": description}))
    }

    /// An error of the Run:ai API: `code` and `message`.
    pub fn runai_error(status: u16, message: &str) -> Answer {
        Answer::json(status, json!({"code": status, "message": message}))
    }

    pub fn redirect(status: u16, location: &str) -> Answer {
        Answer::text(status, "text/plain", "").header("Location", location)
    }

    /// Adds a header. It has no effect for [`Answer::raw`] and for the faults without a head.
    pub fn header(mut self, name: &str, value: &str) -> Answer {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Delays this answer.
    pub fn after(mut self, wait: Duration) -> Answer {
        self.wait = wait;
        self
    }

    /// Sends this answer one byte at a time (slow loris).
    pub fn paced(mut self, every: Duration) -> Answer {
        self.pace = Some(every);
        self
    }
}

/// Faults.
impl Answer {
    /// Sends these bytes unchanged: a whole answer with its status line, or no HTTP at all.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Answer {
        Answer::of(Kind::Raw(bytes.into()))
    }

    /// Like [`Answer::raw`], one byte at a time.
    pub fn drip(bytes: impl Into<Vec<u8>>, every: Duration) -> Answer {
        Answer::raw(bytes).paced(every)
    }

    /// Sends nothing until the issuer is dropped.
    pub fn hang() -> Answer {
        Answer::of(Kind::Hang)
    }

    /// Closes the connection without an answer.
    pub fn close() -> Answer {
        Answer::of(Kind::Close)
    }

    /// Sends a body that ends before the length in its head.
    pub fn cut(body: impl Into<Vec<u8>>) -> Answer {
        Answer::of(Kind::Cut(body.into())).header("Content-Type", "application/json")
    }

    /// Sends a 200 with an endless chunked body that begins like a grant.
    pub fn endless_body(content_type: &str) -> Answer {
        Answer::of(Kind::EndlessBody).header("Content-Type", content_type)
    }

    /// Sends a 200 with endless headers.
    pub fn endless_headers() -> Answer {
        Answer::of(Kind::EndlessHeaders)
    }

    fn of(kind: Kind) -> Answer {
        Answer { kind, headers: Vec::new(), wait: Duration::ZERO, pace: None }
    }
}

/// How the server leaves a connection after its answer.
pub enum Ended {
    Politely,
    /// Without TLS's `close_notify`.
    Abruptly,
}

/// Writing an answer.
impl Answer {
    /// Writes the answer. `default` returns the answer for [`Answer::grant`].
    pub fn write(mut self, to: &mut impl Write, floor: &Floor, default: impl FnOnce() -> Answer) -> io::Result<Ended> {
        floor.sleep(self.wait);
        if let Kind::Grant = self.kind {
            let default = default();
            self.kind = default.kind;
            self.headers.extend(default.headers);
        }
        match &self.kind {
            Kind::Http { status, body } => {
                let mut bytes = self.head(*status, Some(body.len()));
                bytes.extend_from_slice(body);
                self.send(to, floor, &bytes)?;
            }
            Kind::Raw(bytes) => self.send(to, floor, bytes)?,
            Kind::Cut(body) => {
                let mut bytes = self.head(200, Some(body.len() + 1000));
                bytes.extend_from_slice(body);
                self.send(to, floor, &bytes)?;
            }
            Kind::EndlessBody => {
                self.send(to, floor, &self.head(200, None))?;
                self.send(to, floor, b"11\r\n{\"access_token\":\"\r\n")?;
                let chunk = format!("4000\r\n{}\r\n", "a".repeat(0x4000));
                self.send_until_hung_up(to, floor, chunk.as_bytes())?;
            }
            Kind::EndlessHeaders => {
                self.send(to, floor, b"HTTP/1.1 200 OK\r\n")?;
                let header = format!("X-Filler: {}\r\n", "a".repeat(1000));
                self.send_until_hung_up(to, floor, header.as_bytes())?;
            }
            Kind::Hang => {
                floor.wait_for_stop();
                return Ok(Ended::Abruptly);
            }
            // If the default is `Grant` again, the server also sends nothing.
            Kind::Close | Kind::Grant => return Ok(Ended::Abruptly),
        }
        Ok(Ended::Politely)
    }

    /// Returns status line and headers. Without a length, the body comes in chunks.
    fn head(&self, status: u16, length: Option<usize>) -> Vec<u8> {
        let framing = match length {
            Some(length) => format!("Content-Length: {length}"),
            None => "Transfer-Encoding: chunked".to_owned(),
        };
        let reason = reason(status);
        let mut head =
            format!("HTTP/1.1 {status} {reason}\r\nConnection: close\r\nCache-Control: no-store\r\n{framing}\r\n");
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        head.into_bytes()
    }

    fn send(&self, to: &mut impl Write, floor: &Floor, bytes: &[u8]) -> io::Result<()> {
        let Some(pace) = self.pace else {
            to.write_all(bytes)?;
            return to.flush();
        };
        for byte in bytes {
            to.write_all(&[*byte])?;
            to.flush()?;
            floor.sleep(pace);
        }
        Ok(())
    }

    fn send_until_hung_up(&self, to: &mut impl Write, floor: &Floor, bytes: &[u8]) -> io::Result<()> {
        while !floor.stopped() {
            self.send(to, floor, bytes)?;
        }
        Ok(())
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Status",
    }
}
