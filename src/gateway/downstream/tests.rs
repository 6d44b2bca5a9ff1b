use super::*;

fn peer() -> Peer {
    Peer::new(Some("203.0.113.7".parse().unwrap()), "10.0.0.1:8080".parse().unwrap(), false)
}

fn request(target: &str, headers: &[(&'static str, &'static str)]) -> Request<()> {
    let mut request = Request::builder().uri(target).body(()).unwrap();
    for (name, value) in headers {
        request.headers_mut().append(*name, HeaderValue::from_static(value));
    }
    request
}

fn prepare(config: &DownstreamConfig, request: &mut Request<()>) -> Verdict {
    let mut bits = 0;
    let seen = Seen::of(request.headers());
    config.prepare_request(request, seen, &peer(), None, || {
        bits += 1;
        bits
    })
}

#[test]
fn a_plain_request_gets_four_headers() {
    let mut plain = request("/a?b", &[("host", "h"), ("accept", "*/*")]);
    let Verdict::Continue(prepared) = prepare(&DownstreamConfig::ISTIO_GATEWAY, &mut plain) else { panic!() };
    assert_eq!(prepared.client, peer().address);
    assert_eq!((prepared.scheme, prepared.is_internal, prepared.is_upgrade), (Scheme::Http, false, false));
    let headers = plain.headers();
    assert_eq!(headers.len(), 6);
    assert_eq!(headers["x-forwarded-for"], "203.0.113.7");
    assert_eq!(headers["x-forwarded-proto"], "http");
    assert_eq!(headers["x-envoy-external-address"], "203.0.113.7");
    assert_eq!(headers["x-request-id"], "00000000-0000-4001-8000-000000000002");
    assert_eq!(plain.uri(), "/a?b");
}

#[test]
fn what_a_client_says_of_itself_is_not_believed() {
    let headers = [
        ("host", "h"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-client-cert", "By=me"),
        ("x-envoy-retry-on", "5xx"),
        ("x-request-id", "mine"),
        ("te", "gzip"),
    ];
    let mut forged = request("/../a", &headers);
    assert!(matches!(prepare(&DownstreamConfig::ISTIO_GATEWAY, &mut forged), Verdict::Continue(_)));
    assert_eq!(forged.uri(), "/a");
    assert_eq!(forged.headers()["x-forwarded-for"], "10.0.0.1,203.0.113.7");
    assert_eq!(forged.headers()["x-forwarded-proto"], "http");
    assert_ne!(forged.headers()["x-request-id"], "mine");
    for gone in ["x-forwarded-client-cert", "x-envoy-retry-on", "te"] {
        assert!(!forged.headers().contains_key(gone), "{gone}");
    }
    let behind = DownstreamConfig { trusted_hops: 1, ..DownstreamConfig::ISTIO_GATEWAY };
    let mut forwarded = request("/", &headers);
    let Verdict::Continue(prepared) = prepare(&behind, &mut forwarded) else { panic!() };
    assert_eq!(prepared.client, Some("10.0.0.1".parse().unwrap()));
    assert_eq!(prepared.scheme, Scheme::Https);
}

#[test]
fn some_requests_go_no_further() {
    let istio = DownstreamConfig::ISTIO_GATEWAY;
    let refused = |config: &DownstreamConfig, target: &str, headers: &[(&'static str, &'static str)]| match prepare(
        config,
        &mut request(target, headers),
    ) {
        Verdict::Continue(_) => panic!("{target} goes on"),
        Verdict::Reply(refusal) => (refusal.status.as_u16(), refusal.details, refusal.location),
    };
    let host = ("host", "h");
    assert_eq!(refused(&istio, "/", &[]), (400, "missing_host_header", None));
    assert_eq!(refused(&istio, "*", &[host]), (404, "absolute_path_rejected", None));
    assert_eq!(refused(&istio, "/%00", &[host]), (400, "path_normalization_failed", None));
    let connection = ("connection", "x-forwarded-for");
    assert_eq!(refused(&istio, "/", &[host, connection]), (400, "http1.connection_header_rejected", None));
    let path = PathPolicy { escaped_slashes: EscapedSlashes::UnescapeAndRedirect, ..istio.path };
    let redirecting = DownstreamConfig { path, ..istio.clone() };
    let location = HeaderValue::from_static("/a/b?c");
    assert_eq!(refused(&redirecting, "/a%2fb?c", &[host]), (307, "path_normalization_failed", Some(location)));
}

#[test]
fn the_host_of_an_absolute_target_wins() {
    let mut absolute = request("http://user@other:81/a?b", &[("host", "h")]);
    assert!(matches!(prepare(&DownstreamConfig::ISTIO_GATEWAY, &mut absolute), Verdict::Continue(_)));
    assert_eq!(absolute.headers()["host"], "other:81");
    assert_eq!(absolute.uri(), "/a?b");
}
