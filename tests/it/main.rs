//! The suites that need no server: one binary, so that it links once.

mod layers;
