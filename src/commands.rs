//! The commands that people and their scripts call.

pub mod exec;
pub mod token;
