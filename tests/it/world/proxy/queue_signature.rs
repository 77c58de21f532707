//! Signs a call of the queue or the database anew: the caller signed it for the proxy's name.
//!
//! The caller's time stays as it is, so that a wrong clock is still a wrong clock.

use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::http::request::Parts;
use sha2::{Digest as _, Sha256};

fn mac(key: &[u8], message: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// Replaces the signature in `headers`, which go out with `body` under the service's own name.
pub(crate) fn sign((host, secret): (&str, &str), parts: &Parts, headers: &mut HeaderMap, body: &[u8]) {
    let old = headers[AUTHORIZATION].to_str().unwrap().to_owned();
    let part = |name: &str| {
        let text = old.split_once(&format!("{name}=")).unwrap().1;
        text.split(',').next().unwrap().trim().to_owned()
    };
    let (credential, signed) = (part("Credential"), part("SignedHeaders"));
    let scope = credential.split_once('/').unwrap().1.to_owned();
    let lines: String = signed
        .split(';')
        .map(|name| match name {
            name if name == HOST.as_str() => format!("{name}:{host}\n"),
            "content-length" => format!("{name}:{}\n", body.len()),
            name => format!("{name}:{}\n", headers[name].to_str().unwrap()),
        })
        .collect();
    let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
    let request = format!("{}\n{}\n\n{lines}\n{signed}\n{}", parts.method, parts.uri.path(), digest(body));
    let date = headers["x-amz-date"].to_str().unwrap();
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", digest(request.as_bytes()));
    let key = scope.split('/').fold(format!("AWS4{}", secret).into_bytes(), |key, step| mac(&key, step));
    let signature = hex::encode(mac(&key, &text));
    let new = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={signature}");
    headers.insert(AUTHORIZATION, new.parse().unwrap());
}
