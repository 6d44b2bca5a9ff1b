//! Sessions that stay at a target by a cookie.
//!
//! ```text
//! request ─→ cookie of a session, not too old, its target registered and healthy ─→ that target
//!        └─→ none, or any of that not so ─→ a target by the scheduler
//! answer ─→ the cookie of whoever answered
//! ```
//!
//! A session's target is not asked twice for one request: where it takes no connection, the next one is chosen, and the session is that one's from then on. Weights do
//! not matter to who has a cookie: a target of weight 0 keeps its sessions.
//!
//! A cookie names its target by address and port, in hexadecimal digits where products have a hash or a secret, and the seconds in which its session was last and
//! first seen. Ages are counted in whole seconds, and a session is over when more than its time has passed since its last answer.
//!
//! Sources: Tengine modules/ngx_http_upstream_session_sticky_module (`ngx_http_session_sticky_get_cookie`, `…_get_peer`, `…_insert`, `…_rewrite`), on which Alibaba's CLB
//! rests, whose cookies look as that module's do; AWS documents "Sticky sessions for your Application Load Balancer".

use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::time::Duration;

use crate::net::cookie;
use crate::net::head::read_head;
use crate::units::SimTime;

/// How sessions stay at targets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sticky {
    /// By a cookie of the balancer's own, in each answer.
    Own {
        /// Its name.
        name: &'static str,
        /// What stands behind its value.
        attributes: &'static str,
        /// How long a session may be silent.
        idle: Duration,
        /// Answers that tell of an error (400 and more) have none.
        spares_errors: bool,
    },
    /// By the target's own cookie, whose value the balancer replaces. It is of its own age; answers without it, and errors, are left as they are.
    Rewritten {
        /// Its name.
        name: Rc<str>,
    },
    /// By a cookie of the balancer's own beside the target's: it comes with that, and counts only together with it.
    Beside {
        /// The balancer's.
        name: &'static str,
        /// What stands behind its value.
        attributes: &'static str,
        /// The target's.
        of_target: Rc<str>,
        /// How long a session may be silent.
        idle: Duration,
    },
}

/// What a request's cookies ask for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// Its target, whether that is one by now or not.
    pub target: SocketAddrV4,
    /// When it was seen first, in seconds.
    first_s: u64,
}

/// What an answer's head is to say.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Mark<'a> {
    /// One header line more, with its end.
    Line(String),
    /// The first cookie of this name has this value.
    Value(&'a str, String),
}

impl Sticky {
    /// The session of a request by its head.
    #[must_use]
    pub fn claim(&self, head: &[u8], now: SimTime) -> Option<Claim> {
        match self {
            Self::Own { name, idle, .. } => parse(found(head, name)?, Some(*idle), now),
            Self::Rewritten { name } => parse(found(head, name)?, None, now),
            Self::Beside { name, of_target, idle, .. } => {
                found(head, of_target)?;
                parse(found(head, name)?, Some(*idle), now)
            }
        }
    }

    /// What the answer of a target says of the session; `head` is the answer's.
    #[must_use]
    pub fn mark(
        &self,
        (head, status): (&[u8], u16),
        target: SocketAddrV4,
        claim: Option<Claim>,
        now: SimTime,
    ) -> Option<Mark<'_>> {
        let now_s = seconds(now);
        let first_s = claim.map_or(now_s, |claim| claim.first_s);
        let line = |name: &str, attributes: &str| {
            Some(Mark::Line(format!("Set-Cookie: {name}={}|{now_s}|{first_s}{attributes}\r\n", id(target))))
        };
        match self {
            Self::Own { name, attributes, spares_errors, .. } if status < 400 || !spares_errors => {
                line(name, attributes)
            }
            Self::Own { .. } => None,
            Self::Rewritten { name } => (status < 400 && sets(head, name)).then(|| Mark::Value(name, id(target))),
            Self::Beside { name, attributes, of_target, .. } if claim.is_some() || sets(head, of_target) => {
                line(name, attributes)
            }
            Self::Beside { .. } => None,
        }
    }
}

/// A target in a cookie: as many digits as a hash has there.
fn id(target: SocketAddrV4) -> String {
    format!("{:032x}", u64::from(target.ip().to_bits()) << 16 | u64::from(target.port()))
}

fn seconds(at: SimTime) -> u64 {
    at.as_nanos() / 1_000_000_000
}

/// A session by its cookie's value, if that is the balancer's and not too old.
fn parse(value: &[u8], idle: Option<Duration>, now: SimTime) -> Option<Claim> {
    let mut parts = str::from_utf8(value).ok()?.split('|');
    let id = u64::from_str_radix(parts.next()?, 16).ok()?;
    let target = SocketAddrV4::new(Ipv4Addr::from_bits(u32::try_from(id >> 16).ok()?), (id & 0xFFFF) as u16);
    let Some(idle) = idle else { return Some(Claim { target, first_s: 0 }) };
    let (last_s, first_s): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (seconds(now).saturating_sub(last_s) <= idle.as_secs()).then_some(Claim { target, first_s })
}

/// The value of a cookie in a request's head.
fn found<'a>(head: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut value = None;
    let _ = read_head(head, |header, text| {
        if value.is_none() && header.eq_ignore_ascii_case(b"cookie") {
            value = cookie::parts(text).find(|(given, _)| *given == name.as_bytes()).and_then(|(_, value)| value);
        }
        Ok(())
    });
    value
}

