//! The laboratory: the recorder and the engine of the daemon, driven by recorded events instead of Kafka and the clock.
//!
//! [`rig::Rig`] is fed messages in the order in which they arrived and closes minutes as event time goes; [`journal::Journal`]
//! writes down what the engines say; [`lines`] and [`recording`] bring files in; [`setup`] gives rules the flags and baselines
//! that a configuration would; [`series`] makes events up; [`simulate`] makes up the minutes of whole worlds. No clock, no entropy: the same bytes give the same story.

pub mod arrivals;
pub mod journal;
pub mod lines;
pub mod recording;
pub mod rig;
pub mod series;
pub mod setup;
pub mod simulate;
#[cfg(test)]
mod tests;
