//! Who a container is.

pub mod kube;
