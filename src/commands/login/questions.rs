//! The values that `login` needs. Each is checked by the rules of the configuration.

use serde_json::{Value, json};

use super::{Login, SecretInput};
use crate::config::ConfigFile;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::host::Terminal;
use crate::os::files::{self, Trust};
use crate::profile::{Draft, remedy};
use crate::secret::{MAX_SECRET, Secret};

/// Collects the values that `login` needs.
///
/// They come from the command line, the existing profile, or the user at the terminal.
pub struct Questions<'a> {
    /// The command line.
    pub login: &'a Login,
    /// The configuration before `login`.
    pub file: &'a ConfigFile,
    /// The name of the profile.
    pub profile: &'a str,
    /// The machine.
    pub host: &'a dyn Host,
}

impl Questions<'_> {
    /// Returns the string values of the profile, each checked by itself.
    ///
    /// Asks the user for missing ones.
    ///
    /// # Errors
    /// [`Kind::Usage`] for a wrong option, or if the user cannot be asked.
    pub fn texts(&self, terminal: &mut Option<Box<dyn Terminal>>) -> Result<Vec<(&'static str, String)>> {
        let mut texts = Vec::new();
        for (key, value) in &self.login.texts {
            check(key, value)?;
            texts.push((*key, value.clone()));
        }
        let has = |texts: &[(&str, String)], key: &str| {
            texts.iter().any(|(known, _)| *known == key) || self.file.value(self.profile, key).is_some()
        };
        let is_oauth2 = has(&texts, "token_url");
        let is_new = !has(&texts, "url") && !is_oauth2;
        let questions = [
            ("url", is_new, "Company URL (the address of Run:ai in the browser, such as https://app.run.ai): "),
            (
                "realm",
                is_new && !has(&texts, "realm") && !has(&texts, "api"),
                "Realm (Settings > General > Researcher Authentication; Enter if there is none): ",
            ),
            (
                "client_id",
                !has(&texts, "client_id"),
                "Application name (Settings > Applications; newer versions: Access > Service accounts).\n\
                 It needs an access rule: Researcher (L1 or L2) for kubectl and the Researcher API, Administrator for the \
                 Administrator API.\nName or client id: ",
            ),
        ];
        for (key, is_asked, question) in questions {
            if !is_asked {
                continue;
            }
            loop {
                let answer = self.terminal_for(terminal, key)?.ask(question).map_err(|error| unanswered(&error))?;
                if answer.is_empty() && key == "realm" {
                    break;
                }
                match check(key, &answer) {
                    Ok(()) => {
                        texts.push((key, answer));
                        break;
                    }
                    Err(error) => {
                        let again = format!("{}; {}\n", error.what, error.hint);
                        self.terminal_for(terminal, key)?.show(&again).map_err(|error| unanswered(&error))?;
                    }
                }
            }
        }
        // Values of the existing profile stay, so that the token request tests the whole profile.
        for key in ["realm", "api", "token_url"] {
            if let Some(Value::String(value)) = self.file.value(self.profile, key).filter(|_| !has_text(&texts, key)) {
                texts.push((key, value));
            }
        }
        Ok(texts)
    }

    /// Returns the hosts of the existing profile and of `--host`, or `None` without `--host`.
    pub fn hosts(&self) -> Result<Option<Vec<Value>>> {
        if self.login.hosts.is_empty() {
            return Ok(None);
        }
        let mut hosts = match self.file.value(self.profile, "hosts") {
            Some(Value::Array(hosts)) => hosts,
            _ => Vec::new(),
        };
        for host in &self.login.hosts {
            Draft::default()
                .host(host)
                .map_err(|fault| Error::new(Kind::Usage, format!("--host {host} {}", fault.what), remedy(fault.key)))?;
            let host = json!(host);
            if !hosts.contains(&host) {
                hosts.push(host);
            }
        }
        Ok(Some(hosts))
    }

    /// Reads the secret from the place that the command line names.
    pub fn secret(&self, terminal: &mut Option<Box<dyn Terminal>>) -> Result<Secret> {
        let hint = "give the application's secret alone, on one line of printable ASCII, at most 8 KiB";
        let (bytes, from) = match &self.login.secret {
            SecretInput::Stdin => {
                let bytes = self.host.read_stdin(MAX_SECRET + 3).map_err(|error| {
                    Error::config(
                        format!("the secret on standard input cannot be read: {error}"),
                        "pipe it in, or leave out --secret-stdin to be asked for it",
                    )
                })?;
                (bytes, "on standard input")
            }
            SecretInput::File(path) => {
                let bytes = files::read(path, Trust::NotWritableByAll, MAX_SECRET as u64 + 2);
                let bytes = bytes.map_err(|error| {
                    Error::config(
                        format!("the secret cannot be read from {}: {error}", path.display()),
                        "name a file that holds it on one line",
                    )
                })?;
                (bytes, "in the file")
            }
            SecretInput::Prompt => {
                let answer = self
                    .terminal_for(terminal, "client_secret")?
                    .ask_secret("Secret (shown once when the application was made; what you type is not shown): ")
                    .map_err(|error| unanswered(&error))?;
                (answer.into_bytes(), "that was typed")
            }
        };
        Secret::new(&bytes, MAX_SECRET).map_err(|fault| Error::config(format!("the secret {from} {fault}"), hint))
    }

    /// Returns the terminal, to ask the user for `key`.
    ///
    /// # Errors
    /// [`Kind::Usage`] if there is no terminal.
    fn terminal_for<'t>(&self, terminal: &'t mut Option<Box<dyn Terminal>>, key: &str) -> Result<&'t mut dyn Terminal> {
        if terminal.is_none() {
            *terminal = self.host.terminal();
        }
        let option = match key {
            "client_secret" => "--secret-stdin or --secret-file".to_owned(),
            key => format!("--{}", key.replace('_', "-")),
        };
        terminal.as_deref_mut().map(|terminal| terminal as &mut dyn Terminal).ok_or_else(|| {
            Error::new(
                Kind::Usage,
                format!("login needs to know the {}, and there is no terminal to ask at", key.replace('_', " ")),
                format!("give {option}"),
            )
        })
    }
}

fn has_text(texts: &[(&str, String)], key: &str) -> bool {
    texts.iter().any(|(known, _)| *known == key)
}

/// Checks one value by the rules of the configuration.
fn check(key: &'static str, value: &str) -> Result<()> {
    Draft::default().text(key, value.into()).map_err(|fault| {
        let shown = if value.contains('@') { String::new() } else { format!(" {value:?}") };
        Error::new(Kind::Usage, format!("--{}{shown} {}", key.replace('_', "-"), fault.what), remedy(fault.key))
    })
}

fn unanswered(error: &std::io::Error) -> Error {
    Error::new(
        Kind::Usage,
        format!("the question was not answered: {error}"),
        "start again, or give the answers as options (runai-credential login --help)",
    )
}
