//! TODO

pub mod topology;
