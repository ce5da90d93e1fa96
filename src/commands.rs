//! The commands that people and their scripts call.

pub mod doctor;
pub mod exec;
pub mod login;
pub mod setup;
pub mod status;
pub mod token;
