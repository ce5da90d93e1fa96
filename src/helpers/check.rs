//! The vocabulary of a diagnosis: what `doctor` runs, and what the helpers add to it.

use serde::Serialize;

use crate::error::{Error, printable};
use crate::host::Host;

/// Longest text of a step in characters.
const MAX_TEXT: usize = 800;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing is wrong.
    Ok,
    /// Something is not as it should be, but a call would succeed.
    Warning,
    /// A call would fail.
    Failed,
    /// It could not be looked at, or is not in use.
    Skipped,
}

/// One step of a call.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Its name, stable for scripts.
    pub step: &'static str,
    /// Its result.
    pub outcome: Outcome,
    /// What was found.
    pub what: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// How long the step took.
    pub milliseconds: u64,
    /// The exit status of a call that fails at this step, else 0.
    #[serde(skip)]
    pub exit: u8,
}

/// The result of a step, before the step has a name and a time.
pub struct Finding {
    outcome: Outcome,
    what: String,
    remedy: Option<String>,
    exit: u8,
}

impl Finding {
    /// Nothing is wrong.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Ok, what: what.into(), remedy: None, exit: 0 }
    }

    /// It could not be looked at, or is not in use.
    pub fn skipped(what: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Skipped, ..Finding::ok(what) }
    }

    /// A call would succeed all the same.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Warning, remedy: Some(remedy.into()), ..Finding::ok(what) }
    }

    /// A call would fail as for a wrong configuration.
    pub fn failed(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        let exit = Error::config("", "").exit_code();
        Finding { outcome: Outcome::Failed, remedy: Some(remedy.into()), exit, ..Finding::ok(what) }
    }
}

impl From<Error> for Finding {
    fn from(error: Error) -> Finding {
        let exit = error.exit_code();
        Finding { outcome: Outcome::Failed, what: error.what, remedy: Some(error.hint), exit }
    }
}

/// The steps so far.
pub struct Report<'a> {
    /// The machine that is looked at.
    pub host: &'a dyn Host,
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether a Kubernetes client gets its token from this program, so that an API server judges the audience of the token.
    pub has_kubernetes_client: bool,
    /// When the step that is under way began, in milliseconds since boot.
    since: i64,
}

impl<'a> Report<'a> {
    /// A report without steps. The first step begins now.
    pub fn new(host: &'a dyn Host) -> Report<'a> {
        Report { host, steps: Vec::new(), has_kubernetes_client: false, since: host.now().boot_ms }
    }

    /// Ends the step that is under way, and begins the next one.
    pub fn add(&mut self, step: &'static str, finding: impl Into<Finding>) {
        let Finding { outcome, what, remedy, exit } = finding.into();
        let now = self.host.now().boot_ms;
        let milliseconds = u64::try_from(now - self.since).unwrap_or_default();
        self.since = now;
        // Names in a kubeconfig and words of other programs may hold anything.
        let (what, remedy) = (printable(&what, MAX_TEXT), remedy.map(|remedy| printable(&remedy, MAX_TEXT)));
        self.steps.push(Step { step, outcome, what, remedy, milliseconds, exit });
    }
}
