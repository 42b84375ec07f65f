//! `plimsoll-runtime`: real containers started through it, on the real runc.

mod common;

use common::Sandbox;

#[test]
fn a_best_effort_container_is_made_in_the_class_tree() {
    let sandbox = Sandbox::wrapped("wrap-tree");
    let bundle = sandbox.bundle("c").cgroup("c").annotation("koordinator.sh/qosClass", "BE").waiting();
    sandbox.run_detached(&bundle).ok();
    println!("{}", std::fs::read_to_string(bundle.dir.join("config.json")).unwrap());
    println!("{}", sandbox.log());
    println!("{:?}", sandbox.probe(&bundle));
    sandbox.delete_force(&bundle).ok();
    common::invariants::nothing_left(&sandbox);
}
