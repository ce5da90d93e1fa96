//! Writes the request to a token endpoint. Pure.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use form_urlencoded::{Serializer, byte_serialize};

use crate::http::Request;
use crate::profile::{Api, ClientAuth, Profile, Proof};
use crate::secret::Secret;

/// Returns a request with an empty body, to see whether a server answers.
pub(super) fn empty(profile: &Profile) -> Request {
    Request {
        url: profile.endpoint.clone(),
        content_type: "application/x-www-form-urlencoded",
        authorization: None,
        body: String::new(),
    }
}

/// Returns the request that the profile's `api` (see [`Api`]) needs, with `proof`.
pub(super) fn write(profile: &Profile, proof: &Secret) -> Request {
    let mut request = empty(profile);
    let (id, secret) = (profile.client_id.as_str(), proof.expose());
    let json = match profile.api {
        // Run:ai's how-to pages spell the members like this. Its OpenAPI description has other spellings. The
        // server accepts both.
        Api::V1 => serde_json::json!({ "grantType": "client_credentials", "clientId": id, "clientSecret": secret }),
        Api::AppToken => serde_json::json!({ "grantType": "app_token", "AppId": id, "AppSecret": secret }),
        Api::Keycloak | Api::V2 | Api::Oauth2 => {
            (request.authorization, request.body) = form(profile, secret);
            return request;
        }
    };
    request.content_type = "application/json";
    request.body = json.to_string();
    request
}

/// Returns the `Authorization` header, if there is one, and the form of RFC 6749 §4.4.2.
///
/// No parameter occurs twice, because Keycloak refuses such a form.
fn form(profile: &Profile, secret: &str) -> (Option<String>, String) {
    let id = profile.client_id.as_str();
    let mut form = Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    for (name, value) in [("scope", &profile.scope), ("audience", &profile.audience), ("resource", &profile.resource)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    if profile.api == Api::Keycloak {
        // Run:ai's documentation has this parameter. Keycloak does not read it for this grant.
        form.append_pair("response_type", "id_token");
    }
    let mut authorization = None;
    match &profile.proof {
        Proof::Secret(_, ClientAuth::Post) => {
            form.append_pair("client_id", id).append_pair("client_secret", secret);
        }
        Proof::Secret(_, ClientAuth::Basic) => {
            // The id and the secret are form-encoded before they are joined, so the id may contain a colon
            // (RFC 6749 section 2.3.1).
            let encoded = |text: &str| byte_serialize(text.as_bytes()).collect::<String>();
            let pair = format!("{}:{}", encoded(id), encoded(secret));
            authorization = Some(format!("Basic {}", BASE64_STANDARD.encode(pair)));
        }
        Proof::Assertion(_) => {
            // The parameters of RFC 7523 section 2.2.
            form.append_pair("client_id", id)
                .append_pair("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer")
                .append_pair("client_assertion", secret);
        }
    }
    (authorization, form.finish())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::Draft;
    use crate::secret::Source;

    fn request_line(keys: &[(&'static str, &'static str)], proof: &str) -> String {
        let mut draft = Draft::default();
        for (key, value) in keys {
            draft.text(key, (*value).into()).unwrap();
        }
        if proof.contains('.') {
            draft.assertion("/token").unwrap();
        } else {
            draft.secret(Source::Keyring).unwrap();
        }
        let profile = draft.finish("p", "/c.json").unwrap();
        let Request { url, content_type, authorization, body } =
            write(&profile, &Secret::new(proof.as_bytes(), 64).unwrap());
        format!("{url} {content_type} {} {body}", authorization.unwrap_or_default())
    }

    #[test]
    fn request_of_each_api_matches_documentation() {
        let (url, id) = (("url", "https://a.example"), ("client_id", "ci pipe"));
        let form = "application/x-www-form-urlencoded";
        for (keys, proof, wanted) in [
            (
                &[url, id, ("realm", "acme")][..],
                "s&cret",
                format!(
                    "https://a.example/auth/realms/acme/protocol/openid-connect/token {form}  grant_type=client_credentials\
                     &scope=openid&response_type=id_token&client_id=ci+pipe&client_secret=s%26cret"
                ),
            ),
            (
                &[url, id, ("realm", "acme"), ("scope", "")],
                "s",
                format!(
                    "https://a.example/auth/realms/acme/protocol/openid-connect/token {form}  grant_type=client_credentials\
                     &response_type=id_token&client_id=ci+pipe&client_secret=s"
                ),
            ),
            (
                &[url, id],
                "s",
                format!(
                    "https://a.example/api/v2/token {form}  grant_type=client_credentials&client_id=ci+pipe&client_secret=s"
                ),
            ),
            (
                &[url, id, ("client_auth", "basic")],
                "a:b%c",
                // The Base64 text encodes "ci+pipe:a%3Ab%25c".
                format!(
                    "https://a.example/api/v2/token {form} Basic Y2krcGlwZTphJTNBYiUyNWM= grant_type=client_credentials"
                ),
            ),
            (
                &[url, id, ("api", "v1")],
                "s\"",
                "https://a.example/api/v1/token application/json  \
                 {\"clientId\":\"ci pipe\",\"clientSecret\":\"s\\\"\",\"grantType\":\"client_credentials\"}"
                    .to_owned(),
            ),
            (
                &[url, id, ("api", "app-token")],
                "s",
                "https://a.example/api/v1/token application/json  \
                 {\"AppId\":\"ci pipe\",\"AppSecret\":\"s\",\"grantType\":\"app_token\"}"
                    .to_owned(),
            ),
            (
                &[("token_url", "https://idp.example/t"), id, ("audience", "runai"), ("resource", "https://r.example")],
                "a.b.c",
                format!(
                    "https://idp.example/t {form}  grant_type=client_credentials&audience=runai&resource=https%3A%2F%2Fr.example\
                     &client_id=ci+pipe&client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer\
                     &client_assertion=a.b.c"
                ),
            ),
        ] {
            assert_eq!(request_line(keys, proof), wanted);
        }
    }
}
