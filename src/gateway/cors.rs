//! Cross-origin requests: which pages of other origins may read an answer.
//!
//! - A request with an `Origin` is one. If the origin is allowed, the answer says so.
//! - A preflight (`OPTIONS` with `Access-Control-Request-Method`) is answered with 200 by the gateway. One whose origin is not allowed is
//!   forwarded, or answered without `Access-Control-Allow-Origin`.
//! - `*` for methods or headers is answered with what was asked for, so that it also holds for requests with credentials.
//!
//! Source: envoy source/extensions/filters/http/cors/cors_filter.cc; istio pilot/pkg/networking/core/route/route.go (`TranslateCORSPolicy`).

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::routes::{Cors, ValueMatch};

/// Envoy's text for an answered preflight.
pub const DETAILS: &str = "cors_response";

/// What a route's policy says to a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CorsVerdict {
    /// It goes on, and its answer stays as it is.
    Pass,
    /// It goes on; [`Cors::sign`] its answer with this origin.
    Sign(HeaderValue),
    /// The gateway answers with 200 and these headers.
    Answer(HeaderMap),
}

impl Cors {
    /// Judges a request.
    #[must_use]
    pub fn judge(&self, method: &Method, headers: &HeaderMap) -> CorsVerdict {
        let Some(origin) = headers.get(ORIGIN).filter(|origin| !origin.is_empty()) else { return CorsVerdict::Pass };
        let is_allowed = origin.to_str().is_ok_and(|origin| self.allows(origin));
        let asked_method = headers.get(ACCESS_CONTROL_REQUEST_METHOD).filter(|asked| !asked.is_empty());
        match asked_method.filter(|_| method == Method::OPTIONS) {
            Some(asked) if is_allowed || !self.forwards_unmatched => {
                let mut answer = self.preflight(asked, headers.get(ACCESS_CONTROL_REQUEST_HEADERS));
                if is_allowed {
                    self.sign(origin, &mut answer);
                }
                CorsVerdict::Answer(answer)
            }
            _ if is_allowed => CorsVerdict::Sign(origin.clone()),
            _ => CorsVerdict::Pass,
        }
    }

    /// Tells a browser that pages of this origin may read an answer.
    pub fn sign(&self, origin: &HeaderValue, response: &mut HeaderMap) {
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            response.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        insert_list(response, ACCESS_CONTROL_EXPOSE_HEADERS, &self.expose, None);
    }

    fn allows(&self, origin: &str) -> bool {
        self.origins.iter().any(|allowed| match allowed {
            ValueMatch::Exact(any) if any == "*" => true,
            allowed => allowed.holds(origin, false),
        })
    }

    fn preflight(&self, asked_method: &HeaderValue, asked_headers: Option<&HeaderValue>) -> HeaderMap {
        let mut answer = HeaderMap::new();
        if self.credentials {
            answer.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        insert_list(&mut answer, ACCESS_CONTROL_ALLOW_METHODS, &self.methods, Some(asked_method));
        insert_list(&mut answer, ACCESS_CONTROL_ALLOW_HEADERS, &self.headers, asked_headers);
        if let Some(max_age) = self.max_age {
            answer.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(max_age.as_secs()));
        }
        answer
    }
}

/// Writes a list; `*` alone becomes what was asked for.
fn insert_list(headers: &mut HeaderMap, name: HeaderName, list: &[String], asked: Option<&HeaderValue>) {
    let value = match list {
        [] => None,
        [any] if any == "*" && name != ACCESS_CONTROL_EXPOSE_HEADERS => asked.cloned(),
        list => HeaderValue::from_str(&list.join(",")).ok(),
    };
    if let Some(value) = value {
        headers.insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn policy() -> Cors {
        let texts = |list: &[&str]| list.iter().map(|text| (*text).to_owned()).collect();
        Cors {
            origins: vec![ValueMatch::Exact("https://a.com".to_owned()), ValueMatch::Prefix("https://b.".to_owned())],
            methods: texts(&["GET", "PUT"]),
            headers: texts(&["x-one", "x-two"]),
            expose: texts(&["x-three"]),
            max_age: Some(Duration::from_secs(3600)),
            credentials: true,
            forwards_unmatched: true,
        }
    }

    fn asking(origin: &'static str, method: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        if let Some(method) = method {
            headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static(method));
            headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("x-four"));
        }
        headers
    }

    fn answer(policy: &Cors, origin: &'static str) -> HeaderMap {
        match policy.judge(&Method::OPTIONS, &asking(origin, Some("DELETE"))) {
            CorsVerdict::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_preflight_is_answered() {
        let answer = answer(&policy(), "https://b.org");
        let text: Vec<String> =
            answer.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        assert_eq!(text.len(), 6);
        for line in [
            "access-control-allow-origin: https://b.org",
            "access-control-allow-credentials: true",
            "access-control-allow-methods: GET,PUT",
            "access-control-allow-headers: x-one,x-two",
            "access-control-expose-headers: x-three",
            "access-control-max-age: 3600",
        ] {
            assert!(text.iter().any(|given| given == line), "{line} is not in {text:?}");
        }
    }

    #[test]
    fn a_star_is_answered_with_what_was_asked_for() {
        let star = || vec!["*".to_owned()];
        let any =
            Cors { origins: vec![ValueMatch::Exact("*".to_owned())], methods: star(), headers: star(), ..policy() };
        let answer = answer(&any, "https://x");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_ORIGIN], "https://x");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_METHODS], "DELETE");
        assert_eq!(answer[ACCESS_CONTROL_ALLOW_HEADERS], "x-four");
    }

    #[test]
    fn other_origins_are_forwarded_or_answered_without_permission() {
        let foreign = asking("https://c.com", Some("GET"));
        assert_eq!(policy().judge(&Method::OPTIONS, &foreign), CorsVerdict::Pass);
        let ignoring = Cors { forwards_unmatched: false, ..policy() };
        assert!(!answer(&ignoring, "https://c.com").contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        assert_eq!(ignoring.judge(&Method::GET, &foreign), CorsVerdict::Pass);
    }

    #[test]
    fn a_simple_request_gets_its_answer_signed() {
        let CorsVerdict::Sign(origin) = policy().judge(&Method::GET, &asking("https://a.com", None)) else { panic!() };
        let mut response = HeaderMap::new();
        policy().sign(&origin, &mut response);
        assert_eq!(response.len(), 3);
        assert_eq!(policy().judge(&Method::OPTIONS, &asking("https://a.com", None)), CorsVerdict::Sign(origin));
        assert_eq!(policy().judge(&Method::GET, &HeaderMap::new()), CorsVerdict::Pass);
    }
}
