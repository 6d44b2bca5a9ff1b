//! What it costs to find a request's route among ten hosts and among ten thousand, each with ten routes.
//!
//! - `exact`, `wildcard`: the host by its name, or by `*.` and the rest of it; the last of its routes.
//! - `few`: always the same ten hosts are asked for, so that only the table grows. `all`: every host of the table, in an order without
//!   pattern, so that the processor's caches miss too.
//!
//! Printed at the end: how many times as much ten thousand hosts cost as ten. With `--test` everything runs once.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gatedrill::gateway::routes::{
    Action, Destination, Forward, PathMatch, PortRoutes, RequestView, Route, RouteMatch, VirtualHost,
};
use http::{HeaderMap, Method};

const FEW: usize = 10;
const MANY: usize = 10_000;
const ROUTES: usize = 10;
/// A step that has no divisor in common with the numbers of hosts.
const STEP: usize = 7_919;

/// How hosts are named in the table.
#[derive(Clone, Copy)]
enum Names {
    Exact,
    Wildcard,
}

/// Which hosts are asked for.
#[derive(Clone, Copy)]
enum Asked {
    Few,
    All,
}

fn table(hosts: usize, names: Names) -> PortRoutes {
    let mut table = PortRoutes::default();
    for host in 0..hosts {
        let routes = (0..ROUTES).map(|route| {
            let destination = Destination::cluster(format!("outbound|80||service-{host}.shop.svc.cluster.local"), 1);
            let condition = RouteMatch::path(PathMatch::Prefix(format!("/service-{route}/")));
            Arc::new(Route::new(format!("route-{route}"), condition, Action::Forward(Forward::to(vec![destination]))))
        });
        let name = match names {
            Names::Exact => format!("host-{host}.example.com"),
            Names::Wildcard => format!("*.host-{host}.example.com"),
        };
        table.add(VirtualHost::new(name, routes.collect()));
    }
    table
}

/// The values of `Host` headers, in the order in which they come.
fn asked(hosts: usize, names: Names, asked: Asked) -> Vec<String> {
    let count = match asked {
        Asked::Few => FEW,
        Asked::All => hosts,
    };
    let hosts = (0..count).map(|turn| turn * STEP % hosts);
    let name = |host| match names {
        Names::Exact => format!("host-{host}.example.com"),
        Names::Wildcard => format!("shop.host-{host}.example.com"),
    };
    hosts.map(name).collect()
}

fn look_up(table: &PortRoutes, authorities: &[String], headers: &HeaderMap) {
    for authority in authorities {
        let view = RequestView {
            method: &Method::GET,
            authority,
            scheme: "http",
            path: "/service-9/item",
            query: None,
            headers,
        };
        let found = table.find(black_box(&view)).and_then(|found| found.route);
        black_box(found.expect("each host has the route"));
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints")]
fn main() {
    let is_smoke = std::env::args().any(|argument| argument == "--test");
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    let headers = HeaderMap::new();
    for (label, names) in [("exact", Names::Exact), ("wildcard", Names::Wildcard)] {
        let tables = [table(FEW, names), table(MANY, names)];
        for (pattern, which) in [("few", Asked::Few), ("all", Asked::All)] {
            let work = [asked(FEW, names, which), asked(MANY, names, which)];
            let mut group = criterion.benchmark_group(format!("route_lookup/{label}/{pattern}"));
            for (table, asked) in tables.iter().zip(&work) {
                group.throughput(Throughput::Elements(u64::try_from(asked.len()).expect("a count")));
                let hosts = table.hosts().len().to_string();
                group.bench_function(hosts, |bencher| bencher.iter(|| look_up(table, asked, &headers)));
            }
            group.finish();
            if !is_smoke {
                let [few, many] = in_turns([&tables[0], &tables[1]], [&work[0], &work[1]], &headers);
                let ratio = many / few;
                println!(
                    "route_lookup/{label}/{pattern}: {few:.1} ns of 10 hosts, {many:.1} ns of 10,000: {ratio:.2} times\n"
                );
            }
        }
    }
    criterion.final_summary();
}

/// Both tables in turns, so that the machine's noise meets them alike; nanoseconds for one look-up of each.
#[expect(clippy::disallowed_types, reason = "a benchmark measures")]
fn in_turns(tables: [&PortRoutes; 2], asked: [&Vec<String>; 2], headers: &HeaderMap) -> [f64; 2] {
    const LOOKUPS: usize = 200_000;
    let mut spent = [Duration::ZERO; 2];
    for _ in 0..10 {
        for index in [0, 1] {
            let start = std::time::Instant::now();
            for _ in 0..LOOKUPS / asked[index].len() {
                look_up(tables[index], asked[index], headers);
            }
            spent[index] += start.elapsed();
        }
    }
    spent.map(|spent| spent.as_secs_f64() * 1e9 / 10.0 / f64::from(u32::try_from(LOOKUPS).expect("a count")))
}
