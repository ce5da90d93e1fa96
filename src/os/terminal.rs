//! The terminal of the user: questions and answers. It is separate from the standard streams, which carry the
//! protocols.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, tcgetattr, tcsetattr};

use crate::host::Terminal;

/// The terminal that controls this process.
pub struct ControllingTerminal {
    reader: BufReader<File>,
    writer: File,
}

impl ControllingTerminal {
    /// Opens the terminal; `None` if this process has none.
    pub fn open() -> Option<ControllingTerminal> {
        let tty = File::options().read(true).write(true).open("/dev/tty").ok()?;
        let writer = tty.try_clone().ok()?;
        Some(ControllingTerminal { reader: BufReader::new(tty), writer })
    }
}

impl Terminal for ControllingTerminal {
    fn show(&mut self, text: &str) -> io::Result<()> {
        self.writer.write_all(text.as_bytes())
    }

    fn ask(&mut self, question: &str) -> io::Result<String> {
        self.show(question)?;
        let mut line = Vec::new();
        let end = loop {
            // Reads byte by byte to the end of the line. In `ask_secret` the terminal also ends a line at
            // Ctrl-C.
            let piece = self.reader.fill_buf()?;
            let Some(byte) = piece.first().copied() else { break None };
            self.reader.consume(1);
            line.push(byte);
            if matches!(byte, b'\n' | CTRL_C) {
                break Some(byte);
            }
        };
        let line = String::from_utf8_lossy(&line);
        match (end, line.len()) {
            (None, 0) => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line.trim().to_owned()),
        }
    }

    /// Turns the echo off before it shows the question, because the user may type at once.
    ///
    /// Ctrl-C ends the line and not the process, so that the echo is restored.
    fn ask_secret(&mut self, question: &str) -> io::Result<String> {
        let before = tcgetattr(&self.writer)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO | LocalModes::ISIG);
        silent.local_modes.insert(LocalModes::ECHONL);
        silent.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        tcsetattr(&self.writer, OptionalActions::Now, &silent)?;
        let answer = self.ask(question);
        tcsetattr(&self.writer, OptionalActions::Now, &before)?;
        match answer? {
            answer if answer.bytes().any(|byte| byte == CTRL_C) => Err(io::ErrorKind::Interrupted.into()),
            answer => Ok(answer),
        }
    }
}

/// The byte that a terminal sends for Ctrl-C.
const CTRL_C: u8 = 3;
