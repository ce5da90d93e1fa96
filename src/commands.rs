//! The commands that people and their scripts call.

pub mod token;
