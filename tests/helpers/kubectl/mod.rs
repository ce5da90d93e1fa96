//! `kubectl`: the protocol has its golden cases in `src/helpers/kubectl/wire.rs`; here real clients judge it.

mod jobs;
mod real;
