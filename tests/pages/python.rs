//! Runs the package of `integrations/python/` with the real requests and httpx, against an API that requires a token.

use std::collections::HashSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use serde_json::json;

use support::*;

const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/integrations/python");
const README: &str = include_str!("../../integrations/python/README.md");

/// The part of the page that users replace.
const URL: &str = "https://app.run.ai";

/// A script for each client that defines `ask(method, path or URL, body)`, which returns status and text.
const CLIENTS: [(&str, &str); 3] = [
    (
        "requests",
        "import requests
from runai_credential.requests import RunaiAuth
session = requests.Session()
session.auth = RunaiAuth()
def ask(method, url, body=None):
    answer = session.request(method, BASE + url, data=body)
    return answer.status_code, answer.text
",
    ),
    (
        "httpx",
        "import httpx
from runai_credential.httpx import RunaiAuth
client = httpx.Client(auth=RunaiAuth(), follow_redirects=True)
def ask(method, url, body=None):
    answer = client.request(method, BASE + url, content=body)
    return answer.status_code, answer.text
",
    ),
    (
        "httpx, async",
        "import asyncio, httpx
from runai_credential.httpx import RunaiAuth
auth = RunaiAuth()
def ask(method, url, body=None):
    async def work():
        async with httpx.AsyncClient(auth=auth, follow_redirects=True) as client:
            answer = await client.request(method, BASE + url, content=body)
            return answer.status_code, answer.text
    return asyncio.run(work())
",
    ),
];

/// An issuer, an API that verifies its tokens, and a home with the program and the Python packages. `None`: the
/// packages are not installed.
struct Api {
    issuer: Issuer,
    site: Site,
    home: Home,
    revoked: Arc<Mutex<HashSet<String>>>,
    packages: String,
}

impl Api {
    #[track_caller]
    fn start() -> Option<Api> {
        let packages = python_path()?;
        let issuer = Issuer::start();
        let revoked = Arc::new(Mutex::new(HashSet::new()));
        let site = {
            let (issued, revoked) = ((*issuer).clone(), Arc::clone(&revoked));
            Site::start(move |request| answer(request, &issued, &revoked))
        };
        let home = Home::new();
        home.keycloak_with(&issuer, json!({"hosts": [site.url()]}));
        // The program under its own name, called by a script that logs the arguments.
        home.write(
            "bin/runai-credential",
            format!(
                "#!/bin/sh\nprintf '%s\\n' \"$*\" >>\"$HOME/argv\"\nexec '{}' \"$@\"\n",
                env!("CARGO_BIN_EXE_runai-credential")
            ),
            0o700,
        );
        home.write("api-ca.pem", Pki::shared().ca_pem(), 0o644);
        Some(Api { issuer, site, home, revoked, packages })
    }

    /// Returns Python with the package and the clients on its path.
    fn python<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = self.home.tool("python3", args);
        let ca = self.home.path().join("api-ca.pem");
        command
            .env("PYTHONPATH", &self.packages)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("REQUESTS_CA_BUNDLE", &ca)
            .env("SSL_CERT_FILE", &ca);
        command
    }

    /// Runs a script in which `BASE` is the API's URL.
    #[track_caller]
    fn run(&self, script: &str) -> Outcome {
        let script = format!("BASE = {:?}\n{script}", self.site.url());
        Running::start(&mut self.python(["-c", &script])).finish()
    }

    /// Makes the API refuse every token issued so far.
    fn revoke(&self) {
        self.revoked.lock().expect("no panic").extend(self.issuer.issued());
    }

    /// Returns the methods and paths that the API got.
    fn paths(&self) -> Vec<String> {
        self.site.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
    }

    /// Returns the arguments of each call of the program, and asserts that they contain no token.
    #[track_caller]
    fn calls(&self) -> Vec<String> {
        let argv = std::fs::read_to_string(self.home.path().join("argv")).unwrap_or_default();
        for token in self.issuer.issued() {
            assert!(!argv.contains(&token), "a token among the arguments:\n{argv}");
        }
        argv.lines().map(str::to_owned).collect()
    }
}

