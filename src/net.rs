//! Simulated TCP: listen, connect, streams, paths and what severs them.
