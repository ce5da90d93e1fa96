//! Runs git with the configuration of `integrations/git/`, against `git http-backend` behind a server that requires a
//! token.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use support::git::{gits, identity};
use support::*;

const README: &str = include_str!("../../../integrations/git/README.md");
const GITCONFIG: &str = include_str!("../../../integrations/git/gitconfig");

/// The part of the file that users replace.
const HOST: &str = "https://gitlab.acme.example";

/// The challenges of a server, and the scheme in which git sends the token then: a git that knows both schemes, and a
/// git that knows only Basic.
const CHALLENGES: [(&[&str], &str, Option<&str>); 4] = [
    (&["Bearer realm=\"acme\""], "Bearer", None),
    (&["Basic realm=\"GitLab\""], "Basic", Some("Basic")),
    (&["Basic realm=\"Gitea, a forge\"", "Bearer"], "Bearer", Some("Basic")),
    (&["Basic realm=\"one, Bearer two\", charset=\"UTF-8\""], "Basic", Some("Basic")),
];

/// Returns a home with git's name for the program, a profile for this issuer and these hosts, and git's configuration.
fn home_for(issuer: &Issuer, hosts: &[&str], gitconfig: &str) -> Home {
    let home = Home::new();
    home.install("git-credential-runai");
    home.keycloak_with(issuer, json!({"hosts": hosts}));
    home.write(".gitconfig", gitconfig, 0o600);
    home
}

/// Returns the page's configuration for this server.
fn pasted(server: &GitServer) -> String {
    assert_eq!(GITCONFIG.matches(HOST).count(), 1);
    GITCONFIG.replace(HOST, &server.site().url())
}

fn home_at(issuer: &Issuer, server: &GitServer) -> Home {
    home_for(issuer, &[&server.site().url()], &pasted(server))
}

fn git(home: &Home, git: &Path, line: &str) -> Command {
    let mut command = home.tool(git, line.split(' '));
    let ca = home.write("site-ca.pem", Pki::shared().ca_pem(), 0o644);
    command.env("GIT_SSL_CAINFO", ca).env("GIT_TERMINAL_PROMPT", "0");
    identity(&mut command);
    command
}

#[track_caller]
fn run(home: &Home, program: &Path, line: &str) -> Outcome {
    Running::start(&mut git(home, program, line)).finish()
}

/// Puts a token into the home's cache that was fetched a minute ago.
fn with_older_token(home: &Home) -> String {
    let then = Machine { behind: Duration::from_secs(60), ..Machine::of(home) };
    let reply = then.call(&["token"]);
    assert_eq!(reply.status, 0, "{}", reply.stderr);
    String::from_utf8(reply.stdout).expect("a token").trim_end().to_owned()
}

/// Returns each git with each server that it can use: the git, the challenges, and the scheme of its answer.
fn pairs() -> impl Iterator<Item = (std::path::PathBuf, bool, &'static [&'static str], &'static str)> {
    gits().into_iter().flat_map(|(git, is_new)| {
        CHALLENGES.into_iter().filter_map(move |(challenges, new, old)| {
            let scheme = if is_new { Some(new) } else { old };
            Some((git.clone(), is_new, challenges, scheme?))
        })
    })
}

/// git clones, pushes, fetches and lists with one token request, and sends the token in the expected scheme.
#[test]
fn clone_fetch_and_push_use_one_token() {
    for (program, _, challenges, scheme) in pairs() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, challenges);
        let home = home_at(&issuer, &server);
        let url = server.repository();
        run(&home, &program, &format!("clone -q {url} here")).code(0).silent();
        run(&home, &program, "-C here commit -q --allow-empty -m second").code(0);
        run(&home, &program, "-C here push -q origin main").code(0).silent();
        run(&home, &program, &format!("clone -q {url} there")).code(0).silent();
        run(&home, &program, "-C there log -1 --format=%s").stdout_is("second\n");
        run(&home, &program, "-C here fetch -q").code(0).silent();
        run(&home, &program, &format!("ls-remote {url}")).code(0).silent().stdout_has("refs/heads/main");

        assert_eq!(issuer.token_requests(), 1, "{} {challenges:?}", program.display());
        let token = issuer.last_token();
        let presented = server.presented();
        assert!(
            !presented.is_empty() && presented.iter().all(|one| *one == (scheme.to_owned(), token.clone())),
            "{presented:?}"
        );
    }
}

