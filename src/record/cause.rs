//! Why a request was lost: a code that never changes, a name, one line of meaning, and what to set instead.
//!
//! 41xx: the way to the gateway and its shutdown · 42xx: the gateway's own answers · 43xx: timing between client and server.

use std::fmt;

/// Why a request was lost.
///
/// There is no "unknown": a drop without a cause is an error of the simulator and fails the run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum CauseCode {
    /// The balancer sent a new connection to a pod that no longer listens.
    LbStaleTarget,
    /// A kept connection was used again after its pod had exited.
    ExitIdleConnection,
    /// The process ended while the request was open.
    ExitInFlight,
    /// The balancer cut the connection when it removed the target.
    LbCutConnection,
    /// The balancer had no target to send to.
    LbNoTarget,
    /// The node has no local pod, and the Service allows no other.
    LocalPolicyBlackhole,
    /// The client ignored `Connection: close`, and the draining gateway, or a balancer that is a proxy, answered no more.
    DrainCloseIgnored,
    /// The listener closed before the process ended.
    ListenerDrained,
    /// The pod was killed at the end of its grace period.
    GraceExceeded,
    /// The pod's node had died.
    NodeLost,
    /// The balancer and its address had been deleted.
    LbDeleted,
    /// The kernel had killed the pod's process for its memory.
    OutOfMemory,
    /// The kubelet had ended the pod's process because its liveness or startup probe failed.
    ProbeKill,
    /// The kubelet had evicted the pod because its node was short of memory.
    NodePressure,
    /// The Service in front never got a balancer.
    LbNotCreated,
    /// Another Service had overwritten the balancer's listener.
    LbListenerTaken,
    /// The Service no longer had the port that was asked for.
    FrontPortClosed,
    /// The gateway no longer listened on the port that it was sent to.
    ListenerRemoved,
    /// The gateway never had a configuration.
    GatewayUnconfigured,
    /// A node sent a new connection to a pod that no longer listens.
    StaleNodeRules,
    /// The Service had no endpoint at all.
    NoEndpoint,
    /// The node had no room for another connection.
    ConntrackFull,
    /// The node had no source port left for another connection to the pod.
    SnatPortsExhausted,
    /// The balancer could take no more connections.
    LbLimit,
    /// The zone of the balancer's address had failed.
    LbZoneLost,
    /// The balancer could take no more requests.
    LbQueryLimit,
    /// The answer came later than the balancer waits.
    LbRequestTimeout,
    /// The balancer's health check failed at pods that were ready.
    LbCheckFails,
    /// The balancer had targets, and none that had passed its health check yet.
    LbTargetUnchecked,
    /// The kubelet had evicted the pod because its node was short of disk.
    DiskPressure,
    /// The kubelet had evicted the pod because it took more of its node's disk than it may.
    StorageLimit,
    /// The backend refused the gateway's connection.
    UpstreamRefused,
    /// The backend closed the connection before its answer.
    UpstreamClosed,
    /// No healthy backend was left.
    NoHealthyUpstream,
    /// The backend's answer came later than the route allows.
    UpstreamTimeout,
    /// No route matched.
    NoRoute,
    /// The route names a service nobody declared.
    ClusterNotFound,
    /// A limit on connections or requests to the backend was reached.
    UpstreamOverflow,
    /// The route answers with an error of its own.
    DirectResponse,
    /// A fault was injected.
    FaultInjected,
    /// The gateway refused the request as malformed.
    RequestRefused,
    /// The answer came later than the client waits.
    ClientTimeout,
    /// The host connected to no longer exists.
    ConnectTimeout,
    /// The server closed the kept connection at the moment it was used again.
    KeepaliveRace,
    /// The connection had been idle for too long.
    IdleTimeout,
}

