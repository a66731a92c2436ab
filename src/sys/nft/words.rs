//! How nft is to word the keys of sets, as libnftnl's user data: what `typeof` says. Safe code only.
//!
//! The numbers are those of nft's own `build_udata` functions, the same from nft 1.0.6 to 1.1.3 (`src/payload.c`,
//! `exthdr.c`, `meta.c`, `numgen.c`, `expression.c`; `enum expr_types` in `include/expression.h`). What nft does
//! not understand of them it takes for nothing.

use super::numbers::{ADDRESS_IP4, ADDRESS_IP6, IF_NAME, INTEGER, PORT, header};
use super::wire::udata;
use crate::model::ruleset::{Data, SetSpec, Word};

const SET_KEY_TYPEOF: u8 = 3;
const SET_DATA_TYPEOF: u8 = 4;
const TYPEOF_EXPR: u8 = 0;
const TYPEOF_DATA: u8 = 1;
/// Of a part of a concatenation, which is numbered by its place.
const PART_EXPR: u8 = 0;
const PART_DATA: u8 = 1;

const EXPR_VERDICT: u32 = 1;
const EXPR_PAYLOAD: u32 = 7;
const EXPR_EXTHDR: u32 = 8;
const EXPR_META: u32 = 9;
const EXPR_CONCAT: u32 = 13;
const EXPR_NUMGEN: u32 = 23;

/// `PROTO_DESC_TH`, `PROTO_DESC_IP`, `PROTO_DESC_IP6`, and of each the fields that we need.
const TH: u32 = 11;
const TH_SOURCE: u32 = 1;
const TH_DESTINATION: u32 = 2;
const IP4: u32 = 12;
const IP4_SOURCE: u32 = 11;
const IP6: u32 = 13;
const IP6_SOURCE: u32 = 8;
/// `EXTHDR_DESC_FRAG` and `FRAGHDR_ID`.
const FRAGMENT: u32 = 6;
const FRAGMENT_ID: u32 = 6;
const META_OUT_IF_NAME: u32 = 7;
const NUMGEN_RANDOM: u32 = 1;

/// How nft would make the set itself: it takes one of other types for another set.
pub(super) struct Worded {
    /// What it would keep as user data of the words.
    pub(super) user_data: Vec<u8>,
    /// The type of the key.
    pub(super) key_type: u32,
    /// The type of the data, where it is another than the data's own.
    pub(super) data_type: Option<u32>,
}

/// The words of a set; none where the names of its types do.
pub(super) fn words(spec: &SetSpec) -> Option<Worded> {
    let parts = spec.words.key.as_slice();
    let key_type = parts.iter().fold(0, |all, part| (all << 6) | kind(*part));
    let (expr, inner) = match parts {
        [] => return None,
        [one] => expression(*one),
        parts => {
            let parts = parts.iter().zip(0..).flat_map(|(part, place)| {
                let (expr, inner) = expression(*part);
                udata(place, &nested(PART_EXPR, expr, PART_DATA, &inner))
            });
            (EXPR_CONCAT, parts.collect())
        }
    };
    let worded = |which, (expr, inner): (u32, Vec<u8>)| {
        udata(which, &nested(TYPEOF_EXPR, expr, TYPEOF_DATA, &inner))
    };
    let mut user_data = worded(SET_KEY_TYPEOF, (expr, inner));
    // nft words both, or none.
    match (spec.data, spec.words.data) {
        (Data::None, _) => {}
        (_, Some(word)) => user_data.extend(worded(SET_DATA_TYPEOF, expression(word))),
        (_, None) => user_data.extend(worded(SET_DATA_TYPEOF, (EXPR_VERDICT, Vec::new()))),
    }
    Some(Worded {
        user_data,
        key_type,
        data_type: spec.words.data.map(kind),
    })
}

fn nested(kind_of_expr: u8, expr: u32, kind_of_data: u8, inner: &[u8]) -> Vec<u8> {
    [number(kind_of_expr, expr), udata(kind_of_data, inner)].concat()
}

fn number(kind: u8, value: u32) -> Vec<u8> {
    udata(kind, &value.to_ne_bytes())
}

/// The type that an expression has in nft.
fn kind(word: Word) -> u32 {
    match word {
        Word::NumberBelow(_) | Word::Bytes { .. } | Word::FragmentId => INTEGER,
        Word::Ip4Source => ADDRESS_IP4,
        Word::Ip6Source => ADDRESS_IP6,
        Word::SourcePort | Word::DestinationPort => PORT,
        Word::OutIfName => IF_NAME,
    }
}

/// An expression's number, and what makes it this one.
fn expression(word: Word) -> (u32, Vec<u8>) {
    /// Each with its place as its kind.
    fn numbers<const N: usize>(values: [u32; N]) -> Vec<u8> {
        let pairs = values.into_iter().zip(0..);
        pairs
            .flat_map(|(value, kind)| number(kind, value))
            .collect()
    }
    match word {
        // NFTNL_UDATA_NUMGEN_TYPE, MOD, OFFSET
        Word::NumberBelow(below) => (EXPR_NUMGEN, numbers([NUMGEN_RANDOM, below, 0])),
        // NFTNL_UDATA_SET_KEY_PAYLOAD_DESC, TYPE, BASE, OFFSET, LEN; nft's bases are one more than the kernel's
        Word::Bytes {
            header: of,
            offset,
            len,
        } => (
            EXPR_PAYLOAD,
            numbers([0, 0, header(of) + 1, 8 * offset, 8 * len]),
        ),
        Word::Ip4Source => (EXPR_PAYLOAD, numbers([IP4, IP4_SOURCE])),
        Word::Ip6Source => (EXPR_PAYLOAD, numbers([IP6, IP6_SOURCE])),
        Word::SourcePort => (EXPR_PAYLOAD, numbers([TH, TH_SOURCE])),
        Word::DestinationPort => (EXPR_PAYLOAD, numbers([TH, TH_DESTINATION])),
        // NFTNL_UDATA_EXTHDR_DESC, TYPE
        Word::FragmentId => (EXPR_EXTHDR, numbers([FRAGMENT, FRAGMENT_ID])),
        // NFTNL_UDATA_META_KEY
        Word::OutIfName => (EXPR_META, numbers([META_OUT_IF_NAME])),
    }
}
