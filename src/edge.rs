//! How a client reaches a pod: the cloud load balancer, its controller, the path over a node.
