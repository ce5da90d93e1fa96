//! The policy of `src/broker.rs` as processes see it: one fetch for all, shared failures, refresh, rejection.

use crate::support::*;

/// 200 cold processes: 200 answers, 1 request.
#[test]
fn cold_processes_make_one_request() {
    let (issuer, home) = (Issuer::start(), Home::new());
    home.keycloak(&issuer);
    issuer.set_delay(std::time::Duration::from_millis(100));
    let outcomes = home.spawn_many(200, ["token"]);
    let token = format!("{}\n", issuer.last_token());
    for outcome in &outcomes {
        outcome.code(0).stdout_is(&token).silent();
    }
    assert_eq!(issuer.token_requests(), 1);
}
