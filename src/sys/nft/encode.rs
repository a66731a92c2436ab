//! Changes as netlink messages, joined into one batch. Safe code only.

use super::batch::Encoded;
use super::expr::describe;
use super::numbers::*;
use super::wire::{Writer, udata};
use crate::model::change::Change;
use crate::model::ruleset::{
    BaseChain, Chain, Data, Element, Family, Hook, KeyPart, Lifetime, SetSpec, TABLE, Target,
    Verdict,
};
use nftnl::{Batch, MsgType, ProtoFamily};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString};

/// A batch, ready to send, and what each of its messages does by sequence number.
pub(super) struct Transaction {
    pub(super) bytes: Vec<u8>,
    pub(super) what: BTreeMap<u32, String>,
    /// The messages that delete what may have gone by itself.
    pub(super) fleeting: BTreeSet<u32>,
    /// The sequence number of the begin message: errors of the whole batch carry it.
    pub(super) begin: u32,
}

impl Transaction {
    /// Without its end message the kernel checks a batch and then undoes it.
    pub(super) fn without_end(mut self) -> Self {
        let end = self.bytes.len().saturating_sub(HEADERS);
        self.bytes.truncate(end);
        self
    }
}

const TABLE_CSTR: &CStr = c"clusterip";
const NLM_F_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const NLM_F_ACK: u16 = libc::NLM_F_ACK as u16;
const NLM_F_CREATE: u16 = libc::NLM_F_CREATE as u16;
/// NFNL_BATCH_GENID, and the length of a netlink header with an nfgenmsg.
const BATCH_GENID: u16 = 1;
const HEADERS: usize = 20;
/// Elements in one message: an attribute's length has 16 bits, and an element needs less than 200
/// bytes.
const ELEMENTS_AT_ONCE: usize = 256;

/// The batch that makes these changes if the ruleset is still that of `generation`, or whatever it is.
pub(super) fn transaction(changes: &[Change], generation: Option<u32>) -> Transaction {
    let mut batch = Batch::new();
    // The begin message has the sequence number before that of the first message, or 0 where it is
    // not acknowledged; messages are numbered in the order in which they are added.
    let mut what = BTreeMap::new();
    let mut fleeting = BTreeSet::new();
    let first = match *nftnl_acks_begin() {
        true => 2,
        false => 1,
    };
    let mut next = first;
    let mut set_id = 0;
    for change in changes {
        let added = add(&mut batch, change, &mut set_id);
        for _ in 0..added {
            what.insert(next, change.to_string());
            if matches!(change, Change::DeleteElements(_, _, spec, _) if spec.lifetime != Lifetime::Endless)
            {
                fleeting.insert(next);
            }
            next += 1;
        }
    }
    let bytes: Vec<u8> = batch.finalize().iter().flatten().copied().collect();
    let begin = bytes.get(8..12).map_or(0, |seq| {
        u32::from_ne_bytes([seq[0], seq[1], seq[2], seq[3]])
    });
    Transaction {
        bytes: match generation {
            Some(generation) => with_generation(bytes, generation),
            None => bytes,
        },
        what,
        fleeting,
        begin,
    }
}

/// Does nftnl ask for acknowledgements of the begin message? Then that has a number of its own.
fn nftnl_acks_begin() -> &'static bool {
    static ACKS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    ACKS.get_or_init(|| {
        let empty = Batch::new().finalize();
        !empty.sequence_numbers().is_empty()
    })
}

/// Writes the generation into the begin message: the kernel refuses the batch if another
/// transaction came between (`nf_tables_valid_genid()`).
fn with_generation(mut bytes: Vec<u8>, generation: u32) -> Vec<u8> {
    if bytes.len() < HEADERS {
        return bytes;
    }
    let rest = bytes.split_off(HEADERS);
    bytes.extend(8u16.to_ne_bytes());
    bytes.extend(BATCH_GENID.to_ne_bytes());
    bytes.extend(generation.to_be_bytes());
    let len = bytes.len() as u32;
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes.extend(rest);
    bytes
}