/// Answers 200 to a request with a valid token, else 401. `/far` and `/near` redirect.
fn answer(request: &Request, issuer: &Control, revoked: &Mutex<HashSet<String>>) -> Answer {
    let host = request.header("host").unwrap_or_default();
    match request.path.as_str() {
        "/far" => return Answer::redirect(307, &format!("https://{}/end", host.replace("127.0.0.1", "localhost"))),
        "/near" => return Answer::redirect(307, "/end"),
        _ => {}
    }
    let token = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let is_good =
        issuer.issued().iter().any(|issued| issued == token) && !revoked.lock().expect("no panic").contains(token);
    if is_good {
        Answer::text(200, "text/plain", &format!("{} {}", request.method, String::from_utf8_lossy(&request.body)))
    } else {
        Answer::runai_error(401, "Unauthorized").header("WWW-Authenticate", "Bearer error=\"invalid_token\"")
    }
}

/// Returns whether the condition becomes true within this time of sleeping.
fn comes(time: Duration, is_true: impl Fn() -> bool) -> bool {
    let nap = Duration::from_millis(5);
    (0..time.as_millis() / nap.as_millis()).any(|_| {
        is_true() || {
            sleep(nap);
            false
        }
    })
}

/// The package's own tests pass, and mypy finds no error.
#[test]
fn package_passes_its_tests_and_mypy() {
    let Some(api) = Api::start() else { return };
    let mut command = api.python(["-m", "unittest", "discover", "-s", "tests"]);
    Running::start(command.current_dir(PACKAGE)).finish().code(0).stderr_has("OK");
    let cache = api.home.path().join("mypy").display().to_string();
    let mut command = api.python(["-m", "mypy", "--cache-dir", &cache]);
    Running::start(command.current_dir(PACKAGE)).finish().code(0).stdout_has("no issues found in 5 source files");
}

/// The page's command builds and installs the package. It uses the packages that `setup` installed, and no network.
#[test]
fn built_package_works_after_installation() {
    let Some(api) = Api::start() else { return };
    let home = api.home.path();
    std::fs::create_dir(home.join("integrations")).expect("a folder");
    let copied = Command::new("cp").args(["-r", PACKAGE]).arg(home.join("integrations")).status().expect("run cp");
    assert!(copied.success());
    let venv = home.join("venv").display().to_string();
    Running::start(&mut api.python(["-m", "venv", "--without-pip", &venv])).finish().code(0);

    let line = README.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next()).expect("a shell block");
    let python = format!("{venv}/bin/python3");
    let pip = format!("python3 -m pip --python {python} --quiet --disable-pip-version-check --no-cache-dir ");
    let line = line.replace("pip ", &pip).replace("install ", "install --no-index --no-deps --no-build-isolation ");
    let mut command = api.home.tool("sh", ["-euc", &line]);
    // pip would download the build backend.
    command.env("PYTHONPATH", clients_dir().join("python")).current_dir(home);
    Running::start(&mut command).finish().code(0);

    let script = "import importlib.metadata, pathlib, runai_credential as r
assert (pathlib.Path(r.__file__).parent / 'py.typed').is_file()
assert importlib.metadata.version('runai-credential') == r.__version__
print(r.__file__, r.token())";
    let outcome = Running::start(&mut api.home.tool(&python, ["-c", script])).finish();
    outcome.code(0).silent().stdout_has(&format!("{venv}/lib")).stdout_has(&api.issuer.last_token());

    let wheels = home.join("wheels");
    let (folder, source) = (wheels.display().to_string(), home.join("integrations/python").display().to_string());
    let options = ["-m", "pip", "wheel", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "-w", &folder];
    Running::start(&mut api.python(options.into_iter().chain([source.as_str()]))).finish().code(0);
    assert!(wheels.join("runai_credential-0.1.0-py3-none-any.whl").is_file());
}

