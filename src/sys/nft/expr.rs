//! Our expressions as libnftnl's. The nftnl crate lacks most of them, so they are described here
//! as data (a name and its attributes) and built in one place. With `batch` the only `unsafe` of
//! this module.

#![allow(unsafe_code)]

use super::numbers::*;
use crate::model::ruleset::{Expr, Found, Learn, MetaKey, Reg, Verdict};
use nftnl::Rule;
use nftnl::expr::Expression;
use nftnl::nftnl_sys as sys;
use std::ffi::{CStr, CString};
use std::ptr::NonNull;

/// An attribute of 32, 64 or eight bits, bytes, or a name.
enum Attribute {
    Number(u32),
    Wide(u64),
    Byte(u8),
    Bytes(Vec<u8>),
    Name(CString),
}

/// An expression's kernel name and its attributes, by libnftnl's numbers.
pub(super) struct Described {
    name: &'static CStr,
    attributes: Vec<(u16, Attribute)>,
}

impl Described {
    fn new(name: &'static CStr) -> Self {
        Described {
            name,
            attributes: Vec::new(),
        }
    }

    fn number(mut self, attribute: impl Into<i64>, value: u32) -> Self {
        let attribute = attribute.into() as u16;
        self.attributes.push((attribute, Attribute::Number(value)));
        self
    }

    fn byte(mut self, attribute: impl Into<i64>, value: u8) -> Self {
        let attribute = attribute.into() as u16;
        self.attributes.push((attribute, Attribute::Byte(value)));
        self
    }

    fn wide(mut self, attribute: impl Into<i64>, value: u64) -> Self {
        let attribute = attribute.into() as u16;
        self.attributes.push((attribute, Attribute::Wide(value)));
        self
    }

    fn register(self, attribute: impl Into<i64>, value: Reg) -> Self {
        self.number(attribute, register(value))
    }

    fn bytes(mut self, attribute: impl Into<i64>, value: &[u8]) -> Self {
        let attribute = attribute.into() as u16;
        let value = Attribute::Bytes(value.to_vec());
        self.attributes.push((attribute, value));
        self
    }

    /// A name with a NUL in it cannot exist in the kernel: it ends there.
    fn name(mut self, attribute: impl Into<i64>, value: &str) -> Self {
        let before: Vec<u8> = value.bytes().take_while(|b| *b != 0).collect();
        if let Ok(value) = CString::new(before) {
            let attribute = attribute.into() as u16;
            self.attributes.push((attribute, Attribute::Name(value)));
        }
        self
    }
}

impl Expression for Described {
    fn to_expr(&self, _: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        // SAFETY: the name is NUL-terminated. A null pointer is handled below.
        let expr = unsafe { sys::nftnl_expr_alloc(self.name.as_ptr()) };
        // Out of memory, or a libnftnl that is older than the one we are linked to.
        let Some(expr) = NonNull::new(expr) else {
            std::process::abort()
        };
        for (attribute, value) in &self.attributes {
            // SAFETY: `expr` was just allocated and is ours; libnftnl copies what the pointers
            // show, with the length that belongs to them.
            unsafe {
                match value {
                    Attribute::Number(n) => {
                        sys::nftnl_expr_set_u32(expr.as_ptr(), *attribute, *n);
                    }
                    Attribute::Wide(n) => {
                        sys::nftnl_expr_set_u64(expr.as_ptr(), *attribute, *n);
                    }
                    Attribute::Byte(n) => {
                        sys::nftnl_expr_set_u8(expr.as_ptr(), *attribute, *n);
                    }
                    Attribute::Bytes(bytes) => {
                        let len = bytes.len() as u32;
                        sys::nftnl_expr_set(expr.as_ptr(), *attribute, bytes.as_ptr().cast(), len);
                    }
                    Attribute::Name(name) => {
                        sys::nftnl_expr_set_str(expr.as_ptr(), *attribute, name.as_ptr());
                    }
                }
            }
        }
        expr
    }
}

/// NFT_REG_VERDICT.
const VERDICT_REGISTER: u32 = 0;
/// NFT_PAYLOAD_CSUM_INET.
const CHECKSUM_INET: u32 = 1;
/// NFT_BYTEORDER_NTOH, NFT_HASH_JENKINS.
const NTOH: u32 = 0;
const JENKINS: u32 = 0;