/// Adds a change to the batch and says how many messages that took.
fn add(batch: &mut Batch, change: &Change, set_id: &mut u32) -> usize {
    match change {
        Change::AddTable(family) => batch.add(&table(*family), MsgType::Add),
        Change::DeleteTable(family) => batch.add(&table(*family), MsgType::Del),
        Change::AddChain(family, name, chain) => add_chain(batch, *family, name, chain),
        Change::FlushChain(family, name) => {
            let message = message(DEL_RULE, *family, 0)
                .text(RULE_TABLE, TABLE)
                .text(RULE_CHAIN, name);
            batch.add(&Encoded(message.finish()), MsgType::Add);
        }
        Change::DeleteChain(family, name) => {
            let message = message(DEL_CHAIN, *family, 0)
                .text(CHAIN_TABLE, TABLE)
                .text(CHAIN_NAME, name);
            batch.add(&Encoded(message.finish()), MsgType::Add);
        }
        Change::AddRule(family, chain, rule) => {
            let table = table(*family);
            let chain = nftnl::Chain::new(c_string(chain), &table);
            let mut built = nftnl::Rule::new(&chain);
            for described in rule.exprs.iter().filter_map(describe) {
                built.add_expr(&described);
            }
            if !rule.comment.is_empty() {
                // Ours are shorter than the 128 bytes that would be refused.
                let _ = built.set_comment(c_string(rule.comment));
            }
            batch.add(&built, MsgType::Add);
        }
        Change::AddSet(family, name, spec) => {
            *set_id += 1;
            let message = add_set(*family, name, spec, *set_id);
            batch.add(&Encoded(message), MsgType::Add);
        }
        Change::DeleteSet(family, name) => {
            let message = message(DEL_SET, *family, 0)
                .text(SET_TABLE, TABLE)
                .text(SET_NAME, name);
            batch.add(&Encoded(message.finish()), MsgType::Add);
        }
        Change::AddElements(family, name, spec, elements) => {
            return add_elements(batch, NEW_SETELEM, *family, name, spec, elements);
        }
        Change::DeleteElements(family, name, spec, elements) => {
            return add_elements(batch, DEL_SETELEM, *family, name, spec, elements);
        }
    }
    1
}

fn message(kind: u8, of: Family, flags: u16) -> Writer {
    Writer::message(kind, family(of), NLM_F_REQUEST | NLM_F_ACK | flags, 0)
}

fn table(family: Family) -> nftnl::Table {
    let family = match family {
        Family::Netdev => ProtoFamily::NetDev,
        Family::Arp => ProtoFamily::Arp,
        Family::Ip4 => ProtoFamily::Ipv4,
        Family::Ip6 => ProtoFamily::Ipv6,
    };
    nftnl::Table::new(TABLE_CSTR, family)
}

/// nftnl's chains have no comments, so chains are encoded here.
fn add_chain(batch: &mut Batch, of: Family, name: &str, chain: &Chain) {
    let mut message = message(NEW_CHAIN, of, NLM_F_CREATE)
        .text(CHAIN_TABLE, TABLE)
        .text(CHAIN_NAME, name);
    if let Some(BaseChain { hook, priority }) = &chain.base {
        let mut at = Writer::default()
            .u32(HOOK_NUMBER, hook_number(hook))
            .u32(HOOK_PRIORITY, *priority as u32);
        if let Hook::Ingress(device) = hook {
            at = at.text(HOOK_DEVICE, device);
        }
        message = message
            .nest(CHAIN_HOOK, at)
            .u32(CHAIN_POLICY, ACCEPT)
            .text(CHAIN_TYPE, "filter");
    }
    if let Some(comment) = &chain.comment {
        let mut text = comment.as_bytes().to_vec();
        text.push(0);
        message = message.bytes(CHAIN_USERDATA, &udata(UDATA_CHAIN_COMMENT, &text));
    }
    batch.add(&Encoded(message.finish()), MsgType::Add);
}

