//! `make bench`: what Plimsoll costs each container start, and what it does for the node.
//!
//! Three measurements, each with a table, JSON and plots in `target/bench/`: `start`, `colocation` and `burst`; without a
//! name all three, with fewer and shorter rounds, into one page, `target/bench/report.html`. A fourth, `knobs`, tries what else might help the
//! slowest requests. `PLIMSOLL_BENCH_ROUNDS` sets the number of rounds.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a broken benchmark says so and stops"
)]

#[path = "../tests/common/mod.rs"]
mod common;

mod beside;
mod burst;
mod colocation;
mod figures;
mod knobs;
mod load;
mod node;
mod noise;
mod page;
mod round;
mod start;

use std::path::Path;
use std::{env, fs};

use nix::sys::signal::{SigSet, Signal};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::sys::statvfs::FsFlags;
use serde_json::json;

use beside::Extent;
use noise::Noise;

fn main() {
    let all: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = all.iter().map(String::as_str).filter(|a| *a != "--bench").collect();
    match args[..] {
        ["generate", socket, arrivals] => load::main(socket, arrivals),
        ["watch", seconds] => load::watch(seconds),
        // `cargo test --all-targets` starts benchmarks too.
        _ if args.len() == all.len() => println!("a benchmark; run make bench"),
        [] => measure("report", &["colocation", "burst", "start"], true),
        [name @ ("start" | "colocation" | "burst" | "knobs")] => measure(name, &[name], false),
        _ => panic!("{args:?}: there are start, colocation, burst and knobs"),
    }
}

/// Runs these measurements and writes them as one page.
fn measure(page: &str, names: &[&str], short: bool) {
    assert!(env::var_os("PLIMSOLL_DIST").is_some(), "the release binaries are measured: run make bench");
    // An interrupt ends a round, never the cleaning up.
    [Signal::SIGINT, Signal::SIGTERM].into_iter().collect::<SigSet>().thread_block().unwrap();
    let in_memory = files_in_memory();
    let noise = noise::gate();
    let mut sections = Vec::new();
    for name in names {
        let rounds = rounds(match *name {
            "start" if short => 15,
            "start" => 50,
            _ if short => 10,
            _ => 12,
        });
        let extent = Extent { rounds, seconds: if short { 2.0 } else { 3.0 } };
        let mut section = match *name {
            "start" => start::run(rounds),
            "burst" => burst::run(extent),
            "knobs" => knobs::run(extent),
            _ => colocation::run(extent, !noise.quiet),
        };
        section.json["noise"] = json!(noise);
        section.json["machine"] = facts(&noise, in_memory);
        section.publish();
        sections.push(section);
    }
    page::page(page, &facts(&noise, in_memory), &sections);
}

fn rounds(usual: usize) -> usize {
    let rounds =
        env::var("PLIMSOLL_BENCH_ROUNDS").map_or(usual, |n| n.parse().expect("PLIMSOLL_BENCH_ROUNDS"));
    assert!(rounds > 0, "PLIMSOLL_BENCH_ROUNDS must be at least 1");
    rounds
}

/// Has bundles and records where engines and Plimsoll have them: on a node `/run` is a tmpfs, and on a disk it would be the
/// disk's journal that is measured. Whether there is such a place here.
fn files_in_memory() -> bool {
    let place = Path::new("/dev/shm");
    let is_fit = statfs(place)
        .is_ok_and(|fs| fs.filesystem_type() == TMPFS_MAGIC && !fs.flags().contains(FsFlags::ST_NOEXEC));
    is_fit && tempfile::env::override_temp_dir(place).is_ok()
}

/// What was measured on.
fn facts(noise: &Noise, in_memory: bool) -> serde_json::Value {
    json!({
        "kernel": page::version("uname", "-sr"),
        "CPUs": node::cpus(),
        "cgroup": if common::cgroup::is_v1() { "v1" } else { "v2" },
        "runtime": page::version("runc", "--version"),
        "online": page::version(node::service::program(), "-v"),
        "offline": page::version("ffmpeg", "-version"),
        "bundles and records": if in_memory { "on tmpfs" } else { "ON A DISK" },
        "quiet": if noise.quiet { "yes" } else { "NO" },
    })
}

/// Panics, and so cleans up, where a blocked SIGINT or SIGTERM is waiting.
fn stop_if_interrupted() {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let pending =
        |line: &str| u64::from_str_radix(line.split_whitespace().nth(1).unwrap_or("0"), 16).unwrap_or(0);
    let waiting = status.lines().filter(|l| l.starts_with("ShdPnd") || l.starts_with("SigPnd"));
    let bits = (1 << (Signal::SIGINT as i32 - 1)) | (1 << (Signal::SIGTERM as i32 - 1));
    assert!(waiting.fold(0, |all, line| all | pending(line)) & bits == 0, "interrupted");
}
