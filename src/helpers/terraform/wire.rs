//! The protocol of a credentials helper of Terraform and OpenTofu.
//!
//! The verb and the host are arguments; the answer is one JSON object on standard output. Source: opentofu,
//! `website/docs/internals/credentials-helpers.mdx`.

use serde::Serialize;

use crate::origin::Origin;
use crate::token::Token;

/// Most bytes of the credentials that `store` offers. They are read and dropped.
pub const MAX_REQUEST: usize = 64 * 1024;

/// The verbs of the protocol.
pub const VERBS: [&str; 3] = ["get", "store", "forget"];

/// Reads a host as Terraform writes it: a name in Punycode, perhaps with a port, never with a scheme. The protocol is https.
///
/// # Errors
/// Returns the end of a sentence that starts with the host.
pub fn origin(host: &str) -> Result<Origin, &'static str> {
    Origin::of_authority(true, host)
}

/// Writes the answer to `get`. Without a token it is an empty object: Terraform then goes on without credentials.
pub fn answer(token: Option<&Token>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<&'a str>,
    }
    // One text: this cannot fail.
    let mut bytes = serde_json::to_vec(&Answer { token: token.map(Token::expose) }).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_an_object_with_or_without_token() {
        let token = Token::new("t0k.en").unwrap();
        assert_eq!(answer(Some(&token)), b"{\"token\":\"t0k.en\"}\n");
        assert_eq!(answer(None), b"{}\n");
    }

    #[test]
    fn host_is_an_https_origin() {
        for (host, wanted) in [
            ("app.terraform.io", "https://app.terraform.io"),
            ("registry.acme.example:8443", "https://registry.acme.example:8443"),
            ("xn--bcher-kva.example", "https://xn--bcher-kva.example"),
        ] {
            assert_eq!(origin(host).map(|origin| origin.to_string()).as_deref(), Ok(wanted));
        }
        for host in
            ["", "https://app.terraform.io", "user@app.terraform.io", "app.terraform.io/path", "a b", "a.example."]
        {
            assert!(origin(host).is_err(), "{host}");
        }
    }
}
