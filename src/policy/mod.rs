//! What a container may get: its request and the configuration become a treatment.

pub mod config;
pub mod decide;
pub mod koordinator;
pub mod treatment;
