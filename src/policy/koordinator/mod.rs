//! Koordinator's rules as pure functions: what koordlet would write for a pod, a container, a Kubernetes QoS group or a
//! host application. Source: `koordinator-sh/koordinator` at `a7a1b76b`; each module names its files.

pub mod batch;
pub mod burst;
pub mod cpu;
pub mod cpuset;
pub mod host_app;
pub mod identity;
pub mod normalization;
pub mod slo;
pub mod stat;

pub use batch::{BatchRule, Limits};
pub use cpuset::{CpusetChoice, CpusetRule};
pub use identity::{IdentityRule, Switch};
pub use slo::NodeSlo;
