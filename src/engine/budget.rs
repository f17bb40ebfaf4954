//! The ten minutes as a checked sum.
