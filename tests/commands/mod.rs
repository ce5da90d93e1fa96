//! The commands that people and their scripts call.

mod doctor;
mod exec;
mod login;
mod setup;
mod token;