/// After a 401, a new git gets another token within the command. An old git fails once, and its next command works.
#[test]
fn git_recovers_from_a_revoked_token() {
    for (program, is_new, challenges, scheme) in pairs() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, challenges);
        let home = home_at(&issuer, &server);
        let old = with_older_token(&home);
        server.revoke(&old);
        let outcome = run(&home, &program, &format!("ls-remote {}", server.repository()));
        if is_new {
            outcome.code(0).silent().stdout_has("refs/heads/main");
            assert_eq!(issuer.token_requests(), 2, "{challenges:?}");
            let new = issuer.last_token();
            assert_eq!(server.presented().first(), Some(&(scheme.to_owned(), old.clone())));
            assert_eq!(server.presented().last(), Some(&(scheme.to_owned(), new.clone())));

            // A late refusal of the old token does not remove the new one.
            let late = format!("protocol=https\nhost={}\nusername=oauth2\npassword={old}\n", server.site().authority());
            home.run_fed(["git", "erase"], late).code(0).silent().stdout_is("");
            assert_eq!(home.run(["token"]).stdout.trim_end(), new);
            assert_eq!(issuer.token_requests(), 2);
        } else {
            // This git fails at once and calls `erase`. Its next command works.
            outcome.code(128).stderr_has("Authentication failed");
            run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
            assert_eq!(issuer.token_requests(), 2);
        }
    }
}

/// If the server revokes the token between two requests of one command, git continues with another token.
#[test]
fn git_survives_revocation_within_one_command() {
    for (program, _, challenges, _) in pairs().filter(|(_, is_new, ..)| *is_new) {
        for let_in in 1..3 {
            let issuer = Issuer::start();
            let server = GitServer::start(&issuer, challenges);
            let home = home_at(&issuer, &server);
            with_older_token(&home);
            server.revoke_after(let_in);
            run(&home, &program, &format!("clone -q {} here", server.repository())).code(0).silent();
            run(&home, &program, "-C here commit -q --allow-empty -m second").code(0);
            run(&home, &program, "-C here push -q origin main").code(0).silent();
            assert_eq!(issuer.token_requests(), 2, "{challenges:?} after {let_in}");
        }
    }
}

/// If the server refuses every token, git ends with an error after at most one new token, or three for a push.
#[test]
fn server_refusing_everything_ends_the_command() {
    for (program, _, challenges, _) in pairs() {
        for is_cached in [false, true] {
            let issuer = Issuer::start();
            let server = GitServer::start(&issuer, challenges);
            let home = home_at(&issuer, &server);
            if is_cached {
                with_older_token(&home);
            }
            server.refuse_all();
            let before = issuer.token_requests();
            let outcome = run(&home, &program, &format!("clone -q {} here", server.repository()));
            outcome.code(128).stderr_has("Authentication failed");
            let requests = issuer.token_requests() - before;
            assert!(requests <= 1, "{}, {challenges:?}, cached: {is_cached}: {requests} requests", program.display());
        }
    }
    // The server refuses only the POST of a push. git's own loop at this point has no limit.
    for (program, _, challenges, _) in pairs() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, challenges);
        let home = home_at(&issuer, &server);
        run(&home, &program, &format!("clone -q {} here", server.repository())).code(0).silent();
        run(&home, &program, "-C here commit -q --allow-empty -m second").code(0);
        server.refuse_all_posts();
        let before = issuer.token_requests();
        let outcome = run(&home, &program, "-C here push -q origin main");
        assert_ne!(outcome.code, Some(0), "{outcome}");
        let requests = issuer.token_requests() - before;
        assert!(requests <= 3, "{}, {challenges:?}: {requests} requests", program.display());
    }
}

