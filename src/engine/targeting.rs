//! Who gets which variant.
