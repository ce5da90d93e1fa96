//! Runs the scripts of `integrations/run-ai-api/` unchanged, with the real curl, jq and Python.
//!
//! The API answers as Run:ai's public documentation says, and checks the role of each application.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use support::*;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integrations/run-ai-api");
const README: &str = include_str!("../../integrations/run-ai-api/README.md");
const CONFIG: &str = include_str!("../../integrations/run-ai-api/config.json");

/// The part of the scripts that users replace.
const URL: &str = "https://acme.run.ai";

/// The applications of the page.
const RESEARCHER: &str = "research-jobs";
const ADMINISTRATOR: &str = "administration";

/// The behaviour of the API.
#[derive(Clone, Copy)]
struct Rules {
    /// The API refuses a token after this many requests.
    requests_a_token: usize,
    /// The training ends after this many status requests.
    looks: usize,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules { requests_a_token: usize::MAX, looks: 2 }
    }
}

struct Api {
    issuer: Issuer,
    site: Site,
    home: Home,
    packages: String,
}

/// The state of the API: requests for each token, and status requests for the training.
#[derive(Default)]
struct Seen {
    uses: HashMap<String, usize>,
    looks: usize,
}

impl Api {
    /// Starts an API. `None`: a tool is not installed.
    #[track_caller]
    fn start(rules: Rules) -> Option<Api> {
        for tool in ["bash", "curl", "jq"] {
            require(tool)?;
        }
        let packages = python_path()?;
        let issuer = Issuer::start();
        // Any client gets a token, which states the client.
        issuer.script(|request, issuer| {
            let client = request.field("client_id").unwrap_or_default();
            let token = issuer.mint(json!({"azp": client}));
            let claims = claims(&token);
            let lifetime = claims["exp"].as_u64().zip(claims["iat"].as_u64()).map(|(exp, iat)| exp - iat);
            Answer::json(200, json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime}))
        });
        let site = {
            let (issued, seen) = ((*issuer).clone(), Mutex::new(Seen::default()));
            Site::start(move |request| answer(request, &issued, rules, &seen))
        };

        let home = Home::new();
        home.install("runai-credential");
        let usual = home.keycloak(&issuer);
        let mut config: Value = serde_json::from_str(CONFIG).expect("JSON");
        for profile in config["profiles"].as_object_mut().expect("profiles").values_mut() {
            assert_eq!(profile["hosts"], json!([URL]));
            profile["hosts"] = json!([site.url()]);
            for key in ["url", "client_secret", "ca_file"] {
                profile[key] = usual["profiles"][PROFILE][key].clone();
            }
        }
        home.config(&config);
        let ca = home.write("api-ca.pem", Pki::shared().ca_pem(), 0o644);
        home.write(".curlrc", format!("silent\nshow-error\ncacert = {}\n", ca.display()), 0o600);
        Some(Api { issuer, site, home, packages })
    }

    /// Returns a shell block of the page as a command in the folder of the scripts.
    fn shell(&self, block: &str) -> Command {
        let mut command = self.home.tool("bash", ["-euo", "pipefail", "-c", &block.replace(URL, &self.site.url())]);
        let ca = self.home.path().join("api-ca.pem");
        command.current_dir(FOLDER).env("REQUESTS_CA_BUNDLE", &ca).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("PYTHONPATH", &self.packages);
        command.env("PAGE_SIZE", "2").env("POLL_SECONDS", "0.05");
        command
    }

    #[track_caller]
    fn run(&self, block: &str) -> Outcome {
        Running::start(&mut self.shell(block)).finish()
    }

    /// Returns how many requests came for this path, with any query.
    fn count(&self, path: &str) -> usize {
        self.site.requests().iter().filter(|request| request.path == path).count()
    }
}

fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).and_then(|payload| URL_SAFE_NO_PAD.decode(payload).ok()).unwrap_or_default();
    serde_json::from_slice(&payload).unwrap_or_default()
}

#[allow(clippy::disallowed_methods, reason = "the rule is for src/: a server of the tests has a clock")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs()
}

