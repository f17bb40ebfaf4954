//! Rearguard.
