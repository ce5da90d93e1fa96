//! What `integrations/` gives people to paste, run by the real programs as it stands.

mod curl;
mod docker;
mod git;
mod http;
mod kubectl;
mod kubernetes;
mod oidc_provider;
mod python;
mod run_ai_api;
