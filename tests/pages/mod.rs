//! The README and the pages of `integrations/` that no single helper owns, executed as they stand.

mod curl;
mod http;
mod python;
mod readme;
mod run_ai_api;
