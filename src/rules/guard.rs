//! What nft has saved to a file must answer nothing when nft loads it: without the agent, perhaps on a
//! node that owns other buckets by now, and with other rules than those that were saved, for nft has no
//! word for all that they do. Pure.
//!
//! So the first rule of the chain to which everything goes that is accepted drops whatever comes, unless
//! the rule is as the agent has written it: it asks for a bit that is in every IP header, of four bytes of
//! which it has turned two. nft has no word for that, believes that all four are turned, and so lists a value,
//! and loads it, that no packet has. Rules that were loaded by nft are known by it
//! (`reading::loaded`).

use super::sentence::{REG0, Sentence};
use crate::model::ruleset::{Expr, Header, Rule};

const GUARD: &str = "drops only as nft loads it from a file: what is loaded must answer nothing";

/// The rule. Both IP versions, 4 and 6, have this bit in their first byte.
pub(crate) fn rule() -> Rule {
    Sentence::because(GUARD)
        .payload(Header::Network, 0, 4, REG0)
        .and(REG0, &[0x40, 0, 0, 0])
        .expr(Expr::FirstTwoToHostOrder {
            from: REG0,
            to: REG0,
        })
        .not_equal(REG0, &[0, 0x40, 0, 0])
        .say("ntoh16(@nh,0,32 & 0x40000000) != 0x400000")
        .drop()
        .rule()
}
