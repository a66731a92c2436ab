//! One question to the kernel by netlink, and all that it answers: on a socket of its own, for one that a list was
//! not read from to its end has no room for another.

use std::io;

use netlink_sys::Socket;
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::{TimeVal, TimeValLike};

use super::errno;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER: usize = 16;
/// The kernel fills at most 32 KiB of a dump at once.
const BUFFER: usize = 64 * 1024;
/// No answer takes longer; this only keeps a fault from blocking for ever.
const PATIENCE_S: i64 = 10;

/// A question for all that there is of a kind.
pub(super) fn request(kind: u16, body: &[u8]) -> Vec<u8> {
    message_of(kind, (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16, body)
}

/// A message without a header of its protocol's.
pub(super) fn message_of(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    // Sequence number and port: one question a socket.
    bytes.extend([0; 8]);
    bytes.extend(body);
    bytes
}

/// Asks, and hands each answer's body to `each`.
pub(super) fn dump(protocol: isize, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
    let mut socket = Socket::new(protocol)?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(PATIENCE_S)).map_err(io::Error::from)?;
    socket.bind_auto()?;
    errno::uninterrupted(|| socket.send(request, 0))?;
    let mut buffer = vec![0; BUFFER];
    loop {
        let length = match socket.recv(&mut &mut buffer[..], 0) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received?,
        };
        if let Some(end) = part(buffer.get(..length).unwrap_or_default(), &mut each) {
            return end;
        }
    }
}

/// Hands the answers of one part to `each`; how all of it ended, if it has.
fn part(bytes: &[u8], mut each: impl FnMut(&[u8])) -> Option<io::Result<()>> {
    let mut rest = bytes;
    while let Some((kind, body, next)) = message(rest) {
        match kind {
            // A dump that failed on its way says so at its end.
            NLMSG_DONE | NLMSG_ERROR => {
                let code = body
                    .first_chunk::<4>()
                    .map_or(0, |code| i32::from_ne_bytes(*code));
                return Some(match code {
                    0 => Ok(()),
                    code => Err(io::Error::from_raw_os_error(code.saturating_neg())),
                });
            }
            _ => each(body),
        }
        rest = next;
    }
    None
}

/// The first message: its kind, its body, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let body = bytes.get(HEADER..length)?;
    let next = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, body, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_no_panic(bytes: Vec<u8>) {
            let _ = part(&bytes, |_| {});
        }
    }

    #[test]
    fn a_list_that_failed_on_its_way_is_none() {
        const THING: u16 = 20;
        let answer = |body: &[u8]| message_of(THING, 0, body);
        let end = |kind, code: i32| message_of(kind, 0, &code.to_ne_bytes());
        let both = [answer(&[1; 72]), answer(&[2; 72])].concat();
        for (last, ended) in [
            (Vec::new(), None),
            (end(NLMSG_DONE, 0), Some(None)),
            (end(NLMSG_ERROR, 0), Some(None)),
            (end(NLMSG_DONE, -libc::ENOMEM), Some(Some(libc::ENOMEM))),
            (end(NLMSG_ERROR, -libc::EPERM), Some(Some(libc::EPERM))),
        ] {
            let mut seen = Vec::new();
            let found = part(&[both.clone(), last].concat(), |body| seen.push(body[0]));
            let errno = found.map(|end| end.err().and_then(|error| error.raw_os_error()));
            assert_eq!((seen, errno), (vec![1, 2], ended));
        }
    }
}
