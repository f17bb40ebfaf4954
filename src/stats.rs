//! Pure mathematics: knows no domain word, does no I/O. Formulas carry their source.

pub mod noise;