/// What to set where nobody was left to send to: what took the pods away says it, where it was no rollout.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Remedy {
    /// They were evicted through the API: by a drain, a node's reclaim, an autoscaler of nodes.
    Evictions,
    /// Their kubelet evicted them.
    Pressure,
    /// Their nodes went.
    Nodes,
    /// They were deleted or killed.
    Deletions,
    /// Fewer were wanted.
    Size,
    /// A line asks for what is not there.
    Line,
    /// Whoever ended them gave them less time than they need.
    Grace,
    /// Something else.
    Replicas,
}

impl Remedy {
    /// In one line without a full stop.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Evictions => {
                "keep pods while others are evicted: a PodDisruptionBudget with minAvailable, one node drained at a time, pods spread over nodes, and a readiness gate, by which a new pod counts only once the balancer sends to it"
            }
            Self::Pressure => {
                "let no kubelet have to evict: requests that say what pods need, nodes with room for it, pods spread over nodes; a budget holds no kubelet back"
            }
            Self::Nodes => {
                "spread pods over nodes and zones (topologySpreadConstraints, podAntiAffinity), so that no node takes all of them with it"
            }
            Self::Deletions => {
                "take away one pod at a time, the next when the one before is replaced and registered, and run more replicas"
            }
            Self::Line => "take that line back, or have ready what it asks for before it holds",
            Self::Grace => {
                "give no grace of its own, or one longer than preStop plus drain: the pod ends by itself when it is done"
            }
            Self::Size => "keep enough pods at the smallest size: replicas, or minReplicas of the autoscaler",
            Self::Replicas => "keep enough pods ready and registered: more replicas, spread over nodes",
        }
    }
}

/// The static part of a cause.
struct Entry {
    code: &'static str,
    name: &'static str,
    meaning: &'static str,
    fix: &'static str,
}

impl CauseCode {
    /// All causes, by code.
    pub const ALL: [Self; 45] = [
        Self::LbStaleTarget,
        Self::ExitIdleConnection,
        Self::ExitInFlight,
        Self::LbCutConnection,
        Self::LbNoTarget,
        Self::LocalPolicyBlackhole,
        Self::DrainCloseIgnored,
        Self::ListenerDrained,
        Self::GraceExceeded,
        Self::NodeLost,
        Self::LbDeleted,
        Self::OutOfMemory,
        Self::ProbeKill,
        Self::NodePressure,
        Self::LbNotCreated,
        Self::LbListenerTaken,
        Self::FrontPortClosed,
        Self::ListenerRemoved,
        Self::GatewayUnconfigured,
        Self::StaleNodeRules,
        Self::NoEndpoint,
        Self::ConntrackFull,
        Self::SnatPortsExhausted,
        Self::LbLimit,
        Self::LbZoneLost,
        Self::LbQueryLimit,
        Self::LbRequestTimeout,
        Self::LbCheckFails,
        Self::LbTargetUnchecked,
        Self::DiskPressure,
        Self::StorageLimit,
        Self::UpstreamRefused,
        Self::UpstreamClosed,
        Self::NoHealthyUpstream,
        Self::UpstreamTimeout,
        Self::NoRoute,
        Self::ClusterNotFound,
        Self::UpstreamOverflow,
        Self::DirectResponse,
        Self::FaultInjected,
        Self::RequestRefused,
        Self::ClientTimeout,
        Self::ConnectTimeout,
        Self::KeepaliveRace,
        Self::IdleTimeout,
    ];

