//! Integration tests: they run the real program as users and tools run it, against real servers on loopback.
//!
//! The folders mirror `src/`. The crate `support` has the servers and home directories. `real/` has third-party servers
//! and clients.

mod architecture;
mod broker;
mod config;
mod docker;
mod doctor;
mod exec;
mod faults;
mod formats;
mod get;
mod hit;

mod install;
mod integrations;
mod issuer;
mod leaks;
mod login;
mod origins;
mod readme;
mod refresh;
mod secrets;
mod setup;
mod snapshots;
mod terraform;
