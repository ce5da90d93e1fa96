//! What the linker is told, so that a start costs little.
//!
//! The unwinder of gcc is linked statically where that is possible: `libgcc_s.so` would be one more library to find, map and
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
    if compilers_own("libgcc_eh.a").is_some() {
        println!("cargo:rustc-link-lib=static:-bundle=gcc_eh");
    }
    // Relative relocations, thousands since libdbus and its cryptography are linked, in their packed form (DT_RELR), which is
    // quicker to apply. glibc understands it from 2.36 on and says so by this symbol; the program then needs such a glibc.
    let libc = compilers_own("libc.so.6").and_then(|path| std::fs::read(path).ok()).unwrap_or_default();
    if libc.windows(PACKED.len()).any(|window| window == PACKED) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version that glibc gives to programs with packed relocations.
const PACKED: &[u8] = b"GLIBC_ABI_DT_RELR";

/// Where the C compiler has a library of its own target.
fn compilers_own(name: &str) -> Option<std::path::PathBuf> {
    let found = std::process::Command::new("cc").arg(format!("-print-file-name={name}")).output().ok()?;
    // Only a path in full was found; otherwise the name comes back.
    let path = std::path::PathBuf::from(String::from_utf8(found.stdout).ok()?.trim_end());
    path.is_absolute().then_some(path)
}