/// 100 git processes at once cause one token request.
#[test]
fn hundred_parallel_gits_cause_one_request() {
    let issuer = Issuer::start();
    let server = GitServer::start(&issuer, &["Bearer"]);
    for (program, is_new) in gits() {
        let home = home_at(&issuer, &server);
        let before = issuer.token_requests();
        let request = home.write("request", format!("url={}\n", server.repository()), 0o600);
        let commands = (0..100).map(|_| {
            let mut command = git(&home, &program, "credential fill");
            command.stdin(fs::File::open(&request).expect("the request"));
            command
        });
        let outcomes = Running::at_once(commands.collect());
        let token = issuer.last_token();
        for outcome in &outcomes {
            outcome.code(0).silent().stdout_has(&format!("password={token}\n"));
        }
        assert_eq!(issuer.token_requests(), before + 1, "{is_new}");
    }
}

/// Each profile's token goes only to its own hosts, although every git calls the same helper.
#[test]
fn each_host_gets_its_profiles_token() {
    let (one, two) = (Issuer::start(), Issuer::start());
    let servers = [GitServer::start(&one, &["Bearer"]), GitServer::start(&two, &["Basic realm=\"two\""])];
    for (program, is_new) in gits() {
        let home = home_for(&one, &[], "[credential]\n\thelper = runai\n");
        let mut config = home.keycloak_with(&one, json!({"hosts": [servers[0].site().url()]}));
        let mut second = config["profiles"][PROFILE].clone();
        second["url"] = json!(two.url());
        second["hosts"] = json!([servers[1].site().url()]);
        config["profiles"]["second"] = second;
        config["default_profile"] = json!("second");
        home.config(&config);
        if is_new {
            run(&home, &program, &format!("ls-remote {}", servers[0].repository())).code(0).silent();
        }
        run(&home, &program, &format!("ls-remote {}", servers[1].repository())).code(0).silent();

        // If both profiles list the host, git stops and shows both names.
        config["profiles"][PROFILE]["hosts"] = config["profiles"]["second"]["hosts"].clone();
        home.config(&config);
        run(&home, &program, &format!("ls-remote {}", servers[1].repository()))
            .code(128)
            .stderr_has("runai-credential: error: ")
            .stderr_has("the profiles \"prod\" and \"second\" both claim https://127.0.0.1:")
            .stderr_has("told us to quit");
    }
    assert!(servers[0].presented().iter().all(|(_, token)| one.issued().contains(token)));
    assert!(servers[1].presented().iter().all(|(_, token)| two.issued().contains(token)));
}

/// Replaces the helper with a script that logs requests and answers.
fn listen(home: &Home) {
    let bin = home.path().join("bin");
    fs::remove_file(bin.join("git-credential-runai")).expect("the link");
    let (log, program) = (home.path().join("asked"), env!("CARGO_BIN_EXE_runai-credential"));
    let script = format!(
        "#!/bin/sh\nlog={}\necho \"[$1]\" >>$log\ntee -a $log | {program} git \"$@\" >$log.answer\nstatus=$?\n\
         sed 's/^/answer: /' $log.answer >>$log\ncat $log.answer\nexit $status\n",
        log.display()
    );
    home.write("bin/git-credential-runai", script, 0o755);
}

fn heard(home: &Home) -> String {
    fs::read_to_string(home.path().join("asked")).unwrap_or_default()
}

