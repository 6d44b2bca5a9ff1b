//! How a container's process ends, and what the kubelet says of it.
//!
//! Upstream: `pkg/kubelet/kuberuntime/kuberuntime_container.go` (`toKubeContainerStatus`) passes on code and reason of the container runtime,
//! which says `OOMKilled` of a container whose memory cgroup has seen an OOM kill (containerd `internal/cri/server/events.go`).

/// The code of a process that SIGKILL has ended: 128 + 9.
pub const SIGKILL_CODE: i64 = 137;

/// How a process ended that nobody had told to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProcessEnd {
    /// It exited with this code.
    Exited(i64),
    /// It held more memory than its limit, and the kernel killed it.
    OutOfMemory,
    /// Its node had no memory left, and the kernel killed it.
    NodeOutOfMemory,
}

/// The end of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ContainerExit {
    /// The exit code.
    pub code: i64,
    /// Why.
    pub reason: &'static str,
}

impl ContainerExit {
    /// It ended in time after SIGTERM.
    pub const COMPLETED: Self = Self { code: 0, reason: "completed" };
    /// It ended although nobody had told it to, and said no code of its own.
    pub const BY_ITSELF: Self = Self { code: 1, reason: "ended by itself" };
    /// It was still there at the end of its grace.
    pub const GRACE_OVER: Self = Self { code: SIGKILL_CODE, reason: "grace period over" };
    /// The kernel killed it for its memory.
    pub const OUT_OF_MEMORY: Self = Self { code: SIGKILL_CODE, reason: "OOMKilled" };

    /// What the process says of its end, or `otherwise` if it says nothing.
    #[must_use]
    pub fn of(end: Option<ProcessEnd>, otherwise: Self) -> Self {
        match end {
            None => otherwise,
            Some(ProcessEnd::Exited(code)) => Self { code, ..Self::BY_ITSELF },
            Some(ProcessEnd::OutOfMemory | ProcessEnd::NodeOutOfMemory) => Self::OUT_OF_MEMORY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_says_how_it_ended_is_believed() {
        let table = [
            (None, ContainerExit::COMPLETED, (0, "completed")),
            (None, ContainerExit::BY_ITSELF, (1, "ended by itself")),
            (Some(ProcessEnd::Exited(0)), ContainerExit::BY_ITSELF, (0, "ended by itself")),
            (Some(ProcessEnd::Exited(3)), ContainerExit::COMPLETED, (3, "ended by itself")),
            (Some(ProcessEnd::OutOfMemory), ContainerExit::COMPLETED, (137, "OOMKilled")),
            (Some(ProcessEnd::NodeOutOfMemory), ContainerExit::COMPLETED, (137, "OOMKilled")),
        ];
        for (end, otherwise, expected) in table {
            let exit = ContainerExit::of(end, otherwise);
            assert_eq!((exit.code, exit.reason), expected, "{end:?} {otherwise:?}");
        }
    }
}
