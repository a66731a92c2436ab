//! What this kernel lacks of what our rules need. It is asked when the kernel has refused them: its
//! own error names a rule, and a person needs to know what to install.

use crate::rules::features::{Feature, features};
use crate::sys::nft::{NftError, NftSocket};

/// How often a check is repeated that other transactions come in between of.
const ATTEMPTS: u32 = 50;

/// What is missing, in a sentence that says what to do; `None` if nothing is.
///
/// Nothing is changed: each feature is a transaction that the kernel checks and then undoes.
pub fn missing() -> Option<String> {
    let Ok(mut socket) = NftSocket::open() else {
        return Some(sentence("nf_tables", "CONFIG_NF_TABLES, module nf_tables"));
    };
    // The first is the most basic: what builds on it is missing with it.
    let first = features()
        .into_iter()
        .find(|feature| is_refused(&mut socket, feature))?;
    Some(sentence(first.what, first.option))
}

fn is_refused(socket: &mut NftSocket, feature: &Feature) -> bool {
    for _ in 0..ATTEMPTS {
        let checked = socket
            .generation()
            .and_then(|generation| socket.check(&feature.changes, generation));
        match checked {
            Ok(()) => return false,
            Err(NftError::Outdated) => {}
            Err(error) => return error.is_missing_feature(),
        }
    }
    false
}

/// The remedy comes early: Pacemaker keeps 128 bytes.
fn sentence(what: &str, option: &str) -> String {
    format!(
        "this kernel lacks {what} ({option}): install the rest of its modules (Debian's \
         linux-image has all, Ubuntu: linux-modules-extra, RHEL: kernel-modules-core) or another \
         kernel, 5.10 or later"
    )
}
