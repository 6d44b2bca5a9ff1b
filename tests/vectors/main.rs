//! Kubernetes' own tables: every case of every file of `tests/data/kubernetes/vectors`.

mod vectors_deployment;
mod vectors_disruption;
mod vectors_hpa;
mod vectors_kubelet;
mod vectors_scheduler;
mod vectors_services;