/// The expression for libnftnl; `None` for one that only the kernel can have.
pub(super) fn describe(expr: &Expr) -> Option<Described> {
    Some(match expr {
        Expr::Payload {
            header: base,
            offset,
            len,
            to,
        } => Described::new(c"payload")
            .register(sys::NFTNL_EXPR_PAYLOAD_DREG, *to)
            .number(sys::NFTNL_EXPR_PAYLOAD_BASE, header(*base))
            .number(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset)
            .number(sys::NFTNL_EXPR_PAYLOAD_LEN, *len),
        Expr::Write {
            header: base,
            offset,
            len,
            from,
            checksum,
        } => {
            let write = Described::new(c"payload")
                .register(sys::NFTNL_EXPR_PAYLOAD_SREG, *from)
                .number(sys::NFTNL_EXPR_PAYLOAD_BASE, header(*base))
                .number(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset)
                .number(sys::NFTNL_EXPR_PAYLOAD_LEN, *len);
            match checksum {
                None => write,
                Some(offset) => write
                    .number(sys::NFTNL_EXPR_PAYLOAD_CSUM_TYPE, CHECKSUM_INET)
                    .number(sys::NFTNL_EXPR_PAYLOAD_CSUM_OFFSET, *offset),
            }
        }
        Expr::Meta { key, to } => meta(*key).register(sys::NFTNL_EXPR_META_DREG, *to),
        Expr::SetMeta { key, from } => meta(*key).register(sys::NFTNL_EXPR_META_SREG, *from),
        Expr::FragmentHeader { offset, len, to } => Described::new(c"exthdr")
            .register(sys::NFTNL_EXPR_EXTHDR_DREG, *to)
            .byte(sys::NFTNL_EXPR_EXTHDR_TYPE, NEXTHDR_FRAGMENT)
            .number(sys::NFTNL_EXPR_EXTHDR_OFFSET, *offset)
            .number(sys::NFTNL_EXPR_EXTHDR_LEN, *len),
        Expr::Compare { from, how, value } => Described::new(c"cmp")
            .register(sys::NFTNL_EXPR_CMP_SREG, *from)
            .number(sys::NFTNL_EXPR_CMP_OP, comparison(*how))
            .bytes(sys::NFTNL_EXPR_CMP_DATA, value),
        Expr::AtMostASecond { packets } => Described::new(c"limit")
            .wide(sys::NFTNL_EXPR_LIMIT_RATE, u64::from(*packets))
            .wide(sys::NFTNL_EXPR_LIMIT_UNIT, 1)
            .number(sys::NFTNL_EXPR_LIMIT_BURST, *packets)
            .number(sys::NFTNL_EXPR_LIMIT_TYPE, LIMIT_PACKETS),
        Expr::And { from, to, mask } => Described::new(c"bitwise")
            .register(sys::NFTNL_EXPR_BITWISE_SREG, *from)
            .register(sys::NFTNL_EXPR_BITWISE_DREG, *to)
            .number(sys::NFTNL_EXPR_BITWISE_LEN, mask.len() as u32)
            .bytes(sys::NFTNL_EXPR_BITWISE_MASK, mask)
            .bytes(sys::NFTNL_EXPR_BITWISE_XOR, &vec![0; mask.len()]),
        Expr::ToHostOrder { from, to } => to_host_order(*from, *to, 4),
        Expr::FirstTwoToHostOrder { from, to } => to_host_order(*from, *to, 2),
        Expr::Hash {
            from,
            len,
            to,
            modulus,
            seed,
        } => Described::new(c"hash")
            .register(sys::NFTNL_EXPR_HASH_SREG, *from)
            .register(sys::NFTNL_EXPR_HASH_DREG, *to)
            .number(sys::NFTNL_EXPR_HASH_LEN, *len)
            .number(sys::NFTNL_EXPR_HASH_MODULUS, *modulus)
            // Without a seed the kernel makes one up, another on each node.
            .number(sys::NFTNL_EXPR_HASH_SEED, *seed)
            .number(sys::NFTNL_EXPR_HASH_TYPE, JENKINS),
        Expr::Lookup { set, from, found } => {
            let lookup = Described::new(c"lookup")
                .register(sys::NFTNL_EXPR_LOOKUP_SREG, *from)
                .name(sys::NFTNL_EXPR_LOOKUP_SET, set);
            match found {
                Found::GoOn => lookup,
                Found::Missing => lookup.number(sys::NFTNL_EXPR_LOOKUP_FLAGS, LOOKUP_INVERTED),
                Found::Verdict => lookup.number(sys::NFTNL_EXPR_LOOKUP_DREG, VERDICT_REGISTER),
                Found::Value(to) => lookup.register(sys::NFTNL_EXPR_LOOKUP_DREG, *to),
            }
        }
        Expr::Learn { set, from, what } => Described::new(c"dynset")
            .register(sys::NFTNL_EXPR_DYNSET_SREG_KEY, *from)
            .number(
                sys::NFTNL_EXPR_DYNSET_OP,
                match what {
                    Learn::Keep => DYNSET_UPDATE,
                    Learn::Note => DYNSET_ADD,
                    Learn::Forget => DYNSET_DELETE,
                },
            )
            .name(sys::NFTNL_EXPR_DYNSET_SET_NAME, set),
        Expr::Load { to, value } => Described::new(c"immediate")
            .register(sys::NFTNL_EXPR_IMM_DREG, *to)
            .bytes(sys::NFTNL_EXPR_IMM_DATA, value),
        Expr::Verdict(verdict) => {
            let verdict_expr = Described::new(c"immediate")
                .number(sys::NFTNL_EXPR_IMM_DREG, VERDICT_REGISTER)
                .number(sys::NFTNL_EXPR_IMM_VERDICT, verdict_code(verdict) as u32);
            match verdict {
                Verdict::Goto(chain) | Verdict::Jump(chain) => {
                    verdict_expr.name(sys::NFTNL_EXPR_IMM_CHAIN, chain)
                }
                _ => verdict_expr,
            }
        }
        Expr::Counter => Described::new(c"counter"),
        Expr::Other(_) => return None,
    })
}

fn to_host_order(from: Reg, to: Reg, len: u32) -> Described {
    Described::new(c"byteorder")
        .register(sys::NFTNL_EXPR_BYTEORDER_SREG, from)
        .register(sys::NFTNL_EXPR_BYTEORDER_DREG, to)
        .number(sys::NFTNL_EXPR_BYTEORDER_OP, NTOH)
        .number(sys::NFTNL_EXPR_BYTEORDER_LEN, len)
        .number(sys::NFTNL_EXPR_BYTEORDER_SIZE, len)
}

fn meta(key: MetaKey) -> Described {
    Described::new(c"meta").number(sys::NFTNL_EXPR_META_KEY, meta_key(key))
}
