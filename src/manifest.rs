//! Kubernetes, Istio and ASM objects as their authors wrote them, each value with its line.
