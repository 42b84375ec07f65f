//! The offline work: ffmpeg transcodes a film with x264, over and over.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Node, Pod};
use crate::common::{Bundle, wait_for};

/// See the module. It runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Transcode<'a> {
    node: &'a Node,
    bundle: Bundle,
    pub(crate) pid: i32,
}

impl<'a> Transcode<'a> {
    /// Starts it, and waits until the first frame is encoded.
    pub(crate) fn start(node: &'a Node, pod: &Pod) -> Self {
        let film = film();
        // So many that there is always one for each CPU.
        let threads = (2 * super::cpus()).to_string();
        let mut args =
            vec!["/usr/bin/ffmpeg", "-v", "error", "-nostdin", "-progress", "pipe:1", "-stats_period", "0.1"];
        args.extend(["-stream_loop", "-1", "-threads", "1", "-i", "/work/film.mp4", "-an"]);
        args.extend(["-c:v", "libx264", "-preset", "fast", "-threads", &threads, "-f", "null", "-"]);
        let bundle = node.container(pod, film.parent().unwrap(), &args);
        node.sandbox.run_detached(&bundle).ok();
        let pid = node.sandbox.pid(&bundle);
        let transcode = Self { node, bundle, pid };
        wait_for("the first frame to be encoded", || (transcode.frames() > 0.0).then_some(()));
        transcode
    }

    /// Frames encoded so far.
    pub(crate) fn frames(&self) -> f64 {
        let text = fs::read_to_string(self.bundle.dir.join("stdout")).unwrap();
        let last = text.lines().rev().find_map(|line| line.strip_prefix("frame="));
        last.map_or(0.0, |frames| frames.trim().parse().unwrap())
    }
}

impl Drop for Transcode<'_> {
    fn drop(&mut self) {
        self.node.remove(&self.bundle);
    }
}

/// Five seconds of moving pattern and noise; made once, in `target/bench/`.
fn film() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/film/film.mp4");
    if !path.exists() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let new = path.with_file_name("new.mp4");
        let made = Command::new("ffmpeg")
            .args(["-v", "error", "-nostdin", "-y", "-f", "lavfi", "-i", "testsrc2=size=854x480:rate=30"])
            .args(["-vf", "noise=alls=8:allf=t", "-t", "5", "-c:v", "mpeg4", "-q:v", "4"])
            .arg(&new)
            .status()
            .unwrap();
        assert!(made.success(), "ffmpeg: {made}");
        fs::rename(new, &path).unwrap();
    }
    path
}