/// The Python blocks of the page run, even if the cached token is refused.
#[test]
fn python_blocks_of_page_work() {
    let blocks: Vec<&str> = README.split("```python\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 4);
    for block in blocks {
        let Some(api) = Api::start() else { return };
        // The page says that a refused token in the cache does not matter.
        api.home.run(["token"]).code(0);
        let uses_http = block.contains(URL);
        if uses_http {
            api.revoke();
        }
        let block = block.replace(URL, &api.site.url()).replace(".json()", ".text");
        let outcome = api.run(&block);
        outcome.code(0).silent().stdout_is(if uses_http { "GET \n" } else { "" });
        assert_eq!(api.issuer.token_requests(), 1 + usize::from(uses_http), "{block}");
        api.calls();
    }
}

/// After a 401, the client gets one other token and sends the same request once more.
#[test]
fn unauthorized_answer_causes_one_retry() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        api.home.run(["token"]).code(0);
        api.revoke();
        let script = format!("{client}\nprint(ask('POST', '/x', b'the body'), ask('GET', '/y'))");
        api.run(&script).code(0).silent().stdout_is("(200, 'POST the body') (200, 'GET ')\n");
        assert_eq!(api.paths(), ["POST /x", "POST /x", "GET /y"], "{name}");
        assert_eq!(api.issuer.token_requests(), 2, "{name}");
        let url = api.site.url();
        let plain = format!("token --format=json --url={url}");
        assert_eq!(api.calls(), [plain.clone(), format!("{plain} --rejected-stdin")], "{name}");
    }
}

/// If the server refuses every token, the caller gets its 401 after one retry, each time.
#[test]
fn second_unauthorized_answer_reaches_caller() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        let script = format!(
            "{client}
for _ in range(2):
    status, text = ask('GET', '/x')
    assert status == 401 and 'Unauthorized' in text, (status, text)"
        );
        let (site, home) = (Site::start(|_| Answer::runai_error(401, "Unauthorized")), &api.home);
        home.keycloak_with(&api.issuer, json!({"hosts": [site.url()]}));
        let script = format!("BASE = {:?}\n{script}", site.url());
        Running::start(&mut api.python(["-c", &script])).finish().code(0).silent();
        assert_eq!(site.requests().len(), 4, "{name}");
        assert!(api.issuer.token_requests() <= 3, "{name}: {}", api.issuer.token_requests());
    }
}

/// requests rewinds a file and sends it again. A body that cannot be rewound is not sent again: the caller gets the
/// 401, and the next request works.
#[test]
fn streamed_body_is_not_repeated() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        api.home.run(["token"]).code(0);
        api.revoke();
        let generator = match name {
            "httpx, async" => "async def body():\n    yield b'one'\n    yield b'two'\n",
            _ => "def body():\n    yield b'one'\n    yield b'two'\n",
        };
        let script = format!("{client}\n{generator}\nprint(ask('POST', '/x', body())[0], ask('POST', '/x', b'again'))");
        api.run(&script).code(0).silent().stdout_is("401 (200, 'POST again')\n");
        assert_eq!(api.paths().len(), 2, "{name}");
        assert_eq!(api.issuer.token_requests(), 2, "{name}");
    }
    let Some(api) = Api::start() else { return };
    api.home.run(["token"]).code(0);
    api.revoke();
    api.home.write("work/body", "skipped, sent", 0o600);
    let script = format!("{}\nfile = open('body', 'rb')\nfile.seek(9)\nprint(ask('POST', '/x', file))", CLIENTS[0].1);
    api.run(&script).code(0).silent().stdout_is("(200, 'POST sent')\n");
}

