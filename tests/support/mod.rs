//! What the tests stand on. Nothing in here asserts anything about the program itself.
//!
//! - [`pki`]: a private certificate authority, and certificates good and bad.
//! - [`issuer`]: a control plane over real HTTPS that checks, signs, counts, and misbehaves when
//!   told to. It and `pki` know nothing of the other rooms: `examples/demo.rs` uses them too.
//! - [`network`]: proxies, mute servers, black holes, closed ports.
//! - [`home`]: a fresh home directory, and the program run in it.
//! - [`site`]: an HTTPS server that wants a token, with answers of the test's own.
//! - [`git`]: a git server behind such a site.
//! - [`registry`]: a registry for images, and who has to show a token where.
//! - [`servers`]: servers and clients that nobody here wrote.
//!
//! Threads only, loopback only, and everything ends when its value is dropped.

#![allow(dead_code, unused_imports, reason = "a toolbox: the tests of one day do not need all of it")]
#![allow(clippy::disallowed_methods, reason = "the rule of clippy.toml is for src/: tests have a clock and variables")]

pub(crate) mod git;
pub(crate) mod home;
pub(crate) mod issuer;
pub(crate) mod machine;
pub(crate) mod network;
pub(crate) mod pki;
pub(crate) mod registry;
pub(crate) mod servers;
pub(crate) mod site;

pub(crate) use git::GitServer;
pub(crate) use home::{Home, LINK_LOOP, Outcome, PROFILE, Running, process_ends};
pub(crate) use issuer::{Answer, CLIENT_ASSERTION, CLIENT_ID, CLIENT_SECRET, Control, Issuer, Options, REALM, Request};
pub(crate) use machine::Machine;
pub(crate) use network::{BlackHole, Connect, Mute, Proxy, refused_url};
pub(crate) use pki::{Pki, ServerCert};
pub(crate) use registry::{Daemon, Registry, guarded_registry, token_server, write_image};
pub(crate) use servers::{NodeServer, client, clients_dir, https_get, https_post, lack, require};
pub(crate) use site::Site;
