//! Adapters that wake or tell people.

pub mod alertmanager;
pub mod incidentio;
pub mod jsm;
pub mod pagerduty;
mod parts;
pub mod slack;
pub mod webhook;
