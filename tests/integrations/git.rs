//! `integrations/git/`: git through the configuration as it stands, against `git http-backend` behind a server that takes
//! nothing but our tokens.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::json;

use support::git::{gits, identity};
use support::*;

const README: &str = include_str!("../../integrations/git/README.md");
const GITCONFIG: &str = include_str!("../../integrations/git/gitconfig");

/// What people replace.
const HOST: &str = "https://gitlab.acme.example";

/// How a server may ask for a token, as which scheme a git that knows both sends it then, and a git that knows Basic alone.
const CHALLENGES: [(&[&str], &str, Option<&str>); 4] = [
    (&["Bearer realm=\"acme\""], "Bearer", None),
    (&["Basic realm=\"GitLab\""], "Basic", Some("Basic")),
    (&["Basic realm=\"Gitea, a forge\"", "Bearer"], "Bearer", Some("Basic")),
    (&["Basic realm=\"one, Bearer two\", charset=\"UTF-8\""], "Basic", Some("Basic")),
];

/// A home with the program under git's name for it, a profile for this issuer with these hosts, and git's configuration.
fn home_for(issuer: &Issuer, hosts: &[&str], gitconfig: &str) -> Home {
    let home = Home::new();
    home.install("git-credential-runai");
    home.keycloak_with(issuer, json!({"hosts": hosts}));
    home.write(".gitconfig", gitconfig, 0o600);
    home
}

/// The configuration of the page, for this server.
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

/// Ages the cached token of a home by some time: fetched then, not now.
fn with_older_token(home: &Home) -> String {
    let then = Machine { behind: Duration::from_secs(60), ..Machine::of(home) };
    let reply = then.call(&["token"]);
    assert_eq!(reply.status, 0, "{}", reply.stderr);
    String::from_utf8(reply.stdout).expect("a token").trim_end().to_owned()
}

/// Each git against each server that it can talk to: the git, the challenges, and the scheme it answers with.
fn pairs() -> impl Iterator<Item = (std::path::PathBuf, bool, &'static [&'static str], &'static str)> {
    gits().into_iter().flat_map(|(git, is_new)| {
        CHALLENGES.into_iter().filter_map(move |(challenges, new, old)| {
            let scheme = if is_new { Some(new) } else { old };
            Some((git.clone(), is_new, challenges, scheme?))
        })
    })
}

#[test]
fn clone_fetch_push_and_ls_remote() {
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

#[test]
fn a_command_survives_a_token_that_was_revoked() {
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

            // The refusal of the old token that comes late: the new one stays.
            let late = format!("protocol=https\nhost={}\nusername=oauth2\npassword={old}\n", server.site().authority());
            home.run_fed(["git", "erase"], late).code(0).silent().stdout_is("");
            assert_eq!(home.run(["token"]).stdout.trim_end(), new);
            assert_eq!(issuer.token_requests(), 2);
        } else {
            // This git gives up at once, and says erase; its next command works.
            outcome.code(128).stderr_has("Authentication failed");
            run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
            assert_eq!(issuer.token_requests(), 2);
        }
    }
}

#[test]
fn a_token_that_is_revoked_between_two_requests_of_one_command() {
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

#[test]
fn a_server_that_refuses_everything_ends_the_command() {
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
    // A push refused only in its second half: git's own loop there has no bound.
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

#[test]
fn a_hundred_at_once_are_one_request() {
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

/// Every profile's token goes to its own hosts, though all gits ask the same helper.
#[test]
fn several_profiles_and_hosts() {
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

        // Claimed by both: git stops, and says who claims it.
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

/// Puts a script between git and the program, which writes down what is asked and what is answered.
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

#[test]
fn a_submodule_on_a_foreign_host_gets_nothing() {
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
        assert!(heard.contains(&asked), "we were asked:\n{heard}");
        let (_, after) = heard.split_once(&asked).expect("the question");
        assert!(!after.contains("answer: "), "and declined:\n{heard}");
        assert!(heard.contains("answer: "), "the other host was served:\n{heard}");
        assert_eq!(foreign.presented(), [], "nobody came to the foreign host with anything");
        assert!(foreign.site().requests().iter().any(|request| request.path.contains("info/refs")));
    }
}

/// The same machine by another name is another host, and so is the one that a server redirects to.
#[test]
fn a_redirect_takes_no_token_along() {
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

/// The empty `helper =` of the page is what keeps git's own store from writing the token down.
#[test]
fn the_empty_helper_keeps_the_token_out_of_the_store() {
    for (program, _) in gits() {
        let issuer = Issuer::start();
        let server = GitServer::start(&issuer, &["Basic realm=\"GitLab\""]);
        let store = "[credential]\n\thelper = store\n";
        let home = home_for(&issuer, &[&server.site().url()], &format!("{store}{}", pasted(&server)));
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        let kept = home.grep(issuer.last_token());
        assert!(kept.len() == 1 && kept[0].starts_with("cache/runai-credential"), "{kept:?}");

        // Without it the store does, which is why it is there.
        let without = pasted(&server).replacen("\thelper =\n", "", 1);
        home.write(".gitconfig", format!("{store}{without}"), 0o600);
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
        assert!(home.path().join(".git-credentials").exists());
    }
}

#[test]
fn what_users_see_when_the_client_is_refused() {
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

#[test]
fn what_users_see_when_the_issuer_is_down() {
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

        // A token that lives on is served all the while.
        let home = home_at(&issuer, &server);
        with_older_token(&home);
        issuer.always(Answer::close());
        run(&home, &program, &format!("ls-remote {}", server.repository())).code(0).silent();
    }
}

/// Whose host it is cannot be known then: git hears why, and goes on to whoever else may help.
#[test]
fn a_broken_configuration_is_no_reason_to_stop_at_other_helpers() {
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

/// From the page alone: its link, its hosts, its configuration.
#[test]
fn the_steps_of_the_page() {
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

/// A copy and a link, by name and by path: the name picks the dialect.
#[test]
fn by_every_way_that_git_starts_a_helper() {
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

#[test]
fn the_page_shows_this_file() {
    assert!(README.contains(&format!("```ini\n{GITCONFIG}```\n")), "gitconfig");
}

/// The page's other way: git's own command writes the same.
#[test]
fn the_commands_of_the_page_write_this_file() {
    let commands: Vec<&str> = README.lines().filter(|line| line.starts_with("git config ")).collect();
    assert_eq!(commands.len(), 2, "{commands:?}");
    for (program, _) in gits() {
        let home = Home::new();
        for command in &commands {
            let line = command.replacen("git", &program.display().to_string(), 1);
            Running::start(&mut home.tool("sh", ["-ec", &line])).finish().code(0).silent();
        }
        // git writes a blank after the equals sign of nothing.
        let written = fs::read_to_string(home.path().join(".gitconfig")).expect("a file").replace("= \n", "=\n");
        assert_eq!(written, GITCONFIG);
    }
}

/// What is not git's own: a request by hand gets the same answer as by a program.
#[test]
fn an_unknown_operation_and_store_are_taken_and_ignored() {
    let home = Home::new();
    for operation in ["store", "unheard-of", ""] {
        home.run_fed(["git", operation], "protocol=https\nhost=a.example\n".to_owned()).code(0).silent().stdout_is("");
    }
    home.run(["git", "capability"]).code(0).silent().stdout_is("version 0\ncapability authtype\ncapability state\n");
    home.run(["git"]).code(2).stdout_is("");
}
