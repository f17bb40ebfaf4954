//! Adapters that wake or tell people.

pub mod alertmanager;
pub mod webhook;
