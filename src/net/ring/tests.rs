//! The ring against a kernel that refuses.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;

use super::*;

#[test]
fn a_ring_that_fails_says_so_instead_of_spinning() {
    let mut ring = Ring::new(&RingConfig {
        submission_entries: 8,
        buffer_count: 16,
        buffer_bytes: 256,
    })
    .unwrap();
    let token = ring.open();
    let (socket, _other) = UnixStream::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    // SAFETY: both descriptors are open. The ring's own one names another file from now on, so that every
    // enter fails; it is closed once, by the ring.
    assert!(unsafe { libc::dup2(null.as_raw_fd(), ring.ring.as_raw_fd()) } >= 0);
    // More than the queue takes.
    for _ in 0..20 {
        ring.receive_once(socket.as_fd(), token);
    }
    let error = ring.turn(Wait::Poll).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP));
}
