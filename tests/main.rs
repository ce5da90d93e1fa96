//! The integration tests: the real program, run against real servers on loopback as its users and their tools run it.
//!
//! Folders mirror `src/`, with a real client beside the helper that it judges (`real.rs`). Further folders and files:
//!
//! - `pages`: the README and the pages of `integrations/`, executed as they stand.
//! - `architecture`, `install`, `snapshots`: the source tree, what packagers call, what people read.
//! - `hit`, `leaks`, `faults`: promises about the whole program.
//! - `support`: the crate that the tests stand on. `real`: servers and clients of other projects. `cases`, `snapshots`: data.

mod architecture;
mod broker;
mod commands;
mod config;
mod faults;
mod helpers;
mod hit;
mod http;
mod install;
mod issuer;
mod leaks;
mod pages;
mod secret;
mod snapshots;
