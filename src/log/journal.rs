//! The systemd journal's native protocol: one datagram per event.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Sends a datagram without waiting. Fails where nobody listens, and where the journal does not keep up.
pub(super) fn send(socket: &Path, datagram: &[u8]) -> io::Result<()> {
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to(datagram, socket).map(drop)
}
