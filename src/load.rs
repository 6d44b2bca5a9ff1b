//! Who asks, when, and what they saw.