/// Checks the token, then the role, and then answers.
fn answer(request: &Request, issuer: &Control, rules: Rules, seen: &Mutex<Seen>) -> Answer {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let claims = claims(token);
    let mut seen = seen.lock().expect("no panic");
    let uses = seen.uses.entry(token.to_owned()).or_default();
    *uses += 1;
    // Both times are cut to whole seconds, so a token is accepted up to a second longer than stated, and never shorter.
    let is_dead = *uses > rules.requests_a_token || claims["exp"].as_u64().is_none_or(|exp| exp < now());
    if is_dead || !issuer.issued().iter().any(|issued| issued == token) {
        return Answer::runai_error(401, "Unauthorized");
    }
    let (path, query) = (request.path.as_str(), request.query.as_str());
    let role = claims["azp"].as_str().unwrap_or_default();
    let (allowed, answer) = match (request.method.as_str(), path) {
        ("GET", "/api/v1/clusters") => {
            (vec![ADMINISTRATOR], Answer::json(200, json!([{"uuid": "c-1", "tenantId": 1, "name": "main"}])))
        }
        ("GET", "/api/v1/service-accounts" | "/api/v1/apps") => {
            (vec![ADMINISTRATOR], Answer::json(200, json!([{"id": "7", "name": "jobs", "clientId": RESEARCHER}])))
        }
        ("GET", "/api/v1/org-unit/departments") => (vec![ADMINISTRATOR], page(query, "departments", &["default"])),
        ("GET", "/api/v1/org-unit/projects") => (
            vec![ADMINISTRATOR, RESEARCHER],
            page(query, "projects", &["team-c", "team-b", "team-d", "team-a", "team-e"]),
        ),
        ("GET", "/api/v1/workloads") => (vec![RESEARCHER], page(query, "workloads", &["job-0", "job-1", "job-2"])),
        ("POST", "/api/v1/workloads/trainings") => {
            let body = request.json();
            let project = format!("id of {}", "team-a");
            let wanted = json!({"name": body["name"], "projectId": project, "clusterId": "c-1",
                "spec": {"image": "runai.jfrog.io/demo/quickstart", "compute": {"gpuDevicesRequest": 1}}});
            match body == wanted && request.header("content-type") == Some("application/json") {
                true => (vec![RESEARCHER], Answer::json(202, json!({"name": body["name"], "workloadId": "w-1"}))),
                false => (vec![RESEARCHER], Answer::runai_error(400, "Bad submission request.")),
            }
        }
        ("GET", "/api/v1/workloads/trainings/w-1") => {
            seen.looks += 1;
            let phase = if seen.looks > rules.looks { "Completed" } else { "Running" };
            (vec![RESEARCHER], Answer::json(200, json!({"workloadId": "w-1", "actualPhase": phase})))
        }
        _ => (vec![role], Answer::runai_error(404, "The specified resource was not found")),
    };
    if allowed.contains(&role) { answer } else { Answer::runai_error(403, "Forbidden") }
}

/// Returns one page of items with these names, by `offset` and `limit`.
fn page(query: &str, name: &str, names: &[&str]) -> Answer {
    let parameter = |wanted: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.filter(|(key, _)| *key == wanted).find_map(|(_, value)| value.parse::<usize>().ok())
    };
    let (offset, limit) = (parameter("offset").unwrap_or(0), parameter("limit").unwrap_or(50));
    if !(1..=500).contains(&limit) {
        return Answer::runai_error(400, "limit");
    }
    let items = names.iter().skip(offset).take(limit);
    let items: Vec<Value> = items
        .map(|name| {
            json!({"name": name, "id": format!("id of {name}"), "clusterId": "c-1", "phase": "Running",
                "projectName": if *name == "job-0" { "team-b" } else { "team-a" }})
        })
        .collect();
    let mut answer = json!({name: items});
    if offset + limit < names.len() {
        answer["next"] = json!(offset + limit);
    }
    Answer::json(200, answer)
}

/// Returns the only shell block of the page that contains `words`.
fn block(words: &str) -> String {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = blocks.filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("the page has no shell block with {words:?}"));
    assert_eq!(found.next(), None, "{words:?} is in two blocks");
    block.to_owned()
}

const ADMINISTRATORS: [&str; 2] = ["./administrator.sh", "administrator.py"];
const RESEARCHERS: [&str; 2] = ["./researcher.sh", "researcher.py"];

