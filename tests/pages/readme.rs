//! Runs the commands and configurations that the README shows, and checks the texts that it repeats.

#![allow(clippy::disallowed_methods, reason = "the rule of clippy.toml is for src/: tests have a clock and variables")]

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use support::*;

fn readme() -> String {
    page("README.md")
}

fn page(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the fenced blocks of a page in this language, in order.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Returns the `sh` block that contains `words`.
fn shell(words: &str) -> String {
    let found = blocks(&readme(), "sh").into_iter().find(|block| block.contains(words));
    found.unwrap_or_else(|| panic!("the README has no shell block with {words:?}"))
}

/// Returns a JSON block of a page with the URL, secret and CA of this issuer and home.
fn fitted(block: &str, home: &Home, issuer: &Issuer) -> Value {
    let mut config: Value = serde_json::from_str(block).expect("the block is JSON");
    let usual = home.keycloak(issuer);
    let profile = &mut config["profiles"]["prod"];
    assert_eq!(
        (&profile["realm"], &profile["client_id"]),
        (&REALM.into(), &CLIENT_ID.into()),
        "the tests' issuer knows these"
    );
    for key in ["url", "client_secret", "ca_file"] {
        profile[key] = usual["profiles"][PROFILE][key].clone();
    }
    config
}

/// `cargo demo` prints the output that the README shows.
///
/// The static build leaves this test out: cargo builds the demonstration for the machine's own target, whatever the
/// target of the tests.
#[test]
#[cfg(not(target_env = "musl"))]
fn demonstration_prints_the_readme_output() {
    assert_eq!(shell("demo").trim(), "cargo demo");
    let mut command = Command::new(env!("CARGO"));
    command.arg("demo").stdin(Stdio::null()).current_dir(env!("CARGO_MANIFEST_DIR")).env_clear();
    // The variables that cargo sets for a test would make build scripts run again.
    let is_kept = |name: &str| {
        ["HOME", "PATH", "CARGO_HOME", "CARGO_TARGET_DIR", "TMPDIR"].contains(&name) || name.starts_with("RUSTUP_")
    };
    command.envs(std::env::vars().filter(|(name, _)| is_kept(name)));
    // The command has no time limit: on a new machine cargo compiles first.
    let output = command.output().expect("run cargo");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
    let shown = blocks(&readme(), "console").into_iter().next().expect("a block that shows the demonstration");
    // The README has an ellipsis for each part that differs between runs.
    for line in shown.lines() {
        let mut rest = &*stdout;
        for part in line.split('…') {
            rest = rest.split_once(part).unwrap_or_else(|| panic!("{part:?} of {line:?} is not in\n{stdout}")).1;
        }
    }
}

/// The README's configuration gets a token.
#[test]
fn readme_configuration_gets_a_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let block = blocks(&readme(), "json").into_iter().next().expect("a configuration");
    home.config(&fitted(&block, &home, &issuer));
    home.run(["token"]).code(0).silent().stdout_is(format!("{}\n", issuer.last_token()));
}

/// The README's shell lines write the secret to a file with mode 0600.
#[test]
fn readme_secret_lines_make_private_file() {
    let home = Home::new();
    let mut command = Command::new("sh");
    command.args(["-euc", &shell("umask 077")]).env_clear().env("HOME", home.path()).env("PATH", "/usr/bin:/bin");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed(format!("{CLIENT_SECRET}\n").into());
    running.finish().code(0).silent();
    let (path, mode) =
        home.files().into_iter().find(|(path, _)| path.ends_with("ci-pipeline.secret")).expect("the file");
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(std::fs::read_to_string(home.path().join(path)).expect("the file"), format!("{CLIENT_SECRET}\n"));
}

/// The configuration of docs/configuration.md gets a token.
#[test]
fn reference_page_configuration_gets_a_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let block = blocks(&page("docs/configuration.md"), "json").into_iter().next().expect("a configuration");
    home.config(&fitted(&block, &home, &issuer));
    home.run(["token"]).code(0).silent();
}

/// The README's environment variables are enough for a call.
#[test]
fn readme_variables_get_a_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    let script = shell("RUNAI_CLIENT_ID").replace("https://app.run.ai", issuer.url());
    let program = Path::new(env!("CARGO_BIN_EXE_runai-credential"));
    let mut command = Command::new("sh");
    command.args(["-euc", &script]).env_clear();
    command.env("PATH", format!("{}:/usr/bin:/bin", program.parent().expect("a folder").display()));
    command.env("HOME", home.path()).env("RUNAI_CA_FILE", home.path().join("ca.pem"));
    // The README says: from the CI's secret store.
    command.env("RUNAI_CLIENT_SECRET", CLIENT_SECRET);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command).finish().code(0).silent().stdout_is(format!("{}\n", issuer.last_token()));
}

