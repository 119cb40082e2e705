//! The PROXY protocol, versions 1 and 2: who the client behind a proxy is.
//!
//! Called by [`super::transport`] with the first bytes of a connection. The format is read by the crate `ppp`;
//! here is how much may be read, and what the header means.

use std::net::{IpAddr, SocketAddr};

use ppp::{HeaderResult, PartialResult, v1, v2};

/// A header of version 1 is no longer than this; one of version 2 says how long it is.
const V1_BYTES_MAX: usize = 107;
/// The longest header of version 2 that is taken: addresses and some fields beside them.
const V2_BYTES_MAX: usize = 4096;
/// What is before the length of a header of version 2.
const V2_FIXED_BYTES: usize = 16;
/// How a header of version 2 begins.
const V2_SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What stands at the front of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// It goes on.
    Incomplete,
    /// It is complete.
    Complete {
        /// How long it is.
        bytes: usize,
        /// Who the client is; `None` if it is the proxy itself (`LOCAL`, `UNKNOWN`).
        client: Option<SocketAddr>,
    },
}

/// Reads the header at the front of `bytes`.
///
/// # Errors
/// What is wrong with it.
pub fn header(bytes: &[u8]) -> Result<Header, &'static str> {
    let is_v2 = V2_SIGNATURE.starts_with(&bytes[..bytes.len().min(V2_SIGNATURE.len())]);
    if is_v2 {
        if bytes.len() < V2_FIXED_BYTES {
            return Ok(Header::Incomplete);
        }
        let length = V2_FIXED_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if length > V2_BYTES_MAX {
            return Err("the PROXY header is too long");
        }
        if bytes.len() < length {
            return Ok(Header::Incomplete);
        }
        return match HeaderResult::parse(&bytes[..length]) {
            HeaderResult::V2(Ok(header)) => Ok(Header::Complete {
                bytes: length,
                client: client_v2(&header)?,
            }),
            _ => Err("the PROXY header, version 2, is malformed"),
        };
    }
    let line = bytes
        .windows(2)
        .take(V1_BYTES_MAX)
        .position(|pair| pair == b"\r\n");
    let Some(end) = line.map(|at| at + 2) else {
        let begins = b"PROXY ".starts_with(&bytes[..bytes.len().min(6)]);
        return match begins && bytes.len() < V1_BYTES_MAX {
            true => Ok(Header::Incomplete),
            false => Err("the connection does not begin with a PROXY header"),
        };
    };
    let parsed = HeaderResult::parse(&bytes[..end]);
    if parsed.is_incomplete() {
        return Err("the PROXY header, version 1, is malformed");
    }
    match parsed {
        HeaderResult::V1(Ok(header)) => Ok(Header::Complete {
            bytes: end,
            client: client_v1(&header),
        }),
        _ => Err("the PROXY header, version 1, is malformed"),
    }
}

fn client_v1(header: &v1::Header<'_>) -> Option<SocketAddr> {
    match header.addresses {
        v1::Addresses::Tcp4(tcp) => Some(SocketAddr::new(
            IpAddr::V4(tcp.source_address),
            tcp.source_port,
        )),
        v1::Addresses::Tcp6(tcp) => Some(SocketAddr::new(
            IpAddr::V6(tcp.source_address),
            tcp.source_port,
        )),
        v1::Addresses::Unknown => None,
    }
}

fn client_v2(header: &v2::Header<'_>) -> Result<Option<SocketAddr>, &'static str> {
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    if header.protocol == v2::Protocol::Datagram {
        return Err("the PROXY header is about a datagram");
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(ip) => Some(SocketAddr::new(
            IpAddr::V4(ip.source_address),
            ip.source_port,
        )),
        v2::Addresses::IPv6(ip) => Some(SocketAddr::new(
            IpAddr::V6(ip.source_address),
            ip.source_port,
        )),
        v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 1883\r\n";
    const V2: &[u8] =
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\x07\x5b";

    fn client(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn both_versions_tell_the_client_and_where_they_end() {
        for (bytes, wanted) in [
            (V1, client("192.0.2.7:4711")),
            (V2, client("192.0.2.7:4711")),
            (
                b"PROXY TCP6 2001:db8::7 ::1 4711 1883\r\n",
                client("[2001:db8::7]:4711"),
            ),
            (b"PROXY UNKNOWN\r\n", None),
            (b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", None),
            (b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", None),
        ] {
            let mut stream = bytes.to_vec();
            stream.extend_from_slice(b"\x10\x0d");
            for end in 0..bytes.len() {
                assert_eq!(header(&stream[..end]), Ok(Header::Incomplete), "{end}");
            }
            let complete = Header::Complete {
                bytes: bytes.len(),
                client: wanted,
            };
            assert_eq!(header(&stream), Ok(complete));
        }
    }

    #[test]
    fn what_is_no_header_is_refused_as_soon_as_that_is_clear() {
        let long = [b"PROXY TCP4 ", &[b'1'; 100][..]].concat();
        let huge = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff";
        for bad in [
            &b"\x10"[..],
            b"GET / HTTP/1.1\r\n",
            b"PROXY\r\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 99999\r\n",
            b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
            b"PROXY UDP4 192.0.2.7 10.0.0.1 4711 1883\r\n",
            &long,
            huge,
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\0",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x04\xc0\0\x02\x07",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x12\x67\x07\x5b",
        ] {
            assert!(header(bad).is_err(), "{:?}", String::from_utf8_lossy(bad));
        }
    }
}
