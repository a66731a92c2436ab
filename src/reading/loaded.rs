//! Whether nft has loaded the rules from a file, which the guard among them shows. Pure.

use crate::model::ruleset::{Expr, Family, Header, Ruleset, Verdict};
use crate::rules::names::TO_HOST;

/// Were these rules loaded by nft from a file? Then they accept nothing, whatever else they say, also
/// where they were loaded on top of the agent's.
pub fn is_loaded(rules: &Ruleset) -> bool {
    let table = rules.get(&Family::Netdev);
    let chain = table.and_then(|table| table.chains.get(TO_HOST));
    let mut rules = chain.into_iter().flat_map(|chain| &chain.rules);
    rules.any(|rule| drops_all(&rule.exprs))
}

/// Is this the guard (`rules::guard`) without its turning? What is left of it nft words in its own way.
fn drops_all(exprs: &[Expr]) -> bool {
    let asks = matches!(
        exprs.first(),
        Some(Expr::Payload {
            header: Header::Network,
            offset: 0,
            ..
        })
    );
    let turns = |expr: &Expr| matches!(expr, Expr::FirstTwoToHostOrder { .. });
    asks && exprs.last() == Some(&Expr::Verdict(Verdict::Drop)) && !exprs.iter().any(turns)
}
