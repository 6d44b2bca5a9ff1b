//! What a scenario says of the load balancer, and of those that are there before the run.

use super::{delay, name, span};
use crate::drill::NameSpec;
use crate::manifest::{Field, Place};
use crate::scenario::product::{self, ProductSettings};
use crate::scenario::settings::{
    BalancerOrigin, BalancerSettings, CheckSettings, KnownBalancer, WithoutDrain, defaults,
};

pub(super) fn balancer(field: Option<&Field<'_>>) -> Option<BalancerSettings> {
    let fields = field.and_then(Field::fields);
    let fields = fields.as_ref();
    let product = product::read(fields, field.map_or(Place::NOWHERE, Field::place));
    let of_product = product.as_ref().and_then(ProductSettings::controller);
    let controller_latency = delay(fields, "controllerLatency", of_product.unwrap_or(defaults::CONTROLLER_LATENCY));
    let in_batches = match fields.and_then(|fields| fields.get("controller")) {
        Some(field) => field.choice(&[("each", false), ("batches", true)]),
        None => Some(defaults::IN_BATCHES),
    };
    let call_latency = span(fields, "callLatency", defaults::CALL_LATENCY);
    let throttled = fields.and_then(|fields| fields.get("throttled")).map_or(Some(0.0), |field| field.ratio());
    let tls_round_trips = match fields.and_then(|fields| fields.get("tlsRoundTrips")) {
        Some(field) => field.whole(0, 10),
        None => Some(defaults::TLS_ROUND_TRIPS),
    };
    let target_keep_alive = match fields.and_then(|fields| fields.get("targetKeepAlive")) {
        Some(field) => field.duration().map(|span| Some(span).filter(|span| !span.is_zero())),
        None => Some(None),
    };
    let without_drain = match fields.and_then(|fields| fields.get("withoutDrain")) {
        Some(field) => field.choice(&[("cut", WithoutDrain::Cut), ("keep", WithoutDrain::Keep)]),
        None => Some(WithoutDrain::Cut),
    };
    let names = match fields.and_then(|fields| fields.get("dns")) {
        Some(field) => names(&field),
        None => Some(NameSpec { probing: defaults::NAME_PROBING, ttl: defaults::NAME_TTL }),
    };
    let is_proxy_mode = match fields.and_then(|fields| fields.get("ipMode")) {
        Some(field) => field.choice(&[("VIP", false), ("Proxy", true)]),
        None => Some(false),
    };
    let check = fields.and_then(|fields| fields.get("healthCheck"));
    let health_check = match &check {
        Some(field) => health_check(field)?,
        None => CheckSettings::default(),
    };
    if let Some(fields) = fields {
        fields.finish();
    }
    Some(BalancerSettings {
        product: product?,
        controller_latency: controller_latency?,
        in_batches: in_batches?,
        call_latency: call_latency?,
        throttled_ppm: parts_per_million(throttled?),
        tls_round_trips: tls_round_trips?,
        target_keep_alive: target_keep_alive?,
        names: names?,
        health_check,
        without_drain: without_drain?,
        is_proxy_mode: is_proxy_mode?,
    })
}

/// A share of one in whole parts per million.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share is from 0 to 1")]
fn parts_per_million(share: f64) -> u32 {
    (share * 1_000_000.0).round() as u32
}

/// How soon a name server knows of a dead address, and for how long clients keep its answers.
fn names(field: &Field<'_>) -> Option<NameSpec> {
    let fields = field.fields()?;
    let probing = fields.get("probing").map_or(Some(defaults::NAME_PROBING), |field| field.duration());
    let ttl = fields.get("ttl").map_or(Some(defaults::NAME_TTL), |field| field.duration());
    fields.finish();
    Some(NameSpec { probing: probing?, ttl: ttl? })
}

fn health_check(field: &Field<'_>) -> Option<CheckSettings> {
    let fields = field.fields()?;
    let span = |key: &str| fields.get(key).map(|field| field.positive_duration());
    let count = |key: &str| fields.get(key).map(|field| field.whole::<u32>(1, 10));
    let (interval, timeout) = (span("interval"), span("timeout"));
    let (healthy, unhealthy) = (count("healthyThreshold"), count("unhealthyThreshold"));
    fields.finish();
    // Inside: written and wrong. That is told already, and no scenario comes of it.
    Some(CheckSettings {
        interval: interval.flatten(),
        timeout: timeout.flatten(),
        healthy_threshold: healthy.flatten(),
        unhealthy_threshold: unhealthy.flatten(),
    })
}

/// A balancer that is there before the run.
pub(super) fn known_balancer(field: &Field<'_>) -> Option<KnownBalancer> {
    let fields = field.fields()?;
    let id = fields.require("id", "write the id that Services name: id: lb-shop").and_then(|field| field.text());
    let origin = match fields.get("madeBy") {
        Some(field) => field.choice(&ORIGINS),
        None => Some(BalancerOrigin::Hand),
    };
    let region = fields.get("region").map(|field| name(&field));
    let is_shared = fields.get("sharedPerformance").map_or(Some(false), |field| field.boolean());
    fields.finish();
    let (id, region) = (id?.to_owned(), region.flatten());
    Some(KnownBalancer { id, origin: origin?, region, is_shared_performance: is_shared? })
}

/// Who may have made a balancer.
pub(in crate::scenario) const ORIGINS: [(&str, BalancerOrigin); 2] =
    [("hand", BalancerOrigin::Hand), ("kubernetes", BalancerOrigin::Kubernetes)];