/// Whether an answer's head sets a cookie.
fn sets(head: &[u8], name: &str) -> bool {
    let mut is_set = false;
    let _ = read_head(head, |header, text| {
        is_set |= header.eq_ignore_ascii_case(b"set-cookie") && is_cookie(text, name);
        Ok(())
    });
    is_set
}

/// Whether a `Set-Cookie` is of this name.
pub(super) fn is_cookie(text: &[u8], name: &str) -> bool {
    cookie::parts(text).next().is_some_and(|(given, _)| given.eq_ignore_ascii_case(name.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::http_proxy::clb;
    use crate::edge::product::aws_alb;

    const TARGET: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 8080);
    const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 8080);

    fn at_ms(ms: u64) -> SimTime {
        SimTime::ZERO.after(Duration::from_millis(ms))
    }

    fn request(cookies: &str) -> Vec<u8> {
        format!("GET / HTTP/1.1\r\nhost: a\r\nCookie: {cookies}\r\n\r\n").into_bytes()
    }

    fn answer(status: u16, set: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status} x\r\n{set}content-length: 0\r\n\r\n").into_bytes()
    }

    /// The cookie that an answer at this time has.
    fn marked(sticky: &Sticky, status: u16, set: &str, session: Option<Claim>, ms: u64) -> Option<String> {
        sticky.mark((&answer(status, set), status), TARGET, session, at_ms(ms)).map(|mark| match mark {
            Mark::Line(line) => line,
            Mark::Value(name, value) => format!("{name} is {value}"),
        })
    }

    #[test]
    fn a_cookie_of_the_balancers_own_leads_back_for_its_time() {
        for sticky in [clb::inserted(Duration::from_secs(60)), aws_alb::sticky(Duration::from_secs(60))] {
            let line = marked(&sticky, 200, "", None, 10_900).expect("each answer has one");
            let cookie = line.strip_prefix("Set-Cookie: ").and_then(|line| line.split(';').next()).expect("a line");
            assert!(cookie.ends_with("=000000000000000000000a0000011f90|10|10"), "{cookie}");
            for (cookies, ms, is_kept) in [
                (cookie.to_owned(), 10_900, true),
                (format!("a=1; {cookie}; b=2"), 70_999, true),
                // 61 seconds after the one in which it was written.
                (cookie.to_owned(), 71_000, false),
                (format!("x{cookie}"), 10_900, false),
                (cookie.replace("|10|10", ""), 10_900, false),
                (cookie.replace("|10|10", "|10|ten"), 10_900, false),
                (cookie.replace("0a00", "zz00"), 10_900, false),
                ("a=1".to_owned(), 10_900, false),
            ] {
                let session = sticky.claim(&request(&cookies), at_ms(ms));
                assert_eq!(session, is_kept.then_some(Claim { target: TARGET, first_s: 10 }), "{cookies} at {ms} ms");
            }
            // With each answer it is as good as new.
            let session = sticky.claim(&request(cookie), at_ms(69_000));
            assert!(marked(&sticky, 200, "", session, 69_500).is_some_and(|line| line.contains("|69|10")));
        }
    }

    #[test]
    fn errors_have_no_cookie_of_a_clb() {
        let (clb, alb) = (clb::inserted(Duration::from_secs(60)), aws_alb::sticky(Duration::from_secs(60)));
        for (status, of_clb) in [(200, true), (302, true), (399, true), (400, false), (503, false)] {
            assert_eq!(marked(&clb, status, "", None, 0).is_some(), of_clb, "{status}");
            assert!(marked(&alb, status, "", None, 0).is_some(), "{status}");
        }
    }

    #[test]
    fn the_targets_cookie_is_rewritten_where_there_is_one() {
        let sticky = clb::rewritten("app");
        for (status, set, is_marked) in [
            (200, "Set-Cookie: app=x; Path=/\r\n", true),
            (200, "set-cookie: other=1\r\nset-cookie: App=x\r\n", true),
            (200, "set-cookie: other=app\r\n", false),
            (200, "", false),
            (500, "set-cookie: app=x\r\n", false),
        ] {
            let mark = marked(&sticky, status, set, None, 0);
            assert_eq!(mark, is_marked.then(|| format!("app is {}", id(TARGET))), "{status} {set}");
        }
        // It has no age but its own.
        let session = sticky.claim(&request(&format!("app={}", id(OTHER))), at_ms(1_000_000_000));
        assert_eq!(session, Some(Claim { target: OTHER, first_s: 0 }));
        assert_eq!(sticky.claim(&request("app=x"), at_ms(0)), None);
    }

    #[test]
    fn a_cookie_beside_the_targets_counts_with_it() {
        let sticky = aws_alb::sticky_beside("app", Duration::from_secs(60));
        assert_eq!(marked(&sticky, 200, "", None, 0), None);
        let line = marked(&sticky, 200, "Set-Cookie: app=x\r\n", None, 0).expect("it comes with the target's");
        let cookie = line.strip_prefix("Set-Cookie: ").and_then(|line| line.split(';').next()).expect("a line");
        let session = |cookies: &str, ms| sticky.claim(&request(cookies), at_ms(ms));
        let kept = Some(Claim { target: TARGET, first_s: 0 });
        assert_eq!(session(&format!("app=x; {cookie}"), 60_999), kept);
        assert_eq!(session(&format!("app=x; {cookie}"), 61_000), None);
        assert_eq!(session(cookie, 0), None);
        // Once it is there, each answer renews it.
        assert!(marked(&sticky, 200, "", kept, 60_000).is_some());
    }
}
