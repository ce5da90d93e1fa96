//! Tests of the parts for packagers and `make`: completions, man pages, installation and removal.

use std::path::Path;
use std::process::{Command, Stdio};

use support::*;

fn make(home: &Home, target: &str) {
    let mut command = home.tool("make", ["--no-print-directory", "-s", "-C", env!("CARGO_MANIFEST_DIR"), target]);
    command.arg(format!("BIN={}", env!("CARGO_BIN_EXE_runai-credential")));
    command.arg(format!("DESTDIR={}", home.path().join("root").display()));
    Running::start(&mut command).finish().code(0).silent();
}

/// `make install` installs programs and man pages below a prefix. `make uninstall` removes them and leaves other files.
#[test]
fn uninstall_removes_all_installed_files() {
    let home = Home::new();
    let root = home.path().join("root/usr/local");
    let theirs = home.write("root/usr/local/bin/theirs", "", 0o755);
    make(&home, "install");
    for name in ["runai-credential", "git-credential-runai", "docker-credential-runai", "kubectl-runai_credential"] {
        let help = Running::start(&mut home.tool(root.join("bin").join(name), ["--help"])).finish();
        help.code(0);
    }
    let listed = home.run(["--help"]).code(0).stdout.clone();
    let commands = listed.split("Commands:").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("commands");
    for command in commands.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        assert!(root.join(format!("share/man/man1/runai-credential-{command}.1")).is_file(), "a page for {command}");
    }
    make(&home, "uninstall");
    let left: Vec<_> = home.files().into_keys().filter(|path| path.starts_with("root")).collect();
    assert_eq!(left, [theirs.strip_prefix(home.path()).expect("below")]);
}

/// groff accepts the man pages without a warning.
#[test]
fn man_pages_pass_groff_without_warnings() {
    let home = Home::new();
    for page in ["", "token", "login", "setup", "docker", "git", "exec", "doctor", "get"] {
        let page = home.run(["man", page].into_iter().filter(|arg| !arg.is_empty())).code(0).stdout.clone();
        let mut groff = home.tool("groff", ["-man", "-ww", "-Tascii"]);
        groff.stdin(Stdio::piped());
        let mut running = Running::start(&mut groff);
        running.feed(page.into_bytes());
        running.finish().code(0).silent().stdout_has("runai-credential");
    }
}

/// bash completes an option with the generated script.
#[test]
fn bash_completes_an_option_name() {
    let home = Home::new();
    home.install("runai-credential");
    let script = "source <(runai-credential completions bash); COMP_WORDS=(runai-credential token --form); COMP_CWORD=2; \
                  _runai-credential runai-credential --form token; echo \"${COMPREPLY[*]}\"";
    let mut bash = home.tool("bash", ["--norc", "-c", script]);
    Running::start(&mut bash).finish().code(0).silent().stdout_is("--format\n");
}

/// The package that `.ci/run` builds with the release program has the same files as `make install`.
#[test]
fn debian_package_has_installed_files() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/debian");
    let package = std::fs::read_dir(folder).ok().and_then(|mut found| {
        found.find_map(|entry| Some(entry.ok()?.path()).filter(|path| path.extension().is_some_and(|end| end == "deb")))
    });
    let Some(package) = package else { return lack("the Debian package, which make package builds") };
    let home = Home::new();
    let unpacked = Command::new("dpkg-deb").arg("-x").arg(&package).arg(home.path().join("root")).status();
    assert!(unpacked.expect("run dpkg-deb").success());
    for name in ["runai-credential", "git-credential-runai", "docker-credential-runai"] {
        let program = home.path().join("root/usr/bin").join(name);
        Running::start(&mut home.tool(program, ["--help"])).finish().code(0);
    }
    for file in [
        "man/man1/runai-credential.1.gz",
        "man/man1/runai-credential-token.1.gz",
        "zsh/vendor-completions/_runai-credential",
    ] {
        assert!(home.path().join("root/usr/share").join(file).is_file(), "{file}");
    }
}
