//! One synchronous rtnetlink conversation: a request, and its acknowledgement
//! or its list of answers.
//!
//! Only framing lives here (RFC 3549 §2.3.2; the kernel's
//! `net/netlink/af_netlink.c`). What the messages mean is `decode`'s.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike},
};

use super::error::RouteError;
use crate::sys::errno::uninterrupted;

/// How long a sign of life of the kernel is waited for, in seconds.
pub const ANSWER_TIMEOUT_S: i64 = 5;

/// Readings of a list that changed meanwhile, before giving up. One takes about
/// a millisecond; a list that changes 64 times as fast is a fault of its own.
const DUMP_TRIES: u32 = 64;

/// The kernel fills at most 32 KiB of a dump at once (`netlink_recvmsg` caps
/// `max_recvmsg_len`); a single message about a link with very many virtual
/// functions may be larger, but we do not ask for those.
const BUFFER_LEN: usize = 64 * 1024;

const NETLINK_HEADER_LEN: usize = 16;
const NLMSG_NOOP: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLMSG_OVERRUN: u16 = 4;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// One answer of the kernel, not yet interpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    /// `RTM_NEWLINK` and so on.
    pub(super) kind: u16,
    /// The family's header and its attributes.
    pub(super) body: Vec<u8>,
}

/// A request of a kind for which `RouteNetlinkMessage` has no words.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// `RTM_GETMDB` and so on.
    pub(super) kind: u16,
    /// The family's header.
    pub(super) body: Vec<u8>,
}

impl NetlinkSerializable for Request {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

/// What one datagram of the kernel brought.
#[derive(Debug, Default, PartialEq, Eq)]
struct Batch {
    answers: Vec<Answer>,
    /// The conversation is over: an acknowledgement, an error or the list's end.
    end: Option<End>,
    /// The list was changed while it was read.
    interrupted: bool,
}

#[derive(Debug, PartialEq, Eq)]
struct End {
    /// 0, or a positive error number.
    errno: i32,
    kernel_says: Option<String>,
}

/// The socket. Not shared between threads; the sequence number tells late
/// answers to an abandoned request from those to the present one.
pub(super) struct Wire {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Wire {
    /// Opens, binds and connects the socket to the kernel (port 0, so that
    /// nobody else's datagrams are delivered).
    pub(super) fn open() -> Result<Self, RouteError> {
        Self::try_open().map_err(|source| RouteError::Open { source })
    }

    fn try_open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        let timeout = TimeVal::seconds(ANSWER_TIMEOUT_S);
        setsockopt(&socket, ReceiveTimeout, &timeout).map_err(io::Error::from)?;
        // Both are wishes. Without strict checking (before Linux 4.20) the
        // kernel sends more than was asked for, and the caller filters anyway;
        // without extended acknowledgements an error is only a number.
        let _ = socket.set_netlink_get_strict_chk(true);
        let _ = socket.set_ext_ack(true);
        socket.bind_auto()?;
        uninterrupted(|| socket.connect(&SocketAddr::new(0, 0)))?;
        Ok(Self {
            socket,
            sequence: 0,
            buffer: vec![0; BUFFER_LEN],
        })
    }

    /// Sends a request that changes something and waits for its
    /// acknowledgement. `what` completes "asked to …" in errors.
    pub(super) fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: &str,
    ) -> Result<(), RouteError> {
        self.converse(message, flags | NLM_F_ACK, what).map(|_| ())
    }

    /// Asks for one thing. The acknowledgement is asked for too, so that the
    /// end is always marked.
    pub(super) fn get(
        &mut self,
        message: RouteNetlinkMessage,
        what: &str,
    ) -> Result<Vec<Answer>, RouteError> {
        self.converse(message, NLM_F_ACK, what)
            .map(|(answers, _)| answers)
    }

    /// Asks for a list; one that changed while it was read is read again.
    pub(super) fn dump(
        &mut self,
        message: impl NetlinkSerializable + Clone,
        what: &str,
    ) -> Result<Vec<Answer>, RouteError> {
        for _ in 0..DUMP_TRIES {
            let (answers, interrupted) = self.converse(message.clone(), NLM_F_DUMP, what)?;
            if !interrupted {
                return Ok(answers);
            }
        }
        Err(RouteError::Interrupted {
            what: what.to_owned(),
            tries: DUMP_TRIES,
        })
    }

