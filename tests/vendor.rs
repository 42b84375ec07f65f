//! The kernels of Alibaba, Huawei and Tencent, which cannot be had here: the real hook on pretended nodes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod common;
mod fixtures;

#[path = "vendor/group_identity.rs"]
mod group_identity;
#[path = "vendor/group_identity_2.rs"]
mod group_identity_2;
#[path = "vendor/levels.rs"]
mod levels;
#[path = "vendor/stand_in.rs"]
mod stand_in;
