//! What the kernel says to a request, message by message (`net/netlink/af_netlink.c`): what is in its answer, and how
//! that ends. Pure, and whatever it says is no panic. What the answers mean is `decode`'s.

use super::wire::SUBSYSTEM;

const NLMSG_ERROR: u16 = libc::NLMSG_ERROR as u16;
const NLMSG_DONE: u16 = libc::NLMSG_DONE as u16;

/// A message of the kernel.
struct Message<'a> {
    kind: u16,
    flags: u16,
    seq: u32,
    payload: &'a [u8],
}

/// What has been heard of the answer to a request.
pub(super) struct Heard {
    seq: u32,
    /// Others have changed something while it was told.
    interrupted: bool,
    /// How many bytes its first part had, which has come.
    pub(super) first: usize,
    has_begun: bool,
}

/// How an answer ends.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It is complete.
    Whole,
    /// It is at its end, and others have changed something meanwhile.
    Interrupted,
    /// With this error number.
    Refused(i32),
}

impl Heard {
    pub(super) fn of(seq: u32) -> Self {
        Heard {
            seq,
            interrupted: false,
            first: 0,
            has_begun: false,
        }
    }

    /// Hands what is in one part to `each`; how the answer ends, if it does.
    pub(super) fn part(&mut self, bytes: &[u8], mut each: impl FnMut(u8, &[u8])) -> Option<End> {
        let is_first = !self.has_begun;
        for message in messages(bytes) {
            if message.seq != self.seq {
                continue;
            }
            self.has_begun = true;
            self.interrupted |= message.flags & libc::NLM_F_DUMP_INTR as u16 != 0;
            let ended = |errno| match errno {
                Some(0) | None => End::Whole,
                Some(errno) => End::Refused(errno),
            };
            match message.kind {
                NLMSG_ERROR => return Some(ended(error_of(&message))),
                NLMSG_DONE if self.interrupted => return Some(End::Interrupted),
                // A dump that failed half-way says so at its end.
                NLMSG_DONE => return Some(ended(code_of(&message))),
                kind if (kind >> 8) as u8 == SUBSYSTEM => {
                    // After the header comes a struct nfgenmsg of four bytes.
                    if is_first {
                        self.first += message.payload.len();
                    }
                    let body = message.payload.get(4..).unwrap_or_default();
                    each(kind as u8, body);
                    if message.flags & libc::NLM_F_MULTI as u16 == 0 {
                        return Some(End::Whole);
                    }
                }
                _ => {}
            }
        }
        None
    }
}

/// Which messages of ours these bytes acknowledge, each with its error number, which is 0 for success.
pub(super) fn acknowledgements(bytes: &[u8]) -> impl Iterator<Item = (u32, i32)> {
    messages(bytes).filter_map(|message| Some((message.seq, error_of(&message)?)))
}

/// The messages in a buffer; a malformed one ends them.
fn messages(bytes: &[u8]) -> impl Iterator<Item = Message<'_>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let field = |at: usize, len: usize| rest.get(at..at + len);
        let len = u32::from_ne_bytes(field(0, 4)?.try_into().ok()?) as usize;
        let message = Message {
            kind: u16::from_ne_bytes(field(4, 2)?.try_into().ok()?),
            flags: u16::from_ne_bytes(field(6, 2)?.try_into().ok()?),
            seq: u32::from_ne_bytes(field(8, 4)?.try_into().ok()?),
            payload: rest.get(16..len)?,
        };
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// The error number of an acknowledgement, 0 for success.
fn error_of(message: &Message<'_>) -> Option<i32> {
    match message.kind {
        NLMSG_ERROR => code_of(message),
        _ => None,
    }
}

/// The error number with which an acknowledgement or the end of a dump begins.
fn code_of(message: &Message<'_>) -> Option<i32> {
    let code = message.payload.get(..4)?;
    Some(i32::from_ne_bytes(code.try_into().ok()?).saturating_neg())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEQ: u32 = 7;
    const MULTI: i32 = libc::NLM_F_MULTI;

    fn message(kind: u16, flags: i32, seq: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = (16 + payload.len() as u32).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend((flags as u16).to_ne_bytes());
        bytes.extend(seq.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    /// A part of a list, with one thing in it.
    fn thing(flags: i32, seq: u32) -> Vec<u8> {
        message(
            u16::from(SUBSYSTEM) << 8 | 3,
            flags,
            seq,
            &[2, 0, 0, 0, 9, 9, 9, 9],
        )
    }

    fn end(kind: u16, errno: i32) -> Vec<u8> {
        message(kind, MULTI, SEQ, &errno.to_ne_bytes())
    }

    /// How an answer in these parts ends, and how many things were in it.
    fn told(parts: &[Vec<u8>]) -> (Option<End>, usize) {
        let (mut heard, mut things) = (Heard::of(SEQ), 0);
        let ends = parts.iter().filter_map(|part| {
            heard.part(part, |kind, body| {
                assert_eq!((kind, body), (3, &[9; 4][..]));
                things += 1;
            })
        });
        let end = ends.last();
        (end, things)
    }

    #[test]
    fn a_list_is_whole_only_if_nobody_changed_anything_meanwhile() {
        let both = [thing(MULTI, SEQ), thing(MULTI, SEQ)].concat();
        let done = |errno| end(NLMSG_DONE, errno);
        let cut = thing(MULTI | libc::NLM_F_DUMP_INTR, SEQ);
        for (parts, expected) in [
            (vec![both.clone()], (None, 2)),
            (vec![both.clone(), done(0)], (Some(End::Whole), 2)),
            (
                vec![cut.clone(), both.clone(), done(0)],
                (Some(End::Interrupted), 3),
            ),
            (
                vec![both.clone(), cut, done(0)],
                (Some(End::Interrupted), 3),
            ),
            (
                vec![both, done(-libc::ENOMEM)],
                (Some(End::Refused(libc::ENOMEM)), 2),
            ),
            // Without a list, and what was asked before.
            (vec![thing(0, SEQ)], (Some(End::Whole), 1)),
            (vec![thing(0, SEQ - 1), done(0)], (Some(End::Whole), 0)),
            (
                vec![end(NLMSG_ERROR, -libc::EPERM)],
                (Some(End::Refused(libc::EPERM)), 0),
            ),
        ] {
            assert_eq!(told(&parts), expected, "{parts:?}");
        }
    }

    #[test]
    fn the_first_part_is_measured_alone() {
        let mut heard = Heard::of(SEQ);
        for part in [
            thing(MULTI, SEQ - 1),
            [thing(MULTI, SEQ), thing(MULTI, SEQ)].concat(),
        ] {
            assert_eq!(heard.part(&part, |_, _| {}), None);
        }
        assert_eq!(heard.part(&thing(MULTI, SEQ), |_, _| {}), None);
        assert_eq!(heard.first, 16);
    }
}