/// A redirect to another origin gets no token, and a 401 from there causes no retry.
#[test]
fn redirect_to_other_origin_gets_no_token() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        let script = format!("{client}\nprint(ask('GET', '/far')[0], ask('POST', '/near', b'body'))");
        api.run(&script).code(0).silent().stdout_is("401 (200, 'POST body')\n");
        assert_eq!(api.paths(), ["GET /far", "GET /end", "POST /near", "POST /end"], "{name}");
        let requests = api.site.requests();
        let away = &requests[1];
        assert!(away.header("host").is_some_and(|host| host.starts_with("localhost:")), "{name}");
        assert_eq!(away.header("authorization"), None, "{name}");
        assert_eq!(api.issuer.token_requests(), 1, "{name}");
    }
}

/// A token refused behind a redirect is replaced there, and the client does not repeat the request before the redirect.
#[test]
fn refused_token_is_replaced_behind_redirect() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        api.home.run(["token"]).code(0);
        api.revoke();
        api.run(&format!("{client}\nprint(ask('POST', '/near', b'body'))")).code(0).stdout_is("(200, 'POST body')\n");
        assert_eq!(api.paths(), ["POST /near", "POST /end", "POST /end"], "{name}");
    }
}

/// For a URL that no profile lists, the client raises an error and sends nothing.
#[test]
fn unlisted_host_fails_before_sending() {
    for (name, client) in CLIENTS {
        let Some(api) = Api::start() else { return };
        let script = format!(
            "{client}
from runai_credential import CredentialError
BASE = ''
for url in ({0:?}, {1:?}):
    try:
        ask('GET', url)
    except CredentialError as error:
        assert error.exit_code == 6 and error.hint, repr(error)
        print(error.what)",
            api.site.other_url() + "/x?canary=1",
            api.site.url().replace("https:", "http:"),
        );
        let outcome = api.run(&script);
        outcome.code(0).silent().stdout_has("no profile has its origin in its hosts");
        assert!(!outcome.stdout.contains("canary"), "{name}: {outcome}");
        assert_eq!(outcome.stdout.lines().count(), 2, "{name}: {outcome}");
        assert_eq!((api.paths().len(), api.issuer.token_requests()), (0, 0), "{name}");
    }
}

/// The exception has the program's message, hint and exit code.
#[test]
fn python_error_has_programs_text_and_code() {
    let Some(api) = Api::start() else { return };
    api.home.write("secret", "canary-but-wrong", 0o600);
    let script = format!("{}\nask('GET', '/x')", CLIENTS[0].1);
    let outcome = api.run(&script);
    outcome.code(1).stderr_has("CredentialError: the server refused client ci-pipeline");
    outcome.stderr_has("hint: check the client secret in the file");
    assert!(!outcome.stderr.contains("canary"), "{outcome}");
    let command = "from runai_credential import token\ntry: token()\nexcept Exception as e: print(e.exit_code)";
    api.run(command).code(0).silent().stdout_is("4\n");
}

/// The event loop continues during a fetch. The issuer answers only after another request of the same loop.
#[test]
fn event_loop_continues_during_token_fetch() {
    let Some(api) = Api::start() else { return };
    let ticked = Arc::new(AtomicBool::new(false));
    let ticks = Arc::clone(&ticked);
    let clock = Site::start(move |_| {
        ticks.store(true, Ordering::SeqCst);
        Answer::text(200, "text/plain", "tick")
    });
    api.issuer.script(move |_, _| {
        // This is less than the profile's `timeout`.
        match comes(Duration::from_secs(8), || ticked.load(Ordering::SeqCst)) {
            true => Answer::grant(),
            false => Answer::runai_error(400, "the event loop stood still"),
        }
    });
    let script = format!(
        "import asyncio, httpx
from runai_credential.httpx import RunaiAuth
async def main():
    async with httpx.AsyncClient() as client:
        work = asyncio.create_task(client.get(BASE + '/x', auth=RunaiAuth()))
        await asyncio.sleep(0)
        print((await client.get({:?})).text, (await work).status_code)
asyncio.run(main())",
        clock.url()
    );
    api.run(&script).code(0).silent().stdout_is("tick 200\n");
}

