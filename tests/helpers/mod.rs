//! The helpers that tools call, each with its real client where there is one.

mod docker;
mod engflow;
mod git;
mod kubectl;
mod origins;
mod terraform;
