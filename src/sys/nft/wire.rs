//! Netlink attributes, written and read, and libnftnl's user data, as it is written. Safe code only: what comes from the kernel is checked.

use netlink_packet_core::NlasIterator;

const NESTED: u16 = 0x8000;

/// Attributes that are being written.
#[derive(Debug, Default)]
pub(super) struct Writer(Vec<u8>);

impl Writer {
    /// A netlink message for nf_tables, still without attributes and with its length to be set.
    pub(super) fn message(msg: u8, family: u8, flags: u16, seq: u32) -> Self {
        let kind = (u16::from(SUBSYSTEM) << 8) | u16::from(msg);
        let mut bytes = vec![0; 4];
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(flags.to_ne_bytes());
        bytes.extend(seq.to_ne_bytes());
        bytes.extend([0; 4]);
        // struct nfgenmsg: family, version, resource id.
        bytes.extend([family, 0, 0, 0]);
        Writer(bytes)
    }

    /// The message with its length in its header.
    pub(super) fn finish(mut self) -> Vec<u8> {
        let len = self.0.len() as u32;
        self.0[..4].copy_from_slice(&len.to_ne_bytes());
        self.0
    }

    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend((value.len() as u16 + 4).to_ne_bytes());
        self.0.extend(kind.to_ne_bytes());
        self.0.extend(value);
        self.0.resize(self.0.len().next_multiple_of(4), 0);
        self
    }

    pub(super) fn u32(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        self.bytes(kind, &bytes)
    }

    pub(super) fn nest(self, kind: u16, inner: Writer) -> Self {
        self.bytes(kind | NESTED, &inner.0)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// libnftnl's user data: type, length, value.
pub(super) fn udata(kind: u8, value: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, value.len().min(255) as u8];
    bytes.extend(value.iter().take(255));
    bytes
}

/// NFNL_SUBSYS_NFTABLES.
pub(super) const SUBSYSTEM: u8 = 10;

/// Attributes that were read. Of an attribute that stands there twice the last counts.
pub(super) struct Attributes<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attributes<'a> {
    /// What can be read of these bytes; the rest, if it is malformed, is as if it were not there.
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let mut all = Vec::new();
        for attribute in NlasIterator::new(bytes) {
            let Ok(attribute) = attribute else { break };
            let (kind, len) = (attribute.kind(), attribute.value_length());
            let value = attribute.into_inner().get(4..4 + len).unwrap_or_default();
            all.push((kind, value));
        }
        Attributes(all)
    }

    pub(super) fn get(&self, kind: u16) -> Option<&'a [u8]> {
        let mut found = self.0.iter().rev().filter(|(k, _)| *k == kind);
        found.next().map(|(_, value)| *value)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        self.0.iter().copied()
    }

    pub(super) fn nest(&self, kind: u16) -> Option<Attributes<'a>> {
        self.get(kind).map(Attributes::read)
    }

    pub(super) fn u32(&self, kind: u16) -> Option<u32> {
        let bytes = self.get(kind)?.get(..4)?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn u64(&self, kind: u16) -> Option<u64> {
        let bytes = self.get(kind)?.get(..8)?;
        Some(u64::from_be_bytes(bytes.try_into().ok()?))
    }

    pub(super) fn text(&self, kind: u16) -> Option<String> {
        let bytes = self.get(kind)?;
        let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read_back() {
        let inner = Writer::default().text(2, "chain").u32(1, 7);
        let bytes = Writer::default()
            .bytes(1, &[1, 2, 3])
            .nest(2, inner)
            .finish_for_test();
        let read = Attributes::read(&bytes);
        assert_eq!(read.get(1), Some(&[1, 2, 3][..]));
        let inner = read.nest(2).expect("nested");
        assert_eq!(inner.text(2).as_deref(), Some("chain"));
        assert_eq!(inner.u32(1), Some(7));
        assert_eq!(inner.u64(1), None);
    }

    impl Writer {
        fn finish_for_test(self) -> Vec<u8> {
            self.0
        }
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            for (kind, _) in Attributes::read(&bytes).all() {
                let all = Attributes::read(&bytes);
                let _ = (all.u32(kind), all.u64(kind), all.text(kind), all.nest(kind).is_some());
            }
        }
    }
}
