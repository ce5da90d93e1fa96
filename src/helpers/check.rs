//! The vocabulary of a diagnosis: the steps that `doctor` runs, and the steps that the helpers add.

use serde::Serialize;

use crate::error::{Error, printable};
use crate::host::Host;

/// Maximum length of a text in a step, in characters.
const MAX_TEXT: usize = 800;

/// The result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Nothing is wrong.
    Ok,
    /// There is a fault, but a call would succeed.
    Warning,
    /// A call would fail.
    Failed,
    /// The step could not be checked, or its tool is not in use.
    Skipped,
}

/// One step of a diagnosis.
#[derive(Debug, Serialize)]
pub struct Step {
    /// Name of the step. It does not change, because scripts use it.
    pub step: &'static str,
    /// Its result.
    pub outcome: Outcome,
    /// What the step found.
    pub what: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// Duration of the step.
    pub milliseconds: u64,
    /// Exit status of a call that fails at this step; 0 if the call would not fail.
    #[serde(skip)]
    pub exit: u8,
}

/// The result of a step, before [`Report::add`] gives it a name and a duration.
pub struct Finding {
    outcome: Outcome,
    what: String,
    remedy: Option<String>,
    exit: u8,
}

impl Finding {
    /// Returns a finding without a fault.
    pub fn ok(what: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Ok, what: what.into(), remedy: None, exit: 0 }
    }

    /// Returns a finding for a step that could not be checked, or whose tool is not in use.
    pub fn skipped(what: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Skipped, ..Finding::ok(what) }
    }

    /// Returns a fault with which a call would succeed.
    pub fn warning(what: impl Into<String>, remedy: impl Into<String>) -> Finding {
        Finding { outcome: Outcome::Warning, remedy: Some(remedy.into()), ..Finding::ok(what) }
    }

    /// Returns a fault with which a call would fail, with the exit status of a wrong configuration.
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

/// The steps of a diagnosis so far.
pub struct Report<'a> {
    /// The machine under diagnosis.
    pub host: &'a dyn Host,
    /// The steps.
    pub steps: Vec<Step>,
    /// Whether a Kubernetes client gets its token from this program. Then an API server checks the audience.
    pub has_kubernetes_client: bool,
    /// Start of the current step, in milliseconds since boot.
    since: i64,
}

impl<'a> Report<'a> {
    /// Returns a report without steps. The first step starts now.
    pub fn new(host: &'a dyn Host) -> Report<'a> {
        Report { host, steps: Vec::new(), has_kubernetes_client: false, since: host.now().boot_ms }
    }

    /// Ends the current step with `finding`, and starts the next one.
    pub fn add(&mut self, step: &'static str, finding: impl Into<Finding>) {
        let Finding { outcome, what, remedy, exit } = finding.into();
        let now = self.host.now().boot_ms;
        let milliseconds = u64::try_from(now - self.since).unwrap_or_default();
        self.since = now;
        // Names in a kubeconfig and the output of other programs may hold control characters.
        let (what, remedy) = (printable(&what, MAX_TEXT), remedy.map(|remedy| printable(&remedy, MAX_TEXT)));
        self.steps.push(Step { step, outcome, what, remedy, milliseconds, exit });
    }
}
