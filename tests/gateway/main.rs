//! The gateway in virtual time: what it does with requests, and what theory says of its balancing.

mod anchors;
mod requests;
mod vectors;
