//! Sequences that went wrong once, as short as they could be made.

use plimsoll::hook::Stage::{CreateRuntime, Poststart};
use plimsoll::kernel::control::{Knob, Value};

use super::asks::Asks;
use super::op::{Op, PER_POD, PODS, Target, Time};
use super::shrink;
use super::world::{Ground, Stats};

const KEEP: &str = "placement = \"keep\"\n[claims]\nnamespaces = [\"team\"]\n";
const TREE: &str = "placement = \"class-tree\"\n[claims]\nnamespaces = [\"team\"]\n";

fn time(quota: i64) -> Time {
    Time { shares: 500, quota, period: 100_000 }
}

fn class(class: &'static str) -> Asks {
    Asks { class: Some(class), ..Asks::default() }
}

/// A pod and all that it asks for.
fn pod(pod: usize, asks: Asks, quota: i64) -> Op {
    Op::Pod { pod, asks, time: time(quota) }
}

/// A container is made, and treated before it starts.
fn start(slot: usize, quota: i64) -> [Op; 2] {
    [Op::Make { slot, new: true, asks: None, time: time(quota) }, Op::Stage { slot, stage: CreateRuntime }]
}

fn end(slot: usize) -> [Op; 2] {
    [Op::Gone { slot, kill: false }, Op::Stop { slot }]
}

fn write(target: Target, knob: Knob, value: i64) -> Op {
    Op::Foreign { target, knob, value: Value::Int(value) }
}

#[track_caller]
fn holds(name: &str, settings: &str, ops: impl IntoIterator<Item = Op>) {
    let Some(mut ground) = Ground::new(name) else { return };
    let ops: Vec<Op> = ops.into_iter().collect();
    if let Err(failure) = shrink::play(settings, &ops, &mut ground, &mut Stats::default()) {
        panic!("after {} operations: {}", failure.at, failure.text);
    }
}

#[test]
fn a_pods_burst_goes_with_its_containers_in_any_order() {
    let ops = [pod(0, class("LS"), 300_007)].into_iter().chain(start(0, 50_007)).chain(start(1, 20_007));
    let ops = ops.chain([Op::Stage { slot: 0, stage: Poststart }]);
    holds("bursts", KEEP, ops.chain(end(0)).chain(end(1)));
}

#[test]
fn a_burst_that_a_smaller_quota_cut_short_is_given_back_too() {
    let ops = [pod(0, class("LS"), 300_007)].into_iter().chain(start(0, 100_007)).chain(start(1, 90_007));
    holds(
        "cut",
        KEEP,
        ops.chain([
            write(Target::Pod(0), Knob::Burst, 0),
            write(Target::Pod(0), Knob::Quota, 130_007),
            Op::Repair,
        ]),
    );
}

#[test]
fn a_repair_sums_up_bursts_that_it_has_put_right_itself() {
    // The first container's record knows of no burst of the pod.
    let ops = [pod(1, class("LS"), -1)].into_iter().chain(start(5, 29_007));
    let ops = ops.chain([write(Target::Pod(1), Knob::Quota, 297_007)]).chain(start(4, 58_007));
    holds("sums", KEEP, ops.chain([write(Target::Container(5), Knob::Burst, 0), Op::Repair]));
}

#[test]
fn what_others_write_meanwhile_is_what_is_left_in_the_end() {
    let ops = [pod(2, class("BE"), 300_007)].into_iter().chain(start(6, 50_007));
    let ops = ops.chain([write(Target::Pod(2), Knob::Idle, 0), write(Target::Pod(2), Knob::Shares, 77)]);
    holds("meanwhile", KEEP, ops.chain([Op::Stage { slot: 6, stage: Poststart }]).chain(end(6)));
}

#[test]
fn a_refused_quota_leaves_the_burst_that_made_room_for_it() {
    let asks = Asks { batch: vec![(1_000, 1_024)], ..class("BE") };
    let ops = [pod(2, asks, 342_007), write(Target::Pod(2), Knob::Burst, 121_011)];
    holds("room", KEEP, ops.into_iter().chain(start(8, 120_007)));
}

#[test]
fn a_quota_is_put_back_although_the_kernel_still_counts_the_container() {
    let asks = Asks { batch: vec![(500, 64), (1_500, 64)], ..class("BE") };
    let ops = [pod(1, asks, 60_007)].into_iter().chain(start(4, 50_007));
    holds("dying", KEEP, ops.chain(end(4)));
}

#[test]
fn a_lost_container_of_the_class_tree_does_not_stop_a_repair() {
    let asks = Asks { batch: vec![(500, 64)], ..class("BE") };
    let ops = [pod(2, asks, -1)].into_iter().chain(start(6, 20_007));
    holds("lost", TREE, ops.chain([Op::Gone { slot: 6, kill: true }, Op::Repair]));
}

#[test]
fn an_id_that_comes_back_and_asks_for_nothing_gets_nothing() {
    let slot = PODS * PER_POD;
    let make = |new, asks| Op::Make { slot, new, asks: Some(asks), time: time(50_007) };
    let stage = |stage| Op::Stage { slot, stage };
    holds(
        "back",
        KEEP,
        [
            make(true, class("BE")),
            stage(CreateRuntime),
            Op::Gone { slot, kill: true },
            make(false, Asks::default()),
            stage(CreateRuntime),
            stage(Poststart),
        ],
    );
}

#[test]
fn a_pod_that_lowers_itself_does_not_lower_its_class() {
    let low = Asks { identity: Some(-1), ..class("LS") };
    let ops = [pod(0, class("LS"), -1), pod(1, low, -1)].into_iter().chain(start(0, 50_007));
    holds("lower", TREE, ops.chain(start(3, 50_007)));
}

#[test]
fn a_batch_limit_in_the_class_tree_is_not_scaled_by_kubelets_period() {
    let asks = Asks { batch: vec![(1_000, 64), (500, 64)], ..class("BE") };
    let ops = [pod(2, asks, -1)].into_iter().chain(start(6, 20_007));
    let ops = ops.chain([write(Target::Pod(2), Knob::Period, 200_000)]);
    holds("period", TREE, ops.chain(start(7, 20_007)));
}

#[test]
fn who_shares_cpus_takes_none_that_its_pod_lacks() {
    let first =
        |target, cpu: &str| Op::Foreign { target, knob: Knob::Cpus, value: Value::Set(cpu.parse().unwrap()) };
    let own = Asks { cpus: Some("0".to_owned()), ..class("LSR") };
    let ops = [pod(0, class("LS"), -1), pod(1, own, -1)].into_iter().chain(start(0, 50_007));
    let ops = ops.chain([first(Target::Container(0), "0"), first(Target::Pod(0), "0")]);
    holds("narrow", KEEP, ops.chain([Op::Repair]).chain(start(3, 50_007)).chain(end(3)));
}