/// The program returns no token for a submodule on a host that the profile does not list.
#[test]
fn submodule_on_foreign_host_gets_nothing() {
    for (program, is_new) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, if is_new { &["Bearer"] } else { &["Basic realm=\"x\""] });
        let foreign = GitServer::start(&issuer, &["Basic realm=\"foreign\"", "Bearer"]);
        let home = home_for(&issuer, &[&server.site().url()], "[credential]\n\thelper = runai\n");
        run(&home, &program, &format!("clone -q {} here", server.repository())).code(0).silent();
        let module = format!("[submodule \"m\"]\n\tpath = m\n\turl = {}\n", foreign.repository());
        home.write("work/here/.gitmodules", module, 0o644);
        let head = run(&home, &program, "-C here rev-parse HEAD").stdout.trim_end().to_owned();
        run(&home, &program, &format!("-C here update-index --add --cacheinfo 160000,{head},m")).code(0);
        run(&home, &program, "-C here add .gitmodules").code(0);
        run(&home, &program, "-C here commit -q -m submodule").code(0);
        run(&home, &program, "-C here push -q origin main").code(0).silent();

        listen(&home);
        let outcome = run(&home, &program, &format!("clone -q --recurse-submodules {} again", server.repository()));
        outcome.code(1).stderr_has("could not read Username").stderr_has("terminal prompts disabled");
        let heard = heard(&home);
        let asked = format!("protocol=https\nhost={}\n", foreign.site().authority());
        assert!(heard.contains(&asked), "the helper got a request:\n{heard}");
        let (_, after) = heard.split_once(&asked).expect("the question");
        assert!(!after.contains("answer: "), "the helper returned no token:\n{heard}");
        assert!(heard.contains("answer: "), "the helper returned a token for the listed host:\n{heard}");
        assert_eq!(foreign.presented(), [], "the foreign host got no credentials");
        assert!(foreign.site().requests().iter().any(|request| request.path.contains("info/refs")));
    }
}

/// A redirect to another name of the same server gets no token: another name is another host.
#[test]
fn redirect_target_gets_no_token() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let foreign = GitServer::start(&issuer, &["Basic realm=\"x\"", "Bearer"]);
        let to = foreign.site().other_url();
        let site =
            Site::start(move |request| Answer::redirect(302, &format!("{to}{}?{}", request.path, request.query)));
        let home = home_for(&issuer, &[&site.url(), &foreign.site().url()], "[credential]\n\thelper = runai\n");
        with_older_token(&home);
        listen(&home);
        let outcome = run(&home, &program, &format!("ls-remote {}/acme.git", site.url()));
        outcome.code(128).stderr_has("could not read Username for 'https://localhost:");
        assert!(heard(&home).contains(&format!("host=localhost:{}\n", foreign.site().port())), "{}", heard(&home));
        assert!(!heard(&home).contains("answer: "), "{}", heard(&home));
        assert_eq!((foreign.presented(), site.authorizations()), (vec![], vec![]));
    }
}

/// The empty `helper =` of the page prevents git's own store from writing the token to a file.
#[test]
fn empty_helper_keeps_token_from_store() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let store = "[credential]\n\thelper = store\n";
        let home = home_for(&issuer, &[&server.site().url()], &format!("{store}{}", pasted(&server)));
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        let kept = home.grep(issuer.last_token());
        assert!(kept.len() == 1 && kept[0].starts_with("cache/runai-credential"), "{kept:?}");

        // Without this line, the store writes the token.
        let without = pasted(&server).replacen("\thelper =\n", "", 1);
        home.write(".gitconfig", format!("{store}{without}"), 0o600);
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        assert!(home.path().join(".git-credentials").exists());
    }
}

/// git shows the program's error if the issuer refuses the client.
#[test]
fn git_shows_refusal_of_the_client() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = home_at(&issuer, &server);
        home.write("secret", "wrong\n", 0o600);
        let secret = home.path().join("secret");
        run(&home, &program, &format!("ls-remote {}", server.repository()))
            .code(128)
            .stderr_has(
                "runai-credential: error: the server refused client ci-pipeline: unauthorized_client: Invalid client or \
                 Invalid client credentials (HTTP 401)\nhint: check the client secret in the file ",
            )
            .stderr_has(&format!("{}; regenerating a secret revokes the old one\n", secret.display()))
            .stderr_has("told us to quit");
    }
}

/// git shows the program's error if the issuer is down. A token that is still valid is used.
#[test]
fn git_shows_error_when_issuer_is_down() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = home_at(&issuer, &server);
        let down = refused_url();
        home.keycloak_with(&issuer, json!({"url": down, "hosts": [server.site().url()]}));
        run(&home, &program, &format!("ls-remote {}", server.repository()))
            .code(128)
            .stderr_has(&format!(
                "runai-credential: error: cannot reach {down}: Connection refused (os error 111)\nhint: check url"
            ))
            .stderr_has("told us to quit");

        // A cached token that is still valid is used all the time.
        let home = home_at(&issuer, &server);
        with_older_token(&home);
        issuer.always(Answer::close());
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
    }
}

