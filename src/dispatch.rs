//! Acts on what the engine decided: flips flags, opens incidents, pages people, and makes sure that it happened.
//!
//! In: rows of the outbox, committed with their decision. Out: conditional, verified effects in other systems, the result in
//! the store, and an answer to the engine. Makes no choices: what to do stands in the row. Never imports `http` or `ingest`.

pub mod advice;
pub mod backoff;
pub mod book;
pub mod chart;
pub mod client;
pub mod deadman;
pub mod example;
pub mod failure;
#[cfg(test)]
mod fake;
pub mod flag;
pub mod incident;
pub mod message;
pub mod pager;
pub mod publish;
pub mod receiver;
pub mod siren;
pub mod story;
pub mod template;
pub mod words;
pub mod worker;
