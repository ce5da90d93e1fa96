//! `integrations/run-ai-api/`: its pieces as they stand, with the real curl, jq and Python, against an API that answers as the public
//! documentation says, to each application what its role allows.

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

/// What people replace.
const URL: &str = "https://acme.run.ai";

/// The applications of the page.
const RESEARCHER: &str = "research-jobs";
const ADMINISTRATOR: &str = "administration";

/// How the API behaves.
#[derive(Clone, Copy)]
struct Rules {
    /// A token is dead after so many requests.
    requests_a_token: usize,
    /// How often a training is looked at before it has ended.
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

/// What came so far: requests for each token, and looks at the training.
#[derive(Default)]
struct Seen {
    uses: HashMap<String, usize>,
    looks: usize,
}

impl Api {
    /// `None`: not installed.
    #[track_caller]
    fn start(rules: Rules) -> Option<Api> {
        for tool in ["bash", "curl", "jq"] {
            require(tool)?;
        }
        let packages = python_path()?;
        let issuer = Issuer::start();
        // Whoever asks: its token says who it is.
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

    /// A shell block of the page, in the folder of the pieces.
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

    /// How many requests came for this path, whatever the page.
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

/// Checks the bearer, then the role, then answers.
fn answer(request: &Request, issuer: &Control, rules: Rules, seen: &Mutex<Seen>) -> Answer {
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let claims = claims(token);
    let mut seen = seen.lock().expect("nobody panics");
    let uses = seen.uses.entry(token.to_owned()).or_default();
    *uses += 1;
    // (Both are cut to whole seconds, so a token lives up to a second longer here than it says, and never shorter.)
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

/// One page of items with these names, by `offset` and `limit`.
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

/// The block of the page that holds this.
fn block(words: &str) -> String {
    let blocks = README.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let mut found = blocks.filter(|block| block.contains(words));
    let block = found.next().unwrap_or_else(|| panic!("the page has no shell block with {words:?}"));
    assert_eq!(found.next(), None, "{words:?} is in two blocks");
    block.to_owned()
}

const ADMINISTRATORS: [&str; 2] = ["./administrator.sh", "administrator.py"];
const RESEARCHERS: [&str; 2] = ["./researcher.sh", "researcher.py"];

#[test]
fn the_line_of_curl() {
    let Some(api) = Api::start(Rules::default()) else { return };
    api.run(&block("curl -H @-")).code(0).silent().stdout_is(r#"[{"name":"main","tenantId":1,"uuid":"c-1"}]"#);
}

#[test]
fn what_an_administrator_sees() {
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

#[test]
fn what_a_researcher_does() {
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

/// The message of the page, and no other token: none would help.
#[test]
fn a_missing_role_is_told_from_a_dead_token() {
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

/// Each token is dead after three requests, long before its end.
#[test]
fn tokens_that_are_revoked_while_a_script_runs() {
    for piece in ADMINISTRATORS.into_iter().chain(RESEARCHERS) {
        let Some(api) = Api::start(Rules { requests_a_token: 3, looks: 20 }) else { return };
        let outcome = api.run(&block(piece));
        outcome.code(0).silent();
        let requests = api.site.requests().len();
        // With each token but the last one: three that were answered, and one that was not.
        assert_eq!(api.issuer.token_requests(), requests.div_ceil(4), "{piece}: {outcome}");
        assert!(api.issuer.token_requests() >= 2, "{piece}");
        for token in api.issuer.issued() {
            assert!(!format!("{outcome}").contains(&token), "{piece}");
        }
    }
}

/// Tokens that live for two seconds: each is replaced before its end, so that no request is refused.
#[test]
fn tokens_that_end_while_a_script_runs() {
    let Some(api) = Api::start(Rules { looks: 40, ..Rules::default() }) else { return };
    api.issuer.set_lifetime(Duration::from_secs(2));
    let slower = format!("export POLL_SECONDS=0.1\n{}", block("researcher.py"));
    api.run(&slower).code(0).silent().stdout_is("submitted job-2 w-1\nCompleted\n");
    // The page of projects, the training, its forty looks and the last one: none of them twice.
    assert_eq!(api.site.requests().len(), 3 + 1 + 41);
    assert!(api.issuer.token_requests() >= 2);
}

#[test]
fn every_piece_is_on_the_page() {
    let pieces = std::fs::read_dir(FOLDER).expect("the folder").flatten().map(|entry| entry.file_name());
    for piece in pieces.map(PathBuf::from).filter(|piece| piece.extension().is_some_and(|end| end != "md")) {
        assert!(README.contains(&format!("]({})", piece.display())), "{}", piece.display());
    }
}