/// The README's curl line sends the token to the Run:ai API.
#[test]
fn readme_curl_line_sends_the_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    let script = shell("curl -H @-").replace("https://app.run.ai", issuer.url());
    let program = Path::new(env!("CARGO_BIN_EXE_runai-credential"));
    let mut command = Command::new("sh");
    // Only the private CA is added: a user of app.run.ai does not need it.
    command.args(["-euc", &script.replace("curl ", "curl --silent --cacert \"$CA\" ")]);
    for (name, value) in home.command(["token"]).get_envs().filter_map(|(name, value)| Some((name, value?))) {
        command.env(name, value);
    }
    command.env("PATH", format!("{}:/usr/bin:/bin", program.parent().expect("a folder").display()));
    command.env("CA", home.path().join("ca.pem")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(&mut command).finish().code(0).silent();
    let requests = issuer.requests();
    let seen = requests.iter().find(|request| request.path == "/api/v1/clusters").expect("curl's request");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", issuer.last_token()).as_str()));
}

/// The README's `exec` line sends the token to the Run:ai API.
#[test]
fn readme_exec_line_sends_the_token() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    home.install("runai-credential");
    home.write(".curlrc", "silent\ncacert = ../ca.pem\n", 0o600);
    let script = shell("runai-credential exec").replace("https://app.run.ai", issuer.url());
    Running::start(&mut home.tool("sh", ["-euc", &script])).finish().code(0).silent();
    let requests = issuer.requests();
    let seen = requests.iter().find(|request| request.path == "/api/v1/clusters").expect("curl's request");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {}", issuer.last_token()).as_str()));
    let help = home.run(["exec", "--help"]).code(0).stdout.clone();
    assert!(help.contains("--env") && readme().contains("| `--env NAME` |"));
}

/// The program prints the two messages that the README shows.
#[test]
fn readme_messages_equal_program_output() {
    let (issuer, home) = (Issuer::start(), Home::new());
    let config = home.keycloak(&issuer);
    let block = blocks(&readme(), "json").into_iter().next().expect("a configuration");
    let path = home.write(home.config_file(), block.replace("\"realm\"", "\"relm\""), 0o600);
    let shown = blocks(&readme(), "console").into_iter().find(|block| block.contains("relm")).expect("the message");
    let wanted = shown
        .replace("$ runai-credential token\n", "")
        .replace("/home/me/.config/runai-credential/config.json", &path.display().to_string());
    home.run(["token"]).code(3).stderr_is(wanted);

    home.config(&config);
    home.write("secret", "wrong", 0o600);
    let shown =
        blocks(&readme(), "console").into_iter().find(|block| block.contains("refused client")).expect("the message");
    let secret = home.path().join("secret").display().to_string();
    home.run(["token"])
        .code(4)
        .stderr_is(shown.replace("/home/me/.config/runai-credential/ci-pipeline.secret", &secret));
}

