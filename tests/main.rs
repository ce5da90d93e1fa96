//! The integration tests: the real program, as its users and their tools run it, against real servers on loopback.
//! Folders mirror `src/`; `support` is what they stand on; `real/` holds servers and clients that nobody here wrote.

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
