//! The protocols of the tools that call: bytes and variables in, bytes out. Pure: no cache, no HTTP, no files.

pub mod docker;
pub mod engflow;
pub mod git;
pub mod kubectl;
