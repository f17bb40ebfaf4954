//! The integration tests of `cargo test`: no server, no network.

#[path = "../store_suite/mod.rs"]
#[macro_use]
mod store_suite;

store_suite!(sqlite);