fn add_set(of: Family, name: &str, spec: &SetSpec, id: u32) -> Vec<u8> {
    let map = if spec.data == Data::None { 0 } else { FLAG_MAP };
    let ending = match spec.lifetime {
        Lifetime::Endless => 0,
        Lifetime::Each => FLAG_TIMEOUT,
        Lifetime::Learnt(_) => LEARNING,
    };
    let host = matches!(spec.key.as_slice(), [KeyPart::Number]);
    let byteorder = if host { 1u32 } else { 2 };
    let words = super::words::words(spec);
    // For nft, which would show the keys with their bytes swapped.
    let mut user = udata(UDATA_SET_KEYBYTEORDER, &byteorder.to_ne_bytes());
    let (mut of_key, mut of_data) = (key_type(&spec.key), data_type(spec.data));
    if let Some(words) = words {
        user.extend(words.user_data);
        user.extend(udata(UDATA_SET_KEY, &of_key.to_ne_bytes()));
        of_key = words.key_type;
        if let (Some(kind), Some((known, _))) = (words.data_type, &mut of_data) {
            user.extend(udata(UDATA_SET_DATA, &known.to_ne_bytes()));
            *known = kind;
        }
    }
    let mut message = message(NEW_SET, of, NLM_F_CREATE)
        .text(SET_TABLE, TABLE)
        .text(SET_NAME, name)
        .u32(SET_FLAGS, map | ending)
        .u32(SET_KEY_TYPE, of_key)
        .u32(SET_KEY_LEN, spec.key_len() as u32)
        .u32(SET_ID, id)
        .nest(SET_DESC, Writer::default().u32(DESC_SIZE, spec.size))
        .bytes(SET_USERDATA, &user);
    if let Some((kind, len)) = of_data {
        message = message.u32(SET_DATA_TYPE, kind);
        if len > 0 {
            message = message.u32(SET_DATA_LEN, len);
        }
    }
    if let Lifetime::Learnt(lifetime) = spec.lifetime {
        message = message.bytes(SET_TIMEOUT, &lifetime.to_be_bytes());
    }
    if let Some(interval) = spec.collected_ms {
        message = message.u32(SET_GC_INTERVAL, interval);
    }
    if spec.counters {
        message = message.nest(SET_EXPR, counter());
    }
    message.finish()
}

fn counter() -> Writer {
    Writer::default()
        .text(EXPR_NAME, "counter")
        .nest(EXPR_DATA, Writer::default())
}

fn add_elements(
    batch: &mut Batch,
    kind: u8,
    of: Family,
    name: &str,
    spec: &SetSpec,
    elements: &BTreeMap<Vec<u8>, Element>,
) -> usize {
    let all: Vec<_> = elements.iter().collect();
    let mut messages = 0;
    for some in all.chunks(ELEMENTS_AT_ONCE) {
        let mut list = Writer::default();
        for (key, element) in some {
            list = list.nest(LIST_ELEMENT, one_element(kind, spec, key, element));
        }
        let message = message(kind, of, NLM_F_CREATE)
            .text(ELEMENTS_TABLE, TABLE)
            .text(ELEMENTS_SET, name)
            .nest(ELEMENTS_LIST, list);
        debug_assert!(message.len() < usize::from(u16::MAX));
        batch.add(&Encoded(message.finish()), MsgType::Add);
        messages += 1;
    }
    messages
}

fn one_element(kind: u8, spec: &SetSpec, key: &[u8], element: &Element) -> Writer {
    let key = Writer::default().bytes(DATA_VALUE, key);
    let written = Writer::default().nest(ELEMENT_KEY, key);
    if kind == DEL_SETELEM {
        return written;
    }
    let written = match &element.target {
        Target::None => written,
        Target::Value(value) => {
            written.nest(ELEMENT_DATA, Writer::default().bytes(DATA_VALUE, value))
        }
        Target::Verdict(verdict) => {
            let mut inner = Writer::default().u32(VERDICT_CODE, verdict_code(verdict) as u32);
            if let Verdict::Goto(chain) | Verdict::Jump(chain) = verdict {
                inner = inner.text(VERDICT_CHAIN, chain);
            }
            written.nest(ELEMENT_DATA, Writer::default().nest(DATA_VERDICT, inner))
        }
    };
    let written = match element.left_ms {
        Some(left) => written.bytes(ELEMENT_TIMEOUT, &left.max(1).to_be_bytes()),
        None => written,
    };
    // Kernels before 5.11 do not add the set's counter to its elements by themselves.
    match spec.counters {
        true => written.nest(ELEMENT_EXPR, counter()),
        false => written,
    }
}

