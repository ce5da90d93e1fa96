//! Runs each line of the pages for HTTP tools: curl, the shells, HTTPie and xh, GitHub Actions, GitLab CI, Bazel.
//!
//! The real tools run the unchanged lines against a site that requires a token. The site also looks for the token in
//! the arguments of all processes.

use std::collections::HashSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use support::*;

/// The part of the lines that users replace.
const URL: &str = "https://app.run.ai";

fn page(path: &str) -> String {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("integrations").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the blocks of a page in this language.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// An API, and a home in which the tools find the program, their configuration and the API's authority.
struct Api {
    issuer: Issuer,
    site: Site,
    home: Home,
    /// Tokens that the API refuses.
    revoked: Arc<Mutex<HashSet<String>>>,
    /// Tokens that were in the arguments of a process during a request.
    exposed: Arc<Mutex<Vec<String>>>,
}

impl Api {
    fn start() -> Api {
        let issuer = Issuer::start();
        let (revoked, exposed) = (Arc::new(Mutex::new(HashSet::new())), Arc::new(Mutex::new(Vec::new())));
        let site = {
            let (control, revoked, exposed) = ((*issuer).clone(), Arc::clone(&revoked), Arc::clone(&exposed));
            Site::start(move |request| {
                let issued = control.issued();
                exposed.lock().expect("no panic").extend(in_arguments(&issued));
                let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
                let is_good = token.is_some_and(|token| {
                    issued.iter().any(|one| one == token)
                        && !["all", token].iter().any(|one| revoked.lock().expect("no panic").contains(*one))
                });
                match is_good {
                    true => Answer::json(200, json!({"clusters": ["acme"], "path": request.path})),
                    false => Answer::json(401, json!({"error": "unauthorized"})),
                }
            })
        };
        let home = Home::new();
        home.keycloak_with(&issuer, json!({"hosts": [site.url()]}));
        home.install("runai-credential");
        home.write(".curlrc", format!("cacert = {}\n", home.path().join("ca.pem").display()), 0o600);
        Api { issuer, site, home, revoked, exposed }
    }

    /// Returns lines of a page for this API.
    fn fitted(&self, lines: &str) -> String {
        assert!(lines.contains(URL), "{URL} in:\n{lines}");
        lines.replace(URL, &self.site.url())
    }

    /// Returns a command in the home. It trusts the API and finds the tools that `tests/real/setup` installs.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Command {
        let mut command = self.home.tool(program, args);
        let ca = self.home.path().join("ca.pem");
        command.env("REQUESTS_CA_BUNDLE", &ca).env("SSL_CERT_FILE", &ca).env("CURL_CA_BUNDLE", &ca);
        let tools = clients_dir().join("python");
        let path = format!("{}:{}:/usr/bin:/bin", self.home.path().join("bin").display(), tools.join("bin").display());
        command.env("PATH", path).env("PYTHONPATH", tools);
        command
    }

    #[track_caller]
    fn run(&self, shell: &str, lines: &str) -> Outcome {
        let options: &[&str] = if shell == "bash" { &["-euo", "pipefail", "-c"] } else { &["-c"] };
        Running::start(&mut self.command(require(shell).expect("a shell"), &[options, &[lines]].concat())).finish()
    }

    fn revoke(&self) {
        self.revoked.lock().expect("no panic").insert(self.issuer.last_token());
    }

    /// Asserts that no token was in an argument, and that only the cache has one in a file.
    #[track_caller]
    fn nothing_leaked(&self) {
        assert!(!self.site.authorizations().is_empty(), "the API got no request with a token");
        let exposed = self.exposed.lock().expect("no panic");
        assert!(exposed.is_empty(), "in the list of processes: {exposed:?}");
        for token in self.issuer.issued() {
            let files = self.home.grep(&token);
            assert!(files.iter().all(|file| file.starts_with("cache/runai-credential")), "a token is in {files:?}");
        }
    }
}

/// Returns the tokens that are in the arguments of a process.
fn in_arguments(tokens: &[String]) -> Vec<String> {
    let processes = fs::read_dir("/proc").expect("/proc").flatten();
    let lines: Vec<Vec<u8>> = processes.filter_map(|process| fs::read(process.path().join("cmdline")).ok()).collect();
    let is_in = |token: &String, line: &Vec<u8>| line.windows(token.len()).any(|window| window == token.as_bytes());
    tokens.iter().filter(|token| lines.iter().any(|line| is_in(token, line))).cloned().collect()
}

/// The search of the process list finds a token in an argument: the other tests depend on that.
#[test]
fn token_in_process_argument_is_noticed() {
    let token = "canary-in-an-argument-of-sleep";
    let mut sleep =
        Command::new("sh").args(["-c", "read line", token]).stdin(std::process::Stdio::piped()).spawn().expect("sh");
    let seen = (0..500).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        !in_arguments(&[token.to_owned()]).is_empty()
    });
    drop(sleep.stdin.take());
    sleep.wait().expect("its end");
    assert!(seen);
}

