//! The online service: nginx, which compresses a page for each request.

use std::fs;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::{Node, Pod};
use crate::common::{Bundle, helpers, wait_for};
use crate::figures::Dice;
use crate::page;

/// Only a socket in its own folder: nothing of it is seen in any network.
const CONFIG: &str = "
daemon off; user root; worker_processes auto; pid /tmp/pid; error_log stderr;
events { worker_connections 4096; }
http {
    access_log off; root /work; default_type text/html;
    gzip on; gzip_min_length 1; gzip_comp_level 1;
    client_body_temp_path /tmp/a; proxy_temp_path /tmp/b; fastcgi_temp_path /tmp/c;
    uwsgi_temp_path /tmp/d; scgi_temp_path /tmp/e;
    server { listen unix:/work/socket backlog=4096; }
}
";
/// So much that a request takes about a tenth of a millisecond.
const PAGE_BYTES: usize = 4000;

/// See the module. It runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Service<'a> {
    node: &'a Node,
    bundle: Bundle,
    socket: PathBuf,
    pub(crate) pid: i32,
}

impl<'a> Service<'a> {
    /// Starts it, and waits until it answers.
    pub(crate) fn start(node: &'a Node, pod: &Pod) -> Self {
        let work = node.sandbox.dir().join("service");
        fs::create_dir_all(&work).unwrap();
        let socket = work.join("socket");
        let _ = fs::remove_file(&socket);
        fs::write(work.join("nginx.conf"), CONFIG).unwrap();
        fs::write(work.join("page"), page()).unwrap();

        if !work.join("nginx").exists() {
            helpers::copy_program(&program(), &work.join("nginx"));
        }
        let bundle = node.container(pod, &work, &["/work/nginx", "-p", "/work", "-c", "/work/nginx.conf"]);
        node.sandbox.run_detached(&bundle).ok();
        let pid = node.sandbox.pid(&bundle);
        let service = Self { node, bundle, socket, pid };
        wait_for("nginx to answer", || UnixStream::connect(&service.socket).ok());
        service
    }

    /// Where it is asked.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }
}

impl Drop for Service<'_> {
    fn drop(&mut self) {
        self.node.remove(&self.bundle);
    }
}

/// This machine's nginx, or the one that scripts/deps has unpacked.
pub(crate) fn program() -> PathBuf {
    let installed = Path::new("/usr/sbin/nginx");
    if installed.exists() { installed.to_owned() } else { page::folder().join("nginx/usr/sbin/nginx") }
}

/// A page as they are: words out of a small language, which gzip makes a third of.
fn page() -> String {
    let mut dice = Dice::from(1);
    let mut text = String::from("<html><body>\n");
    while text.len() < PAGE_BYTES {
        let word = (dice.fraction() * dice.fraction() * 500.0) as usize;
        text += &format!("<p>w{:x} ", word * 7919);
    }
    text
}