/// The page's curl line prints the clusters.
#[test]
fn curl_line_of_page_prints_clusters() {
    let Some(api) = Api::start(Rules::default()) else { return };
    api.run(&block("curl -H @-")).code(0).silent().stdout_is(r#"[{"name":"main","tenantId":1,"uuid":"c-1"}]"#);
}

/// The administrator scripts print clusters, departments, projects and applications, and request all pages of a list.
#[test]
fn administrator_scripts_list_all_objects() {
    for piece in ADMINISTRATORS {
        let Some(api) = Api::start(Rules::default()) else { return };
        let projects: String =
            ["c", "b", "d", "a", "e"].map(|one| format!("project team-{one} id of team-{one}\n")).concat();
        let wanted =
            format!("cluster main c-1\ndepartment default id of default\n{projects}application jobs {RESEARCHER}\n");
        api.run(&block(piece)).code(0).silent().stdout_is(&wanted);
        assert_eq!(api.count("/api/v1/org-unit/projects"), 3, "{piece}: five projects in pages of two");
        assert_eq!(api.issuer.token_requests(), 1, "{piece}");
        let older = format!("export APPLICATIONS=/api/v1/apps\n{}", block(piece));
        api.run(&older).code(0).silent().stdout_is(&wanted);
        assert_eq!((api.count("/api/v1/service-accounts"), api.count("/api/v1/apps")), (1, 1), "{piece}");
    }
}

/// The researcher scripts submit a training and report an unknown project.
#[test]
fn researcher_scripts_submit_a_training() {
    for piece in RESEARCHERS {
        let Some(api) = Api::start(Rules::default()) else { return };
        let wanted = match piece {
            "./researcher.sh" => "submitted job-1 w-1\njob-1 Running\njob-2 Running\n",
            _ => "submitted job-2 w-1\nCompleted\n",
        };
        api.run(&block(piece)).code(0).silent().stdout_is(wanted);
        assert_eq!(api.issuer.token_requests(), 1, "{piece}");
        let unknown = block(piece).replace("team-a", "team-x");
        api.run(&unknown).code(1).stderr_is("there is no project team-x, or the application may not see it\n");
    }
}

/// The scripts print the page's message for a missing role and fetch no other token. After a 401 they fetch one other
/// token.
#[test]
fn scripts_distinguish_missing_role_from_refusal() {
    let console = README.split("```console\n").nth(1).and_then(|rest| rest.lines().nth(1)).expect("a message");
    for piece in ADMINISTRATORS {
        let Some(api) = Api::start(Rules::default()) else { return };
        let block = block(piece).replace("RUNAI_PROFILE=administrator", "RUNAI_PROFILE=researcher");
        let outcome = api.run(&block);
        outcome.code(1).stdout_is("").stderr_is(format!("{console}\n"));
        assert_eq!((api.site.requests().len(), api.issuer.token_requests()), (1, 1), "{piece}");
    }
    for piece in RESEARCHERS {
        let Some(api) = Api::start(Rules::default()) else { return };
        let block = block(piece).replace("RUNAI_PROFILE=researcher", "RUNAI_PROFILE=administrator");
        api.run(&block)
            .code(1)
            .stdout_is("")
            .stderr_has("POST /api/v1/workloads/trainings: HTTP 403: the token is good");
        assert_eq!(api.issuer.token_requests(), 1, "{piece}");
    }
    for piece in ADMINISTRATORS {
        let Some(api) = Api::start(Rules { requests_a_token: 0, ..Rules::default() }) else { return };
        api.run(&block(piece)).code(1).stdout_is("").stderr_has("GET /api/v1/clusters: HTTP 401, with a new token too");
        assert_eq!((api.site.requests().len(), api.issuer.token_requests()), (2, 2), "{piece}");
    }
}

/// The scripts replace each token that the API revokes after three requests, long before its expiry.
#[test]
fn scripts_survive_revoked_tokens() {
    for piece in ADMINISTRATORS.into_iter().chain(RESEARCHERS) {
        let Some(api) = Api::start(Rules { requests_a_token: 3, looks: 20 }) else { return };
        let outcome = api.run(&block(piece));
        outcome.code(0).silent();
        let requests = api.site.requests().len();
        // Each token except the last one: three requests with an answer, and one that the API refused.
        assert_eq!(api.issuer.token_requests(), requests.div_ceil(4), "{piece}: {outcome}");
        assert!(api.issuer.token_requests() >= 2, "{piece}");
        for token in api.issuer.issued() {
            assert!(!format!("{outcome}").contains(&token), "{piece}");
        }
    }
}

/// The scripts replace tokens that live two seconds before their expiry, so the API refuses no request.
#[test]
fn scripts_survive_expiring_tokens() {
    let Some(api) = Api::start(Rules { looks: 40, ..Rules::default() }) else { return };
    api.issuer.set_lifetime(Duration::from_secs(2));
    let slower = format!("export POLL_SECONDS=0.1\n{}", block("researcher.py"));
    api.run(&slower).code(0).silent().stdout_is("submitted job-2 w-1\nCompleted\n");
    // The pages of projects, the training, and 41 status requests: none of them was repeated.
    assert_eq!(api.site.requests().len(), 3 + 1 + 41);
    assert!(api.issuer.token_requests() >= 2);
}

/// The page links to every script of the folder.
#[test]
fn every_piece_is_on_the_page() {
    let pieces = std::fs::read_dir(FOLDER).expect("the folder").flatten().map(|entry| entry.file_name());
    for piece in pieces.map(PathBuf::from).filter(|piece| piece.extension().is_some_and(|end| end != "md")) {
        assert!(README.contains(&format!("]({})", piece.display())), "{}", piece.display());
    }
}