/// The README's lines for kubectl and git equal the files in `integrations/`.
#[test]
fn readme_kubeconfig_user_equals_integration() {
    let yaml = blocks(&readme(), "yaml").into_iter().next().expect("a kubeconfig user");
    let normal = |text: &str| {
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let pasted = normal(&page("integrations/kubectl/kubeconfig-v1.yaml"));
    assert!(
        blocks(&readme(), "ini").contains(&page("integrations/git/gitconfig")),
        "the README's lines for git are those of integrations/git/gitconfig"
    );
    for line in normal(&yaml).lines() {
        assert!(pasted.contains(line), "integrations/kubectl/kubeconfig-v1.yaml has no line {line:?}");
    }
}

/// The README's lines for docker equal the files in `integrations/`.
#[test]
fn readme_docker_lines_equal_integration() {
    let pasted = page("integrations/docker/config.json");
    assert!(blocks(&readme(), "json").contains(&pasted), "integrations/docker/config.json");
    // The tests of the integration run both blocks of that page.
    assert!(page("integrations/docker/README.md").contains(shell("ln -s").trim()));
}

/// The README lists the options of `token`, all exit codes, and the commands that CI runs.
#[test]
fn readme_options_and_codes_equal_program() {
    let help = Home::new().run(["token", "--help"]).code(0).stdout.clone();
    let readme = readme();
    for option in ["--format", "--min-validity", "--refresh", "--rejected-stdin", "--url", "--bearer", "-n"] {
        assert!(help.contains(option) && readme.contains(option), "{option}");
    }
    // A unit test of `Error::exit_code` checks the codes themselves.
    let table = readme.split("| exit | meaning |").nth(1).expect("a table of exit codes");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let codes: Vec<u8> = rows.filter_map(|row| row.split('|').nth(1)?.trim().parse().ok()).collect();
    assert_eq!(codes, [0, 1, 2, 3, 4, 5, 6, 7, 74]);
    assert_eq!(shell("tests/run").trim(), "tests/run");
    assert!(page(".ci/run").lines().any(|line| line == "tests/run"), ".ci/run runs the README's test command");
    assert!(page(".ci/run").contains(shell("cargo install").trim()), ".ci/run runs the README's install command");
}

/// The README's three commands and the options of its table exist. `setup::three_commands_make_kubectl_work` runs the
/// commands, with the answers as options.
#[test]
fn readme_commands_have_their_options() {
    let commands: Vec<String> = shell("runai-credential login")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim().to_owned())
        .collect();
    assert_eq!(commands, ["runai-credential login", "runai-credential setup kubectl", "kubectl get pods"]);
    let readme = readme();
    for (command, options) in [
        ("login", &["--url", "--realm", "--client-id", "--host", "--secret-stdin", "--secret-file", "--store"][..]),
        ("setup", &["--print", "--undo", "kubectl", "git", "docker"]),
        ("status", &["--format"]),
        ("doctor", &["--format"]),
        ("logout", &[]),
    ] {
        let help = Home::new().run([command, "--help"]).code(0).stdout.clone();
        for option in options {
            assert!(help.contains(option) && readme.contains(option), "{command} {option}");
        }
    }
    let formats = Home::new().run(["token", "--help"]).code(0).stdout.clone();
    for format in ["json", "header", "curl", "env", "github-actions"] {
        assert!(formats.contains(format) && readme.contains(&format!("--format {format}`")), "{format}");
    }
}

/// Returns the Markdown pages of the repository, by path from its root.
fn pages() -> Vec<String> {
    fn visit(root: &Path, folder: &Path, pages: &mut Vec<String>) {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder").flatten() {
            let path = folder.join(entry.file_name());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                visit(root, &path, pages);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.display().to_string());
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let top = std::fs::read_dir(root).expect("the root").flatten().map(|entry| entry.path());
    let top = top.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let mut pages: Vec<String> =
        top.filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned())).collect();
    for folder in [".github", "docs", "integrations", "tests/real"] {
        visit(root, Path::new(folder), &mut pages);
    }
    pages
}

/// Each page or file that a page links to exists.
#[test]
fn page_links_lead_to_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = pages();
    for known in ["README.md", "SECURITY.md", "docs/decisions/README.md", "integrations/git/README.md"] {
        assert!(pages.iter().any(|page| page == known), "{known} is not among {pages:?}");
    }
    for name in pages {
        let folder = root.join(&name).parent().expect("a folder").to_owned();
        for link in page(&name).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            assert!(link.starts_with("https://") || folder.join(file).exists(), "{name} links to {link}");
        }
    }
}

/// The index of decisions lists each page, and each page has the four headings.
#[test]
fn every_decision_is_in_the_index() {
    let index = page("docs/decisions/README.md");
    let decisions = pages().into_iter().filter_map(|path| path.strip_prefix("docs/decisions/").map(str::to_owned));
    for decision in decisions.filter(|name| name != "README.md") {
        assert!(index.contains(&format!("]({decision})")), "docs/decisions/README.md has no row for {decision}");
        let text = page(&format!("docs/decisions/{decision}"));
        for heading in ["Context", "Decision", "Consequence", "Measurement"] {
            assert!(text.contains(&format!("\n## {heading}\n")), "{decision} has no {heading}");
        }
    }
}

/// The justfile has each recipe that CONTRIBUTING.md names.
#[test]
fn contributing_names_the_recipes_of_the_justfile() {
    let (contributing, justfile) = (page("CONTRIBUTING.md"), page("justfile"));
    let named: Vec<&str> =
        contributing.split("`just ").skip(1).filter_map(|rest| rest.split(['`', ' ']).next()).collect();
    assert!(named.len() > 5, "{named:?}");
    for name in named {
        let is_recipe = |line: &str| line.split([' ', ':']).next() == Some(name) && line.contains(':');
        assert!(justfile.lines().any(is_recipe), "the justfile has no recipe {name}");
    }
}