/// With a broken configuration the program cannot know the host's profile. It reports the error, and git calls the next
/// helper.
#[test]
fn broken_configuration_lets_git_try_others() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = home_for(&issuer, &[], "[credential]\n\thelper = runai\n\thelper = other\n");
        let token = with_older_token(&home);
        let other = format!("#!/bin/sh\n[ \"$1\" = get ] && printf 'username=oauth2\\npassword={token}\\n'\n");
        home.write("bin/git-credential-other", other, 0o755);
        home.write(home.config_file(), "{", 0o600);
        let outcome = run(&home, &program, &format!("ls-remote {}", server.repository()));
        outcome
            .code(0)
            .stdout_has("refs/heads/main")
            .stderr_has("runai-credential: error: ")
            .stderr_has("config.json:1:");
    }
}

/// The link, the hosts and the configuration of the page are enough for git.
#[test]
fn steps_of_page_make_git_work() {
    let link = README.lines().map(str::trim).find(|line| line.starts_with("ln -s ")).expect("a link");
    let hosts = README.lines().map(str::trim).find(|line| line.starts_with("\"hosts\"")).expect("hosts");
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = Home::new();
        home.install("runai-credential");
        Running::start(&mut home.tool("sh", ["-ec", link])).finish().code(0).silent();
        let hosts = format!("{{{}}}", hosts.replace(HOST, &server.site().url()));
        home.keycloak_with(&issuer, serde_json::from_str(&hosts).expect("JSON"));
        home.write(".gitconfig", pasted(&server), 0o600);
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        assert_eq!(issuer.token_requests(), 1);
    }
}

/// git starts the helper as a copy and as a link, by name and by path. The name selects git's protocol.
#[test]
fn git_starts_helper_in_every_way() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let home = home_at(&issuer, &server);
        let copy = home.path().join("copies/git-credential-runai");
        fs::create_dir_all(copy.parent().expect("a folder")).expect("make a folder");
        fs::copy(env!("CARGO_BIN_EXE_runai-credential"), &copy).expect("copy the program");
        let plain = env!("CARGO_BIN_EXE_runai-credential");
        let ways = [
            "runai".to_owned(),
            "runai --profile prod".to_owned(),
            copy.display().to_string(),
            format!("{plain} git"),
            format!("!{plain} --profile=prod git"),
        ];
        for helper in ways {
            home.write(".gitconfig", format!("[credential]\n\thelper = {helper}\n"), 0o600);
            run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        }
        assert_eq!(issuer.token_requests(), 1);
    }
}

/// The page shows the same text as the tested file.
#[test]
fn page_shows_the_tested_configuration() {
    assert!(README.contains(&format!("```ini\n{GITCONFIG}```\n")), "gitconfig");
}

/// The page's `git config` commands write the same configuration as the file.
#[test]
fn commands_of_page_write_same_configuration() {
    let commands: Vec<&str> = README.lines().filter(|line| line.starts_with("git config ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for (program, _) in gits() {
        let home = Home::new();
        for command in &commands {
            let line = command.replacen("git", &program.display().to_string(), 1);
            Running::start(&mut home.tool("sh", ["-ec", &line])).finish().code(0).silent();
        }
        // git writes a space after the equals sign of an empty value.
        let written = fs::read_to_string(home.path().join(".gitconfig")).expect("a file").replace("= \n", "=\n");
        assert_eq!(written, GITCONFIG);
    }
}

/// The program accepts unknown operations and `store`, and prints nothing, as gitcredentials(7) requires.
#[test]
fn unknown_git_operations_are_silently_ignored() {
    let home = Home::new();
    for operation in ["store", "unheard-of", ""] {
        home.run_fed(["git", operation], "protocol=https\nhost=a.example\n".to_owned()).code(0).silent().stdout_is("");
    }
    home.run(["git", "capability"]).code(0).silent().stdout_is("version 0\ncapability authtype\ncapability state\n");
    home.run(["git"]).code(2).stdout_is("");
}
