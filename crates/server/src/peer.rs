//! Whose process is at the other end of a connection within this machine.
//!
//! Here lives the question to the kernel. A port of this machine is open to all its users; a request without a token is
//! this user's own word only if it comes from a process of this user. What follows from the answer is `guard`'s business.

use std::net::{IpAddr, SocketAddr};
use tokio::net::TcpStream;

/// The two ends of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    ours: SocketAddr,
    theirs: SocketAddr,
}

impl Peer {
    pub(crate) fn of(stream: &TcpStream) -> Option<Peer> {
        Some(Peer { ours: stream.local_addr().ok()?, theirs: stream.peer_addr().ok()? })
    }

    /// Tells whether the other end is of this user, or of the system's.
    pub(crate) async fn is_ours(self) -> bool {
        let asked = tokio::task::spawn_blocking(move || self.uid()).await.ok().flatten();
        asked.is_some_and(|uid| uid == 0 || uid == nix::unistd::geteuid().as_raw())
    }

    /// Asks the kernel's lists of sockets, which have both ends. Which list has an address of IPv4 is the choice of who
    /// opened the socket: a JVM's and .NET's are of IPv6 for both.
    fn uid(self) -> Option<u32> {
        let asked = |table: &str, peer| uid_in(&std::fs::read_to_string(table).ok()?, peer);
        let narrow = self.each(canonical);
        let among_narrow = narrow.theirs.is_ipv4().then(|| asked("/proc/net/tcp", narrow)).flatten();
        among_narrow.or_else(|| asked("/proc/net/tcp6", self.each(mapped)))
    }

    fn each(self, change: fn(SocketAddr) -> SocketAddr) -> Peer {
        Peer { ours: change(self.ours), theirs: change(self.theirs) }
    }
}

/// An address of IPv4 as such, also where it came as one of IPv6.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// Any address as one of IPv6.
fn mapped(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    SocketAddr::new(ip.into(), address.port())
}

/// Finds the user of the other end in a list as in `proc_pid_net(5)`: `sl local_address rem_address st … uid …`.
///
/// Only of one that is established: of a socket that its process has closed already the kernel says it is root's.
fn uid_in(table: &str, peer: Peer) -> Option<u32> {
    /// TCP_ESTABLISHED in the kernel's include/net/tcp_states.h.
    const ESTABLISHED: &str = "01";
    let (local, remote) = (shown(peer.theirs), shown(peer.ours));
    table.lines().skip(1).find_map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        let is_it = *cells.get(1)? == local && *cells.get(2)? == remote && *cells.get(3)? == ESTABLISHED;
        if is_it { cells.get(7)?.parse().ok() } else { None }
    })
}

/// Writes an address as the kernel does: each word of four bytes as this processor reads it.
fn shown(address: SocketAddr) -> String {
    let bytes = match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let words = bytes.chunks_exact(4).map(|word| u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
    let words: String = words.map(|word| format!("{word:08X}")).collect();
    format!("{words}:{:04X}", address.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    async fn pair(listen: &str) -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind(listen).await.expect("a port");
        let there = TcpStream::connect(listener.local_addr().expect("an address"));
        let (there, here) = tokio::join!(there, listener.accept());
        (there.expect("connected"), here.expect("accepted").0)
    }

    #[tokio::test]
    async fn a_process_of_our_own_is_known() {
        for listen in ["127.0.0.1:0", "[::1]:0"] {
            let (_there, here) = pair(listen).await;
            assert!(Peer::of(&here).expect("two ends").is_ours().await, "{listen}");
        }
    }

    /// As a JVM and .NET open theirs, also to 127.0.0.1.
    #[tokio::test]
    async fn a_socket_for_both_families_is_known() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let to = mapped(listener.local_addr().expect("an address"));
        let socket = tokio::net::TcpSocket::new_v6().expect("a socket");
        let (_there, here) = tokio::join!(socket.connect(to), listener.accept());
        assert!(Peer::of(&here.expect("accepted").0).expect("two ends").is_ours().await);
    }

    #[tokio::test]
    async fn whoever_has_hung_up_is_nobody() {
        let (there, here) = pair("127.0.0.1:0").await;
        let peer = Peer::of(&here).expect("two ends");
        drop(there);
        assert!(!peer.is_ours().await);
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn the_user_is_read_from_the_line_of_the_other_end() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1 1\n\
             1: 0100007F:22B8 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 2 1\n\
             2: 0100007F:D431 0100007F:22B8 01 00000000:00000000 00:00000000 00000000  1001        0 3 1\n\
             3: 0100007F:D432 0100007F:22B8 06 00000000:00000000 03:00000000 00000000     0        0 0 3\n";
        let uid = |port| {
            let theirs = SocketAddr::from(([127, 0, 0, 1], port));
            uid_in(table, Peer { ours: "127.0.0.1:8888".parse().expect("an address"), theirs })
        };
        assert_eq!((uid(0xD431), uid(0xD432), uid(0xD433)), (Some(1001), None, None));
        assert_eq!(shown("[::1]:80".parse().expect("an address")), "00000000000000000000000001000000:0050");
    }
}
