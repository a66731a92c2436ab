//! The kernel's messages as values. Whatever is not one of ours becomes `Other`; nothing here
//! fails or panics, for a ruleset that cannot be understood is a drifted one.

use super::numbers::*;
use super::wire::Attributes;
use crate::model::ruleset::{
    BaseChain, Chain, Count, Element, Expr, Family, Found, Hook, KeyPart, Learn, Lifetime, Rule,
    SetSpec, TABLE, Target, Verdict, Words,
};

/// A chain of ours, without its rules, and its name.
pub(super) fn chain(of: Family, body: &[u8]) -> Option<(String, Chain)> {
    let attributes = Attributes::read(body);
    if attributes.text(CHAIN_TABLE)? != TABLE {
        return None;
    }
    let base = attributes.nest(CHAIN_HOOK).map(|hook| {
        let number = hook.u32(HOOK_NUMBER);
        let device = hook.text(HOOK_DEVICE).or_else(|| {
            let devices: Vec<_> = hook.nest(HOOK_DEVICES)?.all().collect();
            match devices.as_slice() {
                [(DEVICE_NAME, name)] => Some(name_of(name)),
                _ => None,
            }
        });
        let known = number.and_then(|number| hook_of(of, number, device));
        let accepts = attributes.u32(CHAIN_POLICY) == Some(ACCEPT);
        let filters = attributes.text(CHAIN_TYPE).as_deref() == Some("filter");
        BaseChain {
            hook: match known {
                Some(hook) if accepts && filters => hook,
                _ => Hook::Other(format!("hook {number:?}, another policy, type or device")),
            },
            priority: hook.u32(HOOK_PRIORITY).unwrap_or_default() as i32,
        }
    });
    let comment = attributes
        .get(CHAIN_USERDATA)
        .and_then(|data| udata(data, UDATA_CHAIN_COMMENT))
        .map(name_of);
    let name = attributes.text(CHAIN_NAME)?;
    let rules = Vec::new();
    Some((
        name,
        Chain {
            base,
            comment,
            rules,
        },
    ))
}

/// A rule as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ListedRule {
    pub handle: u64,
    /// The handle of the one before it in its chain.
    pub before: Option<u64>,
    pub rule: Rule,
}

/// A rule of ours.
pub(super) fn rule(body: &[u8]) -> Option<ListedRule> {
    let attributes = Attributes::read(body);
    if attributes.text(RULE_TABLE)? != TABLE {
        return None;
    }
    let handle = attributes.u64(RULE_HANDLE)?;
    let before = attributes.u64(RULE_POSITION).filter(|handle| *handle != 0);
    let mut rule = Rule::default();
    if let Some(list) = attributes.nest(RULE_EXPRESSIONS) {
        for (_, bytes) in list.all() {
            let (expr, count) = expression(&Attributes::read(bytes));
            rule.exprs.push(expr);
            rule.count = rule.count.or(count);
        }
    }
    Some(ListedRule {
        handle,
        before,
        rule,
    })
}

