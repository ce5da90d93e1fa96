//! Servers, home directories and clients for the tests, the benchmarks and the demonstration. This crate asserts
//! nothing about the program itself.
//!
//! - [`pki`]: a private certificate authority, and valid and invalid certificates.
//! - [`issuer`]: a control plane with real HTTPS. It checks requests, signs tokens, counts, and fails on request.
//! - [`network`]: proxies, silent servers, unreachable addresses, closed ports.
//! - [`home`]: a fresh home directory, and the program run in it.
//! - [`machine`]: the program's library in the test's own process, with a clock that the test can move.
//! - [`site`]: an HTTPS server that requires a token, with answers that the test writes.
//! - [`git`]: a git server behind such a site, and the gits of this machine.
//! - [`registry`]: an image registry that requires a token, or the token of a token server.
//! - [`session`]: a message bus with a real keyring, and a person at a terminal.
//! - [`servers`]: third-party servers and clients.
//!
//! The servers are threads on loopback and end when their value is dropped.

#![allow(clippy::disallowed_methods, reason = "the rule of clippy.toml is for src/: tests have a clock and variables")]
#![allow(clippy::new_without_default, reason = "a home or a server is made on purpose, never as a default")]

use std::path::{Path, PathBuf};

pub mod git;
pub mod home;
pub mod issuer;
pub mod machine;
pub mod network;
pub mod pki;
pub mod registry;
pub mod servers;
pub mod session;
pub mod site;

pub use git::GitServer;
pub use home::{Home, LINK_LOOP, Outcome, PROFILE, Running, process_ends};
pub use issuer::{Answer, CLIENT_ASSERTION, CLIENT_ID, CLIENT_SECRET, Control, Issuer, Options, REALM, Request};
pub use machine::Machine;
pub use network::{BlackHole, Connect, Mute, Proxy, refused_url};
pub use pki::{Pki, ServerCert};
pub use registry::{Daemon, Registry, guarded_registry, token_server, write_image};
pub use servers::{NodeServer, client, clients_dir, https_get, https_post, lack, python_path, require};
pub use session::Session;
pub use site::Site;

/// Returns the program that cargo has built beside the running test, benchmark or demonstration.
pub fn program() -> PathBuf {
    let own = std::env::current_exe().expect("the path of this process");
    let folder = own.parent().expect("a folder");
    // target/PROFILE/deps/it-0123 and target/PROFILE/demo: the program is target/PROFILE/runai-credential.
    let folder = if folder.ends_with("deps") { folder.parent().expect("a folder") } else { folder };
    folder.join("runai-credential")
}

/// Returns the root of the repository.
pub fn root() -> &'static Path {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    root.expect("the workspace is two folders above this crate")
}
