//! What the script for virtual machines does, done here.

use lab::{Lab, Result};

/// The script.
pub const PROVISION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../vagrant/provision");

#[test]
fn the_configuration_for_corosync_is_one() -> Result<()> {
    let lab = Lab::new("provision")?;
    let node = lab.node("n1")?;
    // Corosync wants to find its machine among the members, by its name and its address.
    let (name, address) = (node.run(&["uname", "-n"])?, node.v4());
    let name = name.trim();
    let members = format!("{name}={address} n2=192.168.56.12 n3=192.168.56.13");
    let text = node.run(&["sh", PROVISION, "corosync-conf", &members])?;
    assert_eq!(text.matches("ring0_addr: ").count(), 3, "{text}");
    let file = "/run/corosync-provisioned.conf";
    let words = format!("cat > {file}; corosync -t -c {file}; done=$?; rm {file}; exit $done");
    node.exec(&["sh", "-c", &words]).stdin(text).run()?;
    Ok(())
}

#[test]
fn a_wrong_word_is_usage() -> Result<()> {
    let lab = Lab::new("provision-no")?;
    let node = lab.node("n1")?;
    let output = node.output(&["sh", PROVISION, "frobnicate"])?;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("provision share"));
    Ok(())
}
