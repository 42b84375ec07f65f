//! TODO

pub mod exclusive;
