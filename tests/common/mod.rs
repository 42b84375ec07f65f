//! What black-box tests share: real containers of the real runc on this machine's real cgroups.
//!
//! ```no_run
//! let sandbox = Sandbox::new("burst");
//! let bundle = sandbox.bundle("web").annotation("koordinator.sh/qosClass", "LS").plimsoll_hooks();
//! let seen = sandbox.run_probe(&bundle);
//! assert_eq!(seen["files"]["cpu.cfs_burst_us"], "50000");
//! ```
//!
//! Every group a sandbox makes lies under `/plimsoll-test-<name>-<pid>-<n>`, and is gone when the sandbox is dropped.
//! Needs root and runc.

#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "each test takes of this what it needs, and a broken harness is a failed test"
)]

pub mod bundle;
pub mod cgroup;
pub mod helpers;
pub mod invariants;
pub mod planned;
pub mod probed;
pub mod sandbox;
pub mod traced;

pub use bundle::{Bundle, Hook};
pub use helpers::{Helper, dist};
pub use sandbox::{Ran, Sandbox, real_runc};

use std::thread;
use std::time::{Duration, Instant};

/// Asks until there is an answer. Panics after 30 s, so `what` should read well in "waited 30 s for …".
pub fn wait_for<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "waited 30 s for {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
