//! A kernel that lacks what the rules need. The guest is booted once more without a module:
//! `guest --without nft_hash …`.

use crate::kernel_support::*;
use crate::product::*;
use lab::{Lab, Result};

#[test]
fn a_start_says_that_the_kernel_cannot_hash() -> Result<()> {
    if missing_module().as_deref() != Some("nft_hash") {
        skip("nft_hash is not taken away here");
        return Ok(());
    }
    let lab = Lab::new("no-hash")?;
    let node = lab.node("n1")?;
    let before = state_of(&node)?;
    for vip in [V4, V6] {
        let agent = Agent::new(vip, 12);
        let answer = agent.call(&node, "start", 0)?;
        // OCF_ERR_INSTALLED: this node cannot, another one may.
        let answer = answer.expect(5);
        assert!(
            answer.reason().contains("module nft_hash"),
            "{}",
            answer.stderr
        );
        // What cannot run here is not running, and need not be stopped.
        agent
            .clone()
            .meta("interval", "0")
            .call(&node, "monitor", 0)?
            .expect(7);
        agent.call(&node, "stop", 0)?.expect(0);
        assert_eq!(state_of(&node)?, before);
    }
    Ok(())
}
