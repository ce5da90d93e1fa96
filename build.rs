//! Links the unwinder of gcc statically where that is possible: `libgcc_s.so` would be one more library to find, map and
//! relocate at each start, for functions that are never called (the release profile aborts on panic).

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "the rules of clippy.toml are for src/")]

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let host = std::env::var("HOST").unwrap_or_default();
    if target.contains("-linux-") {
        // libdbus, which only a keyring needs, imports eighty functions: they are looked up when they are called, and not at
        // each start. (Rust's own imports do not go through the table that this leaves writable.)
        println!("cargo:rustc-link-arg-bins=-Wl,-z,lazy");
    }
    // Only where the C compiler at hand is the target's own and has the library; elsewhere the default is right.
    if target != host || !target.ends_with("-linux-gnu") {
        return;
    }
    let found = std::process::Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    if found.is_ok_and(|found| found.stdout.starts_with(b"/")) {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
}
