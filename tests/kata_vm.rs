//! Kata: what Plimsoll does for a pod that is a VM, under real engines and around a real VMM.
//!
//! This program has no harness of Cargo's, for it is three things by the name it is called by: the tests, the stand-in
//! for Kata's shim, and the recorder in front of a real one.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

mod common;

#[allow(dead_code, unused_imports, reason = "of the kit this takes what it needs")]
#[path = "engines/kit/mod.rs"]
mod kit;

#[path = "kata_vm/bad_input.rs"]
mod bad_input;
#[path = "kata_vm/by_ctr.rs"]
mod by_ctr;
#[path = "kata_vm/checks.rs"]
mod checks;
#[path = "kata_vm/direct.rs"]
mod direct;
#[path = "kata_vm/guest.rs"]
mod guest;
#[path = "kata_vm/host.rs"]
mod host;
#[path = "kata_vm/overhead.rs"]
mod overhead;
#[path = "kata_vm/real.rs"]
mod real;
#[path = "kata_vm/recorder.rs"]
mod recorder;
#[path = "kata_vm/stand_in/mod.rs"]
mod stand_in;
#[path = "kata_vm/stands.rs"]
mod stands;
#[path = "kata_vm/wrapped.rs"]
mod wrapped;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

fn main() -> ExitCode {
    let program = std::env::current_exe().unwrap();
    match program.file_name().and_then(|name| name.to_str()).unwrap_or_default() {
        recorder::NAME => recorder::main(),
        name if name.starts_with("containerd-shim-") => stand_in::main(),
        _ => {
            let here = tests().into_iter().map(|(name, test)| trial(name, test));
            let elsewhere =
                ignored().into_iter().map(|(name, test)| trial(name, test).with_ignored_flag(true));
            let (words, arguments) = words();
            let wanted = |name: &str| words.is_empty() || words.iter().any(|word| name.contains(word));
            let trials = here.chain(elsewhere).filter(|trial| wanted(trial.name())).collect();
            libtest_mimic::run(&arguments, trials).exit_code()
        }
    }
}

/// Cargo's own harness takes any number of words that tests are chosen by; this one takes one.
fn words() -> (Vec<String>, Arguments) {
    let mut words = Vec::new();
    let mut others: Vec<String> = Vec::new();
    for argument in std::env::args() {
        let is_value = others.last().is_some_and(|flag| {
            matches!(flag.as_str(), "--skip" | "--test-threads" | "--format" | "--color" | "--logfile")
        });
        let is_word = !others.is_empty() && !is_value && !argument.starts_with('-');
        if is_word { words.push(argument) } else { others.push(argument) }
    }
    (words, Arguments::from_iter(others))
}

type Test = (&'static str, fn());

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

macro_rules! named {
    ($($test:path),* $(,)?) => { vec![$((stringify!($test), $test as fn())),*] };
}

/// What runs on any machine of `make test`.
fn tests() -> Vec<Test> {
    named![
        stands::the_stand_in_does_what_kata_does,
        wrapped::before_the_first_instruction_with_all_in_the_pod,
        wrapped::before_the_first_instruction_with_an_overhead_group,
        wrapped::every_containerd_passes_the_wrapper,
        wrapped::low_identity_before_the_boot_where_it_is_told_so,
        wrapped::who_asks_for_nothing_is_left_alone,
        by_ctr::a_container_that_asks_for_another_class_gets_its_pods,
        bad_input::a_missing_shim_is_named_to_kubelet,
        bad_input::a_wrapper_pointed_at_itself_is_refused,
        bad_input::a_bundle_that_is_none_fails_with_words,
        bad_input::an_unknown_sandbox_leaves_nothing,
    ]
}

/// What takes a guest of the lab, or a real Kata.
fn ignored() -> Vec<Test> {
    named![
        by_ctr::go_before_3_5,
        by_ctr::go_before_3_5_with_an_overhead_group,
        by_ctr::go_since_3_5,
        by_ctr::go_since_3_5_with_an_overhead_group,
        by_ctr::runtime_rs,
        by_ctr::runtime_rs_with_an_overhead_group,
        real::a_real_kata_is_treated,
    ]
}
