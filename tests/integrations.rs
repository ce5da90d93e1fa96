//! Runs the text that `integrations/` gives people to paste, unchanged and with the real programs.

mod curl;
mod docker;
mod git;
mod http;
mod kubectl;
mod kubernetes;
mod oidc_provider;
mod python;
mod run_ai_api;