/// A name for libnftnl. A NUL ends it, as it would in the kernel.
fn c_string(text: &str) -> CString {
    let before: Vec<u8> = text.bytes().take_while(|b| *b != 0).collect();
    CString::new(before).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::decode;
    use super::super::wire::Attributes;
    use super::*;

    /// The attributes of the messages of a batch, by their kinds.
    fn messages(mut bytes: &[u8]) -> Vec<(u16, &[u8])> {
        let mut all = Vec::new();
        while let Some(len) = bytes.first_chunk() {
            let len = u32::from_ne_bytes(*len) as usize;
            let kind = u16::from_ne_bytes([bytes[4], bytes[5]]);
            all.push((kind, &bytes[HEADERS..len]));
            bytes = &bytes[len.next_multiple_of(4)..];
        }
        all
    }

    fn added(lifetime: Lifetime, element: Element) -> Change {
        let spec = SetSpec {
            lifetime,
            ..SetSpec::new(vec![KeyPart::Number], Data::Verdict, 12)
        };
        let elements = BTreeMap::from([(vec![0, 0, 0, 3], element)]);
        Change::AddElements(Family::Netdev, "leaving-1".to_owned(), spec, elements)
    }

    #[test]
    fn a_transaction_is_for_the_generation_that_it_was_made_for() {
        let changes = [Change::DeleteTable(Family::Netdev)];
        let generation = |of| {
            let transaction = transaction(&changes, of);
            let all = messages(&transaction.bytes);
            let (begin, change, end) = (all[0], all[1], all[2]);
            assert_eq!(
                [begin.0, end.0],
                [libc::NFNL_MSG_BATCH_BEGIN, libc::NFNL_MSG_BATCH_END].map(|kind| kind as u16)
            );
            assert_ne!(change.0, begin.0);
            Attributes::read(begin.1).u32(BATCH_GENID)
        };
        assert_eq!(generation(Some(0x0102_0304)), Some(0x0102_0304));
        assert_eq!(generation(None), None);
    }

    #[test]
    fn what_ends_by_itself_is_told_when() {
        let goto = Target::Verdict(Verdict::Goto("vip-1-closing".to_owned()));
        for left_ms in [None, Some(0), Some(10_000)] {
            let mut element = Element::new(goto.clone());
            element.left_ms = left_ms;
            let change = added(Lifetime::Each, element.clone());
            let transaction = transaction(&[change], Some(1));
            let body = messages(&transaction.bytes)[1].1;
            let list = Attributes::read(body)
                .nest(ELEMENTS_LIST)
                .expect("elements");
            let (_, bytes) = list.all().next().expect("an element");
            let time = Attributes::read(bytes).u64(ELEMENT_TIMEOUT);
            // Without a time it would never end.
            assert_eq!(time, left_ms.map(|ms| ms.max(1)));
            element.left_ms = None;
            assert_eq!(decode::elements(body), [(vec![0, 0, 0, 3], element)]);
        }
    }

    #[test]
    fn only_what_may_have_gone_by_itself_may_be_gone() {
        let fleeting = |lifetime| {
            let Change::AddElements(of, name, spec, gone) =
                added(lifetime, Element::new(Target::None))
            else {
                unreachable!()
            };
            let transaction = transaction(&[Change::DeleteElements(of, name, spec, gone)], Some(1));
            assert_eq!(transaction.what.len(), 1);
            transaction.fleeting.len()
        };
        assert_eq!(fleeting(Lifetime::Endless), 0);
        assert_eq!(fleeting(Lifetime::Each), 1);
        assert_eq!(fleeting(Lifetime::Learnt(1_000)), 1);
    }
}