/// A set of ours, without its elements, and its name.
pub(super) fn set(body: &[u8]) -> Option<(String, SetSpec)> {
    let attributes = Attributes::read(body);
    if attributes.text(SET_TABLE)? != TABLE {
        return None;
    }
    let flags = attributes.u32(SET_FLAGS).unwrap_or_default();
    let user = |kind| {
        let bytes = udata(attributes.get(SET_USERDATA)?, kind)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let of_key = user(UDATA_SET_KEY).or_else(|| attributes.u32(SET_KEY_TYPE));
    let mut key = key_parts(of_key.unwrap_or_default());
    if key == [KeyPart::Bits] && user(UDATA_SET_KEYBYTEORDER) == Some(1) {
        key = vec![KeyPart::Number];
    }
    let is_map = flags & FLAG_MAP != 0;
    let of_data = user(UDATA_SET_DATA).or_else(|| attributes.u32(SET_DATA_TYPE));
    let data = of_data.filter(|_| is_map);
    let counter = attributes.nest(SET_EXPR);
    let counter = counter.and_then(|expr| expr.text(EXPR_NAME));
    let spec = SetSpec {
        key,
        data: data_of(data),
        counters: counter.as_deref() == Some("counter"),
        size: attributes
            .nest(SET_DESC)
            .and_then(|desc| desc.u32(DESC_SIZE))
            .unwrap_or_default(),
        lifetime: match attributes.u64(SET_TIMEOUT) {
            Some(lifetime) if flags & LEARNING == LEARNING => Lifetime::Learnt(lifetime),
            _ if flags & LEARNING == FLAG_TIMEOUT => Lifetime::Each,
            _ => Lifetime::Endless,
        },
        collected_ms: attributes.u32(SET_GC_INTERVAL),
        words: Words::default(),
    };
    Some((attributes.text(SET_NAME)?, spec))
}

/// The elements in one message, with their keys.
pub(super) fn elements(body: &[u8]) -> Vec<(Vec<u8>, Element)> {
    let attributes = Attributes::read(body);
    let Some(list) = attributes.nest(ELEMENTS_LIST) else {
        return Vec::new();
    };
    list.all()
        .filter_map(|(_, bytes)| element(&Attributes::read(bytes)))
        .collect()
}

fn element(attributes: &Attributes<'_>) -> Option<(Vec<u8>, Element)> {
    // A catch-all element has no key.
    let key = match attributes.nest(ELEMENT_KEY) {
        Some(key) => key.get(DATA_VALUE)?.to_vec(),
        None => Vec::new(),
    };
    let target = match attributes.nest(ELEMENT_DATA) {
        None => Target::None,
        Some(data) => match (data.nest(DATA_VERDICT), data.get(DATA_VALUE)) {
            (Some(inner), _) => Target::Verdict(verdict(&inner)),
            (None, Some(value)) => Target::Value(value.to_vec()),
            (None, None) => Target::None,
        },
    };
    let count = attributes
        .nest(ELEMENT_EXPR)
        .and_then(|expr| expression(&expr).1);
    let left_ms = attributes.u64(ELEMENT_EXPIRATION);
    Some((
        key,
        Element {
            target,
            count,
            left_ms,
        },
    ))
}

/// The flags of a table, and how many chains, sets, objects and flowtables it has.
pub(super) fn table(body: &[u8]) -> (u32, usize) {
    let attributes = Attributes::read(body);
    let number = |kind| attributes.u32(kind).unwrap_or_default();
    (number(TABLE_FLAGS), number(TABLE_USE) as usize)
}

/// An object or a flowtable in our table.
pub(super) fn other_thing(body: &[u8]) -> Option<()> {
    let table = Attributes::read(body).text(OTHERS_TABLE)?;
    (table == TABLE).then_some(())
}

/// The generation of the ruleset.
pub(super) fn generation(body: &[u8]) -> Option<u32> {
    Attributes::read(body).u32(GEN_ID)
}

fn verdict(attributes: &Attributes<'_>) -> Verdict {
    let code = attributes.u32(VERDICT_CODE).unwrap_or(u32::MAX) as i32;
    verdict_of(code, attributes.text(VERDICT_CHAIN))
}

/// An expression, and what it counted if it is a counter.
fn expression(attributes: &Attributes<'_>) -> (Expr, Option<Count>) {
    let name = attributes.text(EXPR_NAME).unwrap_or_default();
    let empty = Attributes::read(&[]);
    let data = attributes.nest(EXPR_DATA).unwrap_or(empty);
    if name == "counter" {
        let count = Count {
            packets: data.u64(COUNTER_PACKETS).unwrap_or_default(),
            bytes: data.u64(COUNTER_BYTES).unwrap_or_default(),
        };
        return (Expr::Counter, Some(count));
    }
    let known = known_expression(&name, &data);
    (known.unwrap_or(Expr::Other(name)), None)
}

fn known_expression(name: &str, data: &Attributes<'_>) -> Option<Expr> {
    let reg = |attribute| data.u32(attribute).map(register_of);
    let value = |attribute| Some(data.nest(attribute)?.get(DATA_VALUE)?.to_vec());
    let is_zero = |attribute| data.u32(attribute).unwrap_or_default() == 0;
    Some(match name {
        // NFTA_PAYLOAD_DREG 1, BASE 2, OFFSET 3, LEN 4, SREG 5, CSUM_TYPE 6, CSUM_OFFSET 7
        "payload" => {
            let (base, offset, len) = (header_of(data.u32(2)?), data.u32(3)?, data.u32(4)?);
            match (reg(1), reg(5)) {
                (Some(to), None) => Expr::Payload {
                    header: base,
                    offset,
                    len,
                    to,
                },
                (None, Some(from)) => Expr::Write {
                    header: base,
                    offset,
                    len,
                    from,
                    checksum: match data.u32(6).unwrap_or_default() {
                        0 => None,
                        1 => Some(data.u32(7)?),
                        _ => return None,
                    },
                },
                _ => return None,
            }
        }
        // NFTA_META_DREG 1, KEY 2, SREG 3
        "meta" => {
            let key = meta_key_of(data.u32(2)?);
            match (reg(1), reg(3)) {
                (Some(to), None) => Expr::Meta { key, to },
                (None, Some(from)) => Expr::SetMeta { key, from },
                _ => return None,
            }
        }
        // NFTA_CMP_SREG 1, OP 2, DATA 3
        "cmp" => Expr::Compare {
            from: reg(1)?,
            how: comparison_of(data.u32(2)?)?,
            value: value(3)?,
        },
        // NFTA_LIMIT_RATE 1, UNIT 2, BURST 3, TYPE 4, FLAGS 5
        "limit" if data.u64(2) == Some(1) && is_zero(4) && is_zero(5) => {
            let (rate, burst) = (data.u64(1)?, data.u32(3)?);
            match u64::from(burst) == rate {
                true => Expr::AtMostASecond { packets: burst },
                false => return None,
            }
        }
        // NFTA_EXTHDR_DREG 1, TYPE 2, OFFSET 3, LEN 4, FLAGS 5, OP 6, SREG 7
        "exthdr" if is_zero(5) && is_zero(6) && data.get(2) == Some(&[NEXTHDR_FRAGMENT]) => {
            Expr::FragmentHeader {
                offset: data.u32(3)?,
                len: data.u32(4)?,
                to: reg(1)?,
            }
        }
        // NFTA_BITWISE_SREG 1, DREG 2, LEN 3, MASK 4, XOR 5, OP 6
        "bitwise" if is_zero(6) && value(5)?.iter().all(|b| *b == 0) => Expr::And {
            from: reg(1)?,
            to: reg(2)?,
            mask: value(4)?,
        },
        // NFTA_BYTEORDER_SREG 1, DREG 2, OP 3, LEN 4, SIZE 5
        "byteorder" if is_zero(3) && data.u32(4) == Some(4) && data.u32(5) == Some(4) => {
            Expr::ToHostOrder {
                from: reg(1)?,
                to: reg(2)?,
            }
        }
        "byteorder" if is_zero(3) && data.u32(4) == Some(2) && data.u32(5) == Some(2) => {
            Expr::FirstTwoToHostOrder {
                from: reg(1)?,
                to: reg(2)?,
            }
        }
        // NFTA_HASH_SREG 1, DREG 2, LEN 3, MODULUS 4, SEED 5, OFFSET 6, TYPE 7
        "hash" if is_zero(6) && is_zero(7) => Expr::Hash {
            from: reg(1)?,
            len: data.u32(3)?,
            to: reg(2)?,
            modulus: data.u32(4)?,
            seed: data.u32(5)?,
        },
        // NFTA_LOOKUP_SET 1, SREG 2, DREG 3, SET_ID 4, FLAGS 5
        "lookup" => Expr::Lookup {
            set: data.text(1)?,
            from: reg(2)?,
            found: match (data.u32(5).unwrap_or_default(), data.u32(3)) {
                (LOOKUP_INVERTED, None) => Found::Missing,
                (0, None) => Found::GoOn,
                (0, Some(0)) => Found::Verdict,
                (0, Some(number)) => Found::Value(register_of(number)),
                _ => return None,
            },
        },
        // NFTA_DYNSET_SET_NAME 1, OP 3, SREG_KEY 4, SREG_DATA 5, TIMEOUT 6, EXPR 7, FLAGS 9,
        // EXPRESSIONS 10
        "dynset"
            if data.u64(6).unwrap_or_default() == 0
                && [5, 7, 10].iter().all(|kind| data.get(*kind).is_none()) =>
        {
            Expr::Learn {
                set: data.text(1)?,
                from: reg(4)?,
                what: match (data.u32(3)?, data.u32(9).unwrap_or_default()) {
                    (DYNSET_UPDATE, 0) => Learn::Keep,
                    (DYNSET_ADD, 0) => Learn::Note,
                    (DYNSET_DELETE, 0) => Learn::Forget,
                    _ => return None,
                },
            }
        }
        // NFTA_IMMEDIATE_DREG 1, DATA 2
        "immediate" => match data.u32(1)? {
            0 => Expr::Verdict(verdict(&data.nest(2)?.nest(DATA_VERDICT)?)),
            number => Expr::Load {
                to: register_of(number),
                value: value(2)?,
            },
        },
        _ => return None,
    })
}

/// The value of this type in libnftnl's user data: type, length, value.
fn udata(mut bytes: &[u8], kind: u8) -> Option<&[u8]> {
    while let [found, len, rest @ ..] = bytes {
        let value = rest.get(..usize::from(*len))?;
        if *found == kind {
            return Some(value);
        }
        bytes = &rest[value.len()..];
    }
    None
}

fn name_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}