    fn converse(
        &mut self,
        message: impl NetlinkSerializable,
        flags: u16,
        what: &str,
    ) -> Result<(Vec<Answer>, bool), RouteError> {
        self.send(message, flags, what)?;
        let mut answers = Vec::new();
        let mut interrupted = false;
        loop {
            let length = self.receive(what)?;
            let Some(datagram) = self.buffer.get(..length) else {
                return Err(malformed(what, format!("a datagram of {length} bytes")));
            };
            let batch = split(datagram, self.sequence).map_err(|why| malformed(what, why))?;
            answers.extend(batch.answers);
            interrupted |= batch.interrupted;
            match batch.end {
                None => {}
                Some(End { errno: 0, .. }) => return Ok((answers, interrupted)),
                Some(End { errno, kernel_says }) => {
                    return Err(RouteError::Refused {
                        what: what.to_owned(),
                        errno,
                        kernel_says,
                    });
                }
            }
        }
    }

    fn send(
        &mut self,
        message: impl NetlinkSerializable,
        flags: u16,
        what: &str,
    ) -> Result<(), RouteError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut packet = NetlinkMessage::new(
            NetlinkHeader::default(),
            NetlinkPayload::InnerMessage(message),
        );
        packet.header.flags = NLM_F_REQUEST | flags;
        packet.header.sequence_number = self.sequence;
        packet.finalize();
        let mut bytes = vec![0; packet.buffer_len()];
        packet.serialize(&mut bytes);
        match uninterrupted(|| self.socket.send(&bytes, 0)) {
            Ok(sent) if sent == bytes.len() => Ok(()),
            Ok(sent) => {
                let why = format!("sent {sent} of {} bytes", bytes.len());
                Err(RouteError::Io {
                    what: what.to_owned(),
                    source: io::Error::other(why),
                })
            }
            Err(source) => Err(RouteError::Io {
                what: what.to_owned(),
                source,
            }),
        }
    }

    /// The length of the next datagram, which is in the buffer.
    fn receive(&mut self, what: &str) -> Result<usize, RouteError> {
        loop {
            // With MSG_TRUNC the true length comes back even where it did not fit.
            match self.socket.recv(&mut &mut self.buffer[..], libc::MSG_TRUNC) {
                Ok(length) => return Ok(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let what = what.to_owned();
                    return Err(RouteError::Timeout {
                        what,
                        seconds: ANSWER_TIMEOUT_S,
                    });
                }
                Err(source) => {
                    return Err(RouteError::Io {
                        what: what.to_owned(),
                        source,
                    });
                }
            }
        }
    }
}

/// A [`RouteError::Malformed`].
pub(super) fn malformed(what: &str, detail: impl Into<String>) -> RouteError {
    RouteError::Malformed {
        what: what.to_owned(),
        detail: detail.into(),
    }
}

/// Takes a datagram apart. Messages with another sequence number belong to an
/// earlier request that was given up, and are passed over.
fn split(mut datagram: &[u8], sequence: u32) -> Result<Batch, String> {
    let mut batch = Batch::default();
    while !datagram.is_empty() {
        let message = NetlinkBuffer::new_checked(datagram).map_err(|error| error.to_string())?;
        let length = message.length() as usize;
        let Some(payload) = datagram.get(NETLINK_HEADER_LEN..length) else {
            return Err(format!("a message of {length} bytes"));
        };
        if message.sequence_number() == sequence {
            let flags = message.flags();
            batch.interrupted |= flags & NLM_F_DUMP_INTR != 0;
            match message.message_type() {
                NLMSG_NOOP => {}
                NLMSG_OVERRUN => return Err("data were lost (NLMSG_OVERRUN)".to_owned()),
                // The end of a list carries its error number too; an old
                // kernel may send it without.
                NLMSG_DONE if payload.is_empty() => batch.end = Some(end(&[0; 4], &[])?),
                NLMSG_DONE => {
                    let says = if flags & NLM_F_ACK_TLVS != 0 {
                        payload.get(4..)
                    } else {
                        None
                    };
                    batch.end = Some(end(payload, says.unwrap_or_default())?);
                }
                NLMSG_ERROR => {
                    let says = error_attributes(payload, flags);
                    batch.end = Some(end(payload, says.unwrap_or_default())?);
                }
                kind => batch.answers.push(Answer {
                    kind,
                    body: payload.to_vec(),
                }),
            }
        }
        let aligned = length.next_multiple_of(4);
        datagram = datagram.get(aligned..).unwrap_or_default();
    }
    Ok(batch)
}