/// The lines of the curl page send the token, with one token request, and not to a host that the profile does not list.
#[test]
fn curl_lines_of_page_send_token() {
    let api = Api::start();
    let blocks = blocks(&page("curl/README.md"), "sh");
    assert_eq!(blocks.len(), 4);
    for block in &blocks {
        api.run("bash", &api.fitted(block)).code(0).silent().stdout_has("\"clusters\"");
    }
    // A host that the profile does not list gets no token.
    let foreign = blocks[3].replace(URL, &api.site.other_url());
    let before = api.site.authorizations().len();
    api.run("bash", &foreign).code(22).stderr_has("there is no token for");
    assert_eq!(api.site.authorizations().len(), before);
    assert_eq!(api.issuer.token_requests(), 1);
    api.nothing_leaked();
}

/// The shell functions send the token, replace a token that the API refuses, and show curl's errors.
#[test]
fn shell_functions_replace_a_refused_token() {
    let call = blocks(&page("shell/README.md"), "sh").remove(0);
    for (shell, functions) in [("bash", "shell/runai.sh"), ("zsh", "shell/runai.sh"), ("fish", "shell/runai.fish")] {
        let Some(_) = require(shell) else { continue };
        let api = Api::start();
        let lines = |trace: &str, call: &str| format!("{}\n{trace}\n{call}", page(functions));
        let call = api.fitted(&call);
        api.run(shell, &lines("", &call)).code(0).silent().stdout_has("\"clusters\"");
        // The API refuses the token. The same call succeeds, with one more token request.
        api.revoke();
        api.run(shell, &lines("", &call)).code(0).silent().stdout_has("\"clusters\"");
        assert_eq!(api.issuer.token_requests(), 2, "{shell}");
        // A trace of the shell does not show the token.
        if shell != "fish" {
            let traced = api.run(shell, &lines("set -x", &call));
            traced.code(0).stdout_has("\"clusters\"").stderr_has("runai_curl");
            assert!(!traced.stderr.contains(&api.issuer.last_token()), "{traced}");
        }
        // If the API refuses two tokens, the function fails as curl does and shows the answer.
        api.revoked.lock().expect("no panic").insert("all".to_owned());
        let refused = api.run(shell, &lines("", &call));
        refused.code(22).stdout_has("unauthorized").stderr_has("HTTP 401");
        let foreign = call.replace(&api.site.url(), &format!("{}/nowhere", refused_url()));
        let unreachable = api.run(shell, &lines("", &foreign));
        assert!(unreachable.code != Some(0), "{unreachable}");
        api.nothing_leaked();
    }
}

/// The page's `eval` line sets the variable to the token.
#[test]
fn shell_variable_gets_the_token() {
    let api = Api::start();
    let eval = blocks(&page("shell/README.md"), "sh").remove(1);
    let outcome = api.run("bash", &format!("{eval}\nsh -c 'printf %s \"$RUNAI_TOKEN\"'"));
    outcome.code(0).silent().stdout_is(api.issuer.last_token());
}

/// The lines of the HTTPie page send the token, with HTTPie and with xh.
#[test]
fn httpie_and_xh_lines_send_token() {
    if !clients_dir().join("python/bin/xh").exists() {
        return lack("xh and HTTPie, which tests/real/setup installs");
    }
    let blocks = blocks(&page("httpie/README.md"), "sh");
    assert_eq!(blocks.len(), 2);
    for (block, verify) in blocks.iter().zip(["", "--verify=$SSL_CERT_FILE "]) {
        let api = Api::start();
        // xh needs an option for the private CA here; a user does not.
        let line = api.fitted(block).replace("--check-status ", &format!("--check-status {verify}"));
        api.run("bash", &line).code(0).silent().stdout_has("\"clusters\"");
        assert_eq!(api.site.authorizations().len(), 1);
        api.nothing_leaked();
    }
}

