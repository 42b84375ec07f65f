//! What a container may get.

pub mod koordinator;
