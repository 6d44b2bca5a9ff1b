//! Simulated Kubernetes: the rules of its controllers as plain functions, and the controllers that follow them.