/// Where an `NLMSG_ERROR`'s attributes begin: behind the number and the
/// quoted request, of which a capped one quotes only the header.
fn error_attributes(payload: &[u8], flags: u16) -> Option<&[u8]> {
    if flags & NLM_F_ACK_TLVS == 0 {
        return None;
    }
    let request = payload.get(4..)?;
    let quoted = if flags & NLM_F_CAPPED != 0 {
        NETLINK_HEADER_LEN
    } else {
        u32::from_ne_bytes(request.first_chunk().copied()?) as usize
    };
    request.get(quoted.checked_next_multiple_of(4)?..)
}

fn end(payload: &[u8], attributes: &[u8]) -> Result<End, String> {
    let Some(code) = payload.first_chunk() else {
        return Err(format!("an error message of {} bytes", payload.len()));
    };
    let errno = i32::from_ne_bytes(*code).checked_neg().unwrap_or(i32::MAX);
    let kernel_says = NlasIterator::new(attributes)
        .flatten()
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| {
            String::from_utf8_lossy(attribute.value())
                .trim_end_matches('\0')
                .to_owned()
        })
        .filter(|text| !text.is_empty());
    Ok(End { errno, kernel_says })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, sequence: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(NETLINK_HEADER_LEN + payload.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn a_list_and_its_end() {
        let mut bytes = message(16, 2, 7, &[1, 2, 3]);
        bytes.extend(message(16, 2, 6, &[9]));
        bytes.extend(message(
            NLMSG_DONE,
            2 | NLM_F_DUMP_INTR,
            7,
            &0i32.to_ne_bytes(),
        ));
        let batch = split(&bytes, 7).unwrap();
        assert_eq!(
            batch.answers,
            [Answer {
                kind: 16,
                body: vec![1, 2, 3]
            }]
        );
        assert_eq!(
            batch.end,
            Some(End {
                errno: 0,
                kernel_says: None
            })
        );
        assert!(batch.interrupted);
        // A late message of an earlier request neither counts nor ends anything.
        assert_eq!(split(&bytes, 8).unwrap(), Batch::default());
    }

    #[test]
    fn an_error_brings_the_kernels_words() {
        let mut payload = (-libc::EINVAL).to_ne_bytes().to_vec();
        payload.extend(message(20, 5, 1, &[]));
        payload.extend([12, 0, 1, 0]);
        payload.extend(b"bad one\0");
        let flags = NLM_F_CAPPED | NLM_F_ACK_TLVS;
        let batch = split(&message(NLMSG_ERROR, flags, 1, &payload), 1).unwrap();
        let end = End {
            errno: libc::EINVAL,
            kernel_says: Some("bad one".into()),
        };
        assert_eq!(batch.end, Some(end));
    }

    #[test]
    fn no_input_panics() {
        assert!(split(&[1, 2, 3], 0).is_err());
        assert!(split(&message(NLMSG_ERROR, 0, 0, &[1]), 0).is_err());
        let whole = {
            let mut payload = i32::MIN.to_ne_bytes().to_vec();
            payload.extend(u32::MAX.to_ne_bytes());
            payload.extend([0; 40]);
            message(NLMSG_ERROR, NLM_F_ACK_TLVS, 0, &payload)
        };
        for at in 0..whole.len() {
            for value in [0, 1, 4, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                for cut in 0..=bytes.len() {
                    let _ = split(&bytes[..cut], 0);
                }
            }
        }
    }
}
