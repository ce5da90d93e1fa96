//! Tests of the module `issuer`: real requests over real TLS, and every failure on the way.

#![allow(clippy::disallowed_methods, reason = "the rule of clippy.toml is for src/: tests have a clock and variables")]

mod apis;
mod faults;
mod real;
mod refusals;
mod retries;
mod seed;