    /// The code, such as `GD4101`.
    #[must_use]
    pub fn code(self) -> &'static str {
        self.entry().code
    }

    /// The name, such as `lb-stale-target`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.entry().name
    }

    /// What happened, in one line without a full stop.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        self.entry().meaning
    }

    /// What to set instead, in one line without a full stop.
    #[must_use]
    pub fn fix(self) -> &'static str {
        self.entry().fix
    }

    /// The cause of that code or name.
    #[must_use]
    pub fn find(code_or_name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|cause| cause.code().eq_ignore_ascii_case(code_or_name) || cause.name() == code_or_name)
    }

    #[expect(clippy::too_many_lines, reason = "a flat table, one entry per cause")]
    const fn entry(self) -> Entry {
        match self {
            Self::LbStaleTarget => entry(
                "GD4101",
                "lb-stale-target",
                "the load balancer sent a new connection to a pod that no longer listens",
                "keep the pod serving longer than the balancer needs to remove it: preStop sleep or a longer drain",
            ),
            Self::ExitIdleConnection => entry(
                "GD4102",
                "exit-idle-connection",
                "a client reused a kept connection whose pod had already exited",
                "keep the pod serving until idle clients have come back, or let clients watch idle connections and retry",
            ),
            Self::ExitInFlight => entry(
                "GD4103",
                "exit-in-flight",
                "the process ended while the request was still open",
                "let a pod drain for longer than the longest request takes, and give it a grace period above that",
            ),
            Self::LbCutConnection => entry(
                "GD4104",
                "lb-cut-connection",
                "the load balancer cut the connection when it removed the target",
                "let the balancer keep connections of a removed target as long as they live, if it can: connection draining; else take targets out when few are open",
            ),
            Self::LbNoTarget => entry(
                "GD4105",
                "lb-no-target",
                "the load balancer had no healthy target to send to",
                "keep enough pods ready and registered: a RollingUpdate with maxUnavailable 0, more replicas",
            ),
            Self::LocalPolicyBlackhole => entry(
                "GD4106",
                "local-policy-blackhole",
                "the node has no pod of its own and the Service's traffic policy is Local",
                "use policy Cluster (with pod backends it keeps clients' addresses too), or keep a pod on every node that clients come to",
            ),
            Self::DrainCloseIgnored => entry(
                "GD4107",
                "drain-close-ignored",
                "the client ignored `Connection: close`, and its next request on that connection was swallowed",
                "make the client honour `Connection: close`",
            ),
            Self::ListenerDrained => entry(
                "GD4108",
                "listener-drained",
                "the draining gateway closed its listener before the process ended",
                "let the gateway listen for as long as the pod keeps running: of Envoy the drain time (drain-time-s, 45 s by default), of others their delay before the shutdown",
            ),
            Self::GraceExceeded => entry(
                "GD4109",
                "grace-exceeded",
                "the pod was killed at the end of its grace period",
                "raise terminationGracePeriodSeconds above preStop plus drain",
            ),
            Self::NodeLost => entry(
                "GD4110",
                "node-lost",
                "the node of the pod had died, so nobody answered and open connections hung",
                "spread pods over nodes, let the balancer's health check be quick, and clients give up early and retry",
            ),
            Self::LbDeleted => entry(
                "GD4111",
                "lb-deleted",
                "the load balancer had been deleted with its Service, and its address with it",
                "move clients to another address before the gateway, or its Service of type LoadBalancer, goes",
            ),
            Self::OutOfMemory => entry(
                "GD4112",
                "out-of-memory",
                "the pod held more memory than its limit, and the kernel killed it with all its connections",
                "raise the gateway's memory limit, or spread connections: more replicas, shorter keep-alive",
            ),
            Self::ProbeKill => entry(
                "GD4113",
                "probe-kill",
                "the kubelet ended and restarted the process because its liveness or startup probe had failed",
                "probe what the process answers, and be patient: failureThreshold, timeoutSeconds, a startup probe",
            ),
            Self::NodePressure => entry(
                "GD4114",
                "node-pressure",
                "the node was short of memory, and the kubelet evicted the pod",
                "ask for the memory that the gateway uses (resources.requests), or give nodes more of it",
            ),
            Self::LbNotCreated => entry(
                "GD4115",
                "lb-not-created",
                "the Service in front never got a load balancer, so clients had no address to go to",
                "read the Service's events: give it a balancer of its own, in a cluster that supports them",
            ),
            Self::LbListenerTaken => entry(
                "GD4116",
                "lb-listener-taken",
                "another Service that reuses the load balancer had overwritten its listener",
                "give each Service a balancer of its own, or other ports, and leave force-override-listeners out",
            ),
            Self::FrontPortClosed => entry(
                "GD4117",
                "front-port-closed",
                "the Service no longer had the port that was asked for: its listener at the balancer, or at the nodes, was gone",
                "move clients to another port first, and take the old one out of the Service when nobody asks for it",
            ),
            Self::ListenerRemoved => entry(
                "GD4118",
                "listener-removed",
                "the gateway no longer listened on the port that the connection was sent to",
                "change ports in steps: the new one in Gateway and Service first, then the old one out of the Service, then of the Gateway",
            ),
            Self::GatewayUnconfigured => entry(
                "GD4119",
                "gateway-unconfigured",
                "the gateway had no configuration, so its pods were never ready and the balancer had no target",
                "write namespace: istio-system: gateways elsewhere are served no configuration",
            ),
            Self::StaleNodeRules => entry(
                "GD4121",
                "stale-node-rules",
                "a node's kube-proxy still sent a new connection to a pod that no longer listens",
                "keep the pod serving longer than nodes need to hear that it leaves: preStop sleep or a longer drain",
            ),
            Self::NoEndpoint => entry(
                "GD4122",
                "no-endpoint",
                "the Service had no endpoint, so its node refused the connection",
                "keep enough pods ready: a RollingUpdate with maxUnavailable 0, more replicas",
            ),
            Self::ConntrackFull => entry(
                "GD4123",
                "conntrack-full",
                "the node's connection table was full, and it dropped the packet that asked for another connection",
                "reuse connections, spread them over more nodes, or raise kube-proxy's conntrack.maxPerCore",
            ),
            Self::SnatPortsExhausted => entry(
                "GD4124",
                "snat-ports-exhausted",
                "the node had no source port left for another connection to that pod",
                "use externalTrafficPolicy: Local or pod backends, reuse connections, or add pods",
            ),
            Self::LbLimit => entry(
                "GD4125",
                "lb-limit",
                "the load balancer had reached a limit on connections and dropped a new one",
                "reuse connections, or raise the limit: a larger spec, instance-charge-type PayByCLCU, a higher cps",
            ),
            Self::LbZoneLost => entry(
                "GD4126",
                "lb-zone-lost",
                "the zone of the balancer's address that the client knew had failed, or the balancer had left it",
                "let clients try the balancer's other addresses soon: short connect timeouts, retries, a short DNS cache",
            ),
            Self::LbQueryLimit => entry(
                "GD4127",
                "lb-query-limit",
                "the load balancer had reached its limit on requests per second and answered 503",
                "raise the limit: a larger spec or instance-charge-type PayByCLCU; or use a listener for TCP, which counts none",
            ),
            Self::LbRequestTimeout => entry(
                "GD4128",
                "lb-request-timeout",
                "the answer, or the connection for it, came later than the load balancer waits, and it answered 504",
                "raise its timeout (request-timeout, idle_timeout) above the slowest answers, or make them faster",
            ),
            Self::LbCheckFails => entry(
                "GD4129",
                "lb-check-fails",
                "the load balancer's health check failed at pods that were ready, and it sent to none of them",
                "check what a ready gateway answers: a port that it listens on; with HTTP, port 15021 and /healthz/ready, and a status that counts",
            ),
            Self::LbTargetUnchecked => entry(
                "GD4130",
                "lb-target-unchecked",
                "the load balancer had targets that were ready, and none of them had passed its health check yet",
                "let old pods serve until new ones have passed (a readiness gate of the balancer, preStop sleep), check more often, and check what the gateway answers",
            ),
            Self::DiskPressure => entry(
                "GD4131",
                "disk-pressure",
                "the node was short of disk, and the kubelet evicted the pod",
                "see node_disk_pressure for what filled it: larger or cleaner disks, or requests of ephemeral-storage as large as the gateway's use",
            ),
            Self::StorageLimit => entry(
                "GD4132",
                "storage-limit",
                "the pod took more of its node's disk than its limit allows, and the kubelet evicted it",
                "raise the limit of ephemeral-storage, or sizeLimit, or write less: access logs to stdout are rotated, files are not",
            ),
            Self::UpstreamRefused => entry(
                "GD4201",
                "upstream-refused",
                "the backend refused the gateway's connection",
                "let backends serve on after SIGTERM (preStop sleep) until the gateway has dropped their endpoints, and listen on a port before their Service leads to it",
            ),
            Self::UpstreamClosed => entry(
                "GD4202",
                "upstream-closed",
                "the backend closed the connection before it had answered",
                "let backends finish open requests before they exit, or retry on reset",
            ),
            Self::NoHealthyUpstream => entry(
                "GD4203",
                "no-healthy-upstream",
                "the service had no healthy endpoint left",
                "keep backends ready: maxUnavailable 0, more replicas, a gentler outlier ejection",
            ),
            Self::UpstreamTimeout => entry(
                "GD4204",
                "upstream-timeout",
                "the backend answered later than the route's timeout",
                "raise the route's timeout above the backend's slowest answers, or make them faster",
            ),
            Self::NoRoute => entry(
                "GD4205",
                "no-route",
                "no route of the gateway matched the request",
                "check hosts and paths of the VirtualService against the request",
            ),
            Self::ClusterNotFound => entry(
                "GD4206",
                "cluster-not-found",
                "the route names a service the gateway does not know",
                "declare the Service, correct the destination's host and port, or take routes away before a Service they lead to",
            ),
            Self::UpstreamOverflow => entry(
                "GD4207",
                "upstream-overflow",
                "a limit on connections or pending requests to the backend was reached",
                "raise the DestinationRule's connectionPool limits, or add backends",
            ),
            Self::DirectResponse => entry(
                "GD4208",
                "direct-response",
                "the route answers with an error of its own, or leads to a backend that is not valid",
                "give the route a destination that exists and may be used: directResponse, backendRefs, ReferenceGrant",
            ),
            Self::FaultInjected => entry(
                "GD4209",
                "fault-injected",
                "the route's fault injection aborted the request",
                "take the fault out of the VirtualService",
            ),
            Self::RequestRefused => entry(
                "GD4210",
                "request-refused",
                "the gateway refused the request as malformed",
                "correct the request: its host, its path, its version",
            ),
            Self::ClientTimeout => entry(
                "GD4301",
                "client-timeout",
                "the answer came later than the client waits",
                "find what was slow (the latency chart, gateway CPU, backends), or let the client wait longer",
            ),
            Self::ConnectTimeout => entry(
                "GD4302",
                "connect-timeout",
                "a connection was tried to a host that no longer exists",
                "keep the pod until the balancer has removed it: preStop sleep or a longer drain",
            ),
            Self::KeepaliveRace => entry(
                "GD4303",
                "keepalive-race",
                "the server closed a kept connection just as it was used again",
                "give the side that reuses connections the shorter idle timeout, or retry on reset",
            ),
            Self::IdleTimeout => entry(
                "GD4304",
                "idle-timeout",
                "a hop had forgotten the connection after it was idle too long",
                "make the client's keep-alive shorter than every idle timeout on the path",
            ),
        }
    }
}

const fn entry(code: &'static str, name: &'static str, meaning: &'static str, fix: &'static str) -> Entry {
    Entry { code, name, meaning, fix }
}

/// Code and name, as in `GD4101 lb-stale-target`.
impl fmt::Display for CauseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_found_by_code_and_by_name() {
        for cause in CauseCode::ALL {
            assert_eq!(CauseCode::find(cause.code()), Some(cause));
            assert_eq!(CauseCode::find(cause.name()), Some(cause));
        }
        assert_eq!(CauseCode::find("gd4302"), Some(CauseCode::ConnectTimeout));
        assert_eq!(CauseCode::find("unknown"), None);
    }

    #[test]
    fn codes_are_in_order_and_lines_are_fragments() {
        assert!(CauseCode::ALL.windows(2).all(|pair| pair[0].code() < pair[1].code()));
        for cause in CauseCode::ALL {
            assert!(!cause.meaning().ends_with('.') && !cause.fix().ends_with('.'), "{cause}");
        }
    }
}
