//! Tests of `terraform`: golden cases of the protocol, and the lines of the page.

use std::process::Stdio;

use serde_json::{Value, json};

use support::*;

const CASES: &str = include_str!("../cases/terraform.json");
const README: &str = include_str!("../../integrations/terraform/README.md");

/// Returns a home whose profile lists the hosts of the cases, with the program's name for Terraform.
fn home(issuer: &Issuer) -> Home {
    let home = Home::new();
    home.install("terraform-credentials-runai");
    let hosts = json!({"hosts": ["https://registry.acme.example", "https://registry.acme.example:8443"]});
    home.keycloak_with(issuer, hosts);
    home
}

/// Runs the program as Terraform calls it: the arguments of the configuration, the verb, the host.
fn call<S: AsRef<str>>(home: &Home, args: impl IntoIterator<Item = S>, input: &str) -> Outcome {
    let mut command = home.tool(home.path().join("bin/terraform-credentials-runai"), args);
    command.stdin(Stdio::piped());
    let mut running = Running::start(&mut command);
    running.feed(input.into());
    running.finish()
}

/// Each golden case gets its answer, exit code and error, with one token request for all of them.
#[test]
fn terraform_answers_equal_the_golden_cases() {
    let issuer = Issuer::start();
    let home = home(&issuer);
    let token = home.run(["token"]).code(0).stdout.trim_end().to_owned();
    let cases: Vec<Value> = serde_json::from_str(CASES).expect("JSON");
    for case in &cases {
        let args = case["args"].as_array().expect("arguments").iter().map(|arg| arg.as_str().expect("text"));
        let outcome = call(&home, args, case["stdin"].as_str().unwrap_or_default());
        let wanted = case["stdout"].as_str().expect("an answer").replace("TOKEN", &token);
        let code = i32::try_from(case["code"].as_i64().expect("a code")).expect("a small number");
        assert_eq!(
            (outcome.stdout.as_str(), outcome.code),
            (wanted.as_str(), Some(code)),
            "{}\n{outcome}",
            case["name"]
        );
        match case["stderr"].as_str() {
            Some(text) => outcome.stderr_has(text),
            None => outcome.silent(),
        };
        assert!(!outcome.stderr.contains("canary"), "{outcome}");
    }
    issuer.expect_token_requests(1);
}

/// `terraform logout` removes the token of the host, so that the next `get` fetches another one.
#[test]
fn terraform_forget_drops_the_cached_token() {
    let issuer = Issuer::start();
    let home = home(&issuer);
    let get = || call(&home, ["get", "registry.acme.example"], "").code(0).silent().stdout.clone();
    let first = get();
    assert_eq!(get(), first, "from the cache");
    call(&home, ["forget", "registry.acme.example"], "").code(0).silent().stdout_is("");
    assert_ne!(get(), first);
    issuer.expect_token_requests(2);
}

/// After a failure Terraform shows only the exit status. The text is for `TF_LOG` and for users.
#[test]
fn terraform_get_fails_when_the_server_refuses() {
    let issuer = Issuer::start();
    let home = home(&issuer);
    home.write("secret", "wrong\n", 0o600);
    call(&home, ["get", "registry.acme.example"], "").code(4).stdout_is("").stderr_has("the server refused client");
}

/// The page's link, configuration and test command work unchanged.
#[test]
fn lines_of_terraform_page_work() {
    let issuer = Issuer::start();
    let home = home(&issuer);
    home.install("runai-credential");
    let block = |fence: &str| {
        let (_, rest) = README.split_once(&format!("```{fence}\n")).expect("a block");
        rest.split_once("```").expect("its end").0.to_owned()
    };
    Running::start(&mut home.tool("sh", ["-euc", &block("sh")])).finish().code(0);
    let plugin = home.path().join(".terraform.d/plugins/terraform-credentials-runai");
    assert!(plugin.exists(), "the link of the page");
    let configuration = block("hcl");
    assert!(configuration.contains("credentials_helper \"runai\" {"), "{configuration}");
    let args = configuration.split_once("args = [").expect("arguments").1.split_once(']').expect("their end").0;
    let args = args.split(',').map(|arg| arg.trim().trim_matches('"').to_owned());
    let mut command = home.tool(plugin, args.chain(["get".to_owned(), "registry.acme.example".to_owned()]));
    Running::start(&mut command)
        .finish()
        .code(0)
        .silent()
        .stdout_is(format!("{{\"token\":\"{}\"}}\n", issuer.last_token()));
}