/// The workflow masks the token and uses it in a later step. The log shows neither the token nor the secret.
#[test]
fn github_workflow_masks_and_uses_token() {
    let act = clients_dir().join("python/bin/act");
    if !act.exists() {
        return lack("act, which tests/real/setup installs");
    }
    let api = Api::start();
    let workflow = page("github-actions/runai.yml");
    // The page shows one step of the tested file.
    for block in blocks(&page("github-actions/README.md"), "yaml") {
        assert!(workflow.contains(&block), "{block}");
    }
    // The workflow sets the profile's variables. The test adds the private CA.
    let fitted = workflow.replacen("RUNAI_URL: https://app.run.ai", &format!("RUNAI_URL: {}", api.issuer.url()), 1);
    let ca = api.home.path().join("ca.pem").display().to_string();
    let fitted =
        fitted.replacen("    env:\n", &format!("    env:\n      RUNAI_CA_FILE: {ca}\n      CURL_CA_BUNDLE: {ca}\n"), 1);
    let fitted = fitted.replace("\"$RUNAI_URL/", &format!("\"{}/", api.site.url()));
    fs::remove_file(api.home.config_file()).expect("no configuration: the environment is all there is");
    api.home.write("work/.github/workflows/runai.yml", fitted, 0o600);
    let secrets = api.home.write("secrets", format!("RUNAI_CLIENT_SECRET={CLIENT_SECRET}\n"), 0o600);
    let secrets = secrets.display().to_string();
    for args in [
        &["init", "-q"][..],
        &["add", "-A"],
        &["-c", "user.name=a", "-c", "user.email=a@b.c", "commit", "-q", "-m", "x"],
    ] {
        Running::start(&mut api.command("git", args)).finish().code(0);
    }
    let outcome = Running::start(
        &mut api.command(&act, &["push", "-P", "ubuntu-latest=-self-hosted", "--secret-file", &secrets]),
    )
    .finish();
    outcome.code(0).stdout_has("Job succeeded").stdout_has("/api/v1/org-unit/projects");
    let token = api.issuer.last_token();
    for text in [&outcome.stdout, &outcome.stderr] {
        assert!(!text.contains(&token) && !text.contains(CLIENT_SECRET), "the log of the job shows it\n{outcome}");
    }
    assert!(outcome.stdout.contains("***"), "the mask came through\n{outcome}");
    assert_eq!((api.issuer.token_requests(), api.site.authorizations().len()), (1, 2));
    assert!(api.exposed.lock().expect("no panic").is_empty());
}

/// The job of the GitLab page calls the API with the token, does not print it, and caches it beside the project.
#[test]
fn gitlab_job_does_not_print_token() {
    let api = Api::start();
    let job = page("gitlab-ci/.gitlab-ci.yml");
    let lines = |section: &str| -> Vec<String> {
        let rest = job.split(&format!("  {section}:\n")).nth(1).expect("a section").lines();
        rest.take_while(|line| line.starts_with("    ")).map(|line| line.trim().to_owned()).collect()
    };
    let script: Vec<String> =
        lines("script").iter().map(|line| line.strip_prefix("- ").expect("an item").to_owned()).collect();
    fs::remove_file(api.home.config_file()).expect("no configuration: the environment is all there is");
    // The runner joins the lines to one script.
    let mut command = api.command(
        "bash",
        &["-eo", "pipefail", "-c", &script.join("\n").replace("\"$RUNAI_URL/", &format!("\"{}/", api.site.url()))],
    );
    let project = api.home.path().join("work");
    for line in lines("variables") {
        let (name, value) = line.split_once(": ").expect("a variable");
        let value = value.replace(URL, api.issuer.url()).replace("$CI_PROJECT_DIR", &project.display().to_string());
        command.env(name, value);
    }
    let secret = api.home.path().join("secret");
    command.env("RUNAI_CLIENT_SECRET_FILE", secret).env("RUNAI_CA_FILE", api.home.path().join("ca.pem"));
    let outcome = Running::start(&mut command).finish();
    outcome.code(0).silent().stdout_has("\"clusters\"");
    assert!(!outcome.stdout.contains(&api.issuer.last_token()), "{outcome}");
    assert!(api.home.path().join("work.tmp/runai-credential").is_dir(), "the cache is beside the project");
    assert!(api.exposed.lock().expect("no panic").is_empty());
}

/// `get` answers requests of Bazel's schema with answers of Bazel's schema, and refuses an unlisted host.
#[test]
fn bazel_answers_match_the_schema() {
    let api = Api::start();
    let readme = page("bazel/README.md");
    assert!(readme.contains(&page("bazel/bazelrc")), "the page shows the file");
    let schema =
        |name: &str| jsonschema::validator_for(&serde_json::from_str(&page(name)).expect("JSON")).expect("a schema");
    let (requests, answers) = (schema("bazel/request.schema.json"), schema("bazel/response.schema.json"));

    let line = blocks(&readme, "sh").remove(0).replace("https://cache.acme.example", &api.site.url());
    let answer = api.run("bash", &line);
    let answer = answer.code(0).silent().json();
    assert!(answers.is_valid(&answer), "{answer}");
    assert_eq!(answer["headers"]["Authorization"], json!([format!("Bearer {}", api.issuer.last_token())]));
    // A request of a later protocol version has more keys.
    for (request, code) in [
        (json!({"uri": format!("{}/x", api.site.url()), "later": {"a": [1]}}), 0),
        (json!({"uri": "https://foreign.example/x"}), 6),
    ] {
        assert!(requests.is_valid(&request));
        let outcome = api.home.run_fed(["get"], request.to_string());
        outcome.code(code);
        assert_eq!(
            code == 0,
            serde_json::from_str::<Value>(&outcome.stdout).is_ok_and(|answer| answers.is_valid(&answer))
        );
    }
    for wrong in
        [json!({"headers": {"Authorization": "Bearer x"}}), json!({"headers": {"Authorization": [1]}}), json!([])]
    {
        assert!(!answers.is_valid(&wrong), "the schema can refuse: {wrong}");
    }
}
