//! The person at the terminal: questions and answers, apart from the standard streams, which belong to the protocols.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

/// The terminal that controls this process.
pub struct Terminal {
    reader: BufReader<File>,
    writer: File,
}

impl Terminal {
    /// Opens it; `None` where nobody sits at one.
    pub fn open() -> Option<Terminal> {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let writer = tty.try_clone().ok()?;
        Some(Terminal { reader: BufReader::new(tty), writer })
    }

    /// Shows a text, which is several lines or the beginning of one.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn show(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    /// Asks a question; the answer comes without its white space on either side.
    ///
    /// # Errors
    /// Those of the terminal; `UnexpectedEof` if it was closed (Ctrl-D).
    pub fn ask(&mut self, question: &str) -> io::Result<String> {
        self.show(question)?;
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    /// Asks for something that must not be seen, without echo.
    ///
    /// # Errors
    /// As for [`Terminal::ask`].
    pub fn ask_secret(&mut self, question: &str) -> io::Result<String> {
        self.show(question)?;
        rpassword::read_password()
    }
}