/// 100 tasks of one event loop call the program once for each token.
#[test]
fn hundred_tasks_call_program_once_per_token() {
    let Some(api) = Api::start() else { return };
    api.home.run(["token"]).code(0);
    api.revoke();
    let script = "import asyncio, httpx
from runai_credential.httpx import RunaiAuth
async def main():
    async with httpx.AsyncClient(auth=RunaiAuth(), timeout=60) as client:
        answers = await asyncio.gather(*(client.get(BASE + '/x') for _ in range(100)))
        print({answer.status_code for answer in answers}, len(answers))
asyncio.run(main())";
    api.run(script).code(0).silent().stdout_is("{200} 100\n");
    assert_eq!((api.calls().len(), api.issuer.token_requests()), (2, 2));
}

/// 100 threads of one process, 39 Python processes and 60 processes of the program report the same refused token, with
/// one token request.
#[test]
fn refused_callers_share_one_new_token() {
    const THREADS: usize = 100;
    const PYTHONS: usize = 39;
    const PROGRAMS: usize = 60;
    let Some(api) = Api::start() else { return };
    let home = &api.home;
    let old = home.run(["token"]).code(0).stdout.clone();

    // The site refuses the old token only after every caller has sent it.
    let (shown, open) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let site = {
        let (issuer, old) = ((*api.issuer).clone(), format!("Bearer {}", old.trim_end()));
        let (shown, open) = (Arc::clone(&shown), Arc::clone(&open));
        Site::start(move |request| {
            let authorization = request.header("authorization").unwrap_or_default();
            if authorization == old {
                shown.fetch_add(1, Ordering::SeqCst);
                while !open.load(Ordering::SeqCst) {
                    sleep(Duration::from_millis(5));
                }
                return Answer::runai_error(401, "Unauthorized");
            }
            let is_new = authorization == format!("Bearer {}", issuer.last_token());
            if is_new { Answer::text(200, "text/plain", "in") } else { Answer::runai_error(403, "Forbidden") }
        })
    };
    home.keycloak_with(&api.issuer, json!({"hosts": [site.url()]}));

    let threads = format!(
        "import threading, requests
from runai_credential.requests import RunaiAuth
auth, seen, new = RunaiAuth(), [], None
def work():
    seen.append(requests.get({0:?}, auth=auth).text)
workers = [threading.Thread(target=work) for _ in range({THREADS})]
for worker in workers: worker.start()
for worker in workers: worker.join()
assert seen == ['in'] * {THREADS}, seen
print('in')",
        site.url()
    );
    let alone = format!(
        "import requests
from runai_credential.requests import RunaiAuth
print(requests.get({:?}, auth=RunaiAuth()).text)",
        site.url()
    );
    let scripts = std::iter::once(threads).chain(std::iter::repeat_n(alone, PYTHONS));
    let pythons: Vec<Running> = scripts.map(|script| Running::start(&mut api.python(["-c", &script]))).collect();
    comes(Duration::from_secs(50), || shown.load(Ordering::SeqCst) == THREADS + PYTHONS);
    let all = shown.load(Ordering::SeqCst);
    open.store(true, Ordering::SeqCst);
    let programs: Vec<Running> = (0..PROGRAMS)
        .map(|_| {
            let mut command = home.command(["token", "--rejected-stdin"]);
            let mut running = Running::start(command.stdin(Stdio::piped()));
            running.feed(old.clone().into());
            running
        })
        .collect();
    for python in pythons {
        python.finish().code(0).silent().stdout_is("in\n");
    }
    let new = format!("{}\n", api.issuer.last_token());
    for program in programs {
        program.finish().code(0).silent().stdout_is(&new);
    }
    assert_eq!(all, THREADS + PYTHONS, "all showed the old token");
    assert_eq!(api.issuer.token_requests(), 2);
    // One of the 100 threads called the program, once for each of the two tokens.
    assert_eq!(api.calls().len(), 2 * (1 + PYTHONS));
}
