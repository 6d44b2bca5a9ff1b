//! The L7 gateway: real HTTP bytes, real routing and balancing; it never learns which world it lives in.
