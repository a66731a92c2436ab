//! What scenarios about `nodectl check` share: its answer, and a node with a VIP.

use crate::product::*;
use crate::switch_support::{QUERIED, answered};
use lab::{Client, Error, Host, Lab, Node, Result};
use serde_json::Value;

/// What `nodectl check` answered.
pub struct Checked {
    pub code: i32,
    pub answer: Value,
}

impl Checked {
    pub fn of(code: i32, document: &str) -> Result<Self> {
        expect_fits_schema(document)?;
        let answer = serde_json::from_str(document).expect("check --json prints JSON");
        Ok(Checked { code, answer })
    }

    /// On a host.
    pub fn on(host: &Host, args: &[&str]) -> Result<Self> {
        let program = lab::built("nodectl")?.display().to_string();
        let command = [&[program.as_str(), "check", "--json"], args].concat();
        let output = host.output(&command)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let code = output.status.code().unwrap_or(-1);
        if !(0..=2).contains(&code) {
            return Err(Error::new(format!("{code}: {said}")));
        }
        Checked::of(code, &String::from_utf8_lossy(&output.stdout))
    }

    /// On the switch, as the host of guests.
    pub fn on_switch(lab: &Lab, args: &str) -> Result<Self> {
        let program = lab::built("nodectl")?.display().to_string();
        let line = format!("{program} check --json {args}; echo $?");
        let text = lab.switch(&["sh", "-c", &line])?;
        let (document, code) = text.trim_end().rsplit_once('\n').expect("two lines");
        Checked::of(code.parse().expect("a code"), &format!("{document}\n"))
    }

    /// The check of this name.
    pub fn check(&self, name: &str) -> &Value {
        let checks = self.answer["checked"][0]["checks"].as_array();
        let mut checks = checks.into_iter().flatten();
        let found = checks.find(|check| check["check"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {}", self.answer))
    }

    /// The commands that mend what a check has found.
    pub fn cures(&self, name: &str) -> Vec<String> {
        let findings = self.check(name)["findings"].as_array();
        let cures = findings.into_iter().flatten();
        let cures = cures.filter_map(|finding| finding["cure"].as_str());
        cures.map(str::to_owned).collect()
    }

    /// Does what is printed, as somebody would type it on the host.
    pub fn mend(&self, host: &Host, name: &str) -> Result<()> {
        let cures = self.cures(name);
        let mut cures = cures.iter();
        cures.try_for_each(|cure| host.run(&["sh", "-ec", cure]).map(drop))
    }

    /// The same on the switch.
    pub fn mend_on_switch(&self, lab: &Lab, name: &str) -> Result<()> {
        let cures = self.cures(name);
        let mut cures = cures.iter();
        cures.try_for_each(|cure| lab.switch(&["sh", "-ec", cure]).map(drop))
    }

    /// This check alone has something to say, and the exit code is this.
    #[track_caller]
    pub fn expect_only(&self, name: &str, outcome: &str) -> Result<()> {
        let checks = self.answer["checked"][0]["checks"].as_array();
        for check in checks.into_iter().flatten() {
            let expected = match check["check"] == name {
                true => outcome,
                false if check["outcome"] == "unknown" => "unknown",
                false => "fine",
            };
            assert_eq!(check["outcome"], expected, "{check}");
        }
        let code = ["fine", "warning", "fatal"];
        let code = code.iter().position(|word| *word == outcome);
        assert_eq!(usize::try_from(self.code).ok(), code, "{}", self.answer);
        assert_eq!(self.answer["outcome"], outcome);
        Ok(())
    }

    #[track_caller]
    pub fn expect_nothing(&self) -> Result<()> {
        self.expect_only("nothing", "fine")
    }
}

/// A node with a VIP in a mode, and all of its buckets.
pub fn node_with(lab: &Lab, name: &str, vip: &str, mode: &str) -> Result<Node> {
    let node = lab.node(name)?;
    node.stop_serving();
    node.serve(&SERVICES)?;
    let words = format!("up {vip} --nic eth0 --buckets 2 --own 0-1 --seed 7 --mode {mode}");
    nodectl(&node, &words.split(' ').collect::<Vec<_>>())?;
    Ok(node)
}

/// Nobody answers who asks anew who has the VIP.
pub fn wait_for_deafness(lab: &Lab, client: &Client, vip: &str) -> Result<()> {
    lab.wait_until("silence", QUERIED, || {
        client.run(&["ip", "neigh", "flush", "all"])?;
        Ok::<_, Error>(answered(client, vip)? == 0)
    })?;
    Ok(())
}

/// What `nodectl` prints in a shell after these lines, and its exit code in the last line. There `/run` and `/etc` are
/// empty and the shell's own, and the first process is in the node's network, as services are.
pub fn printed_after(node: &Node, lines: &str, args: &str) -> Result<String> {
    let program = lab::built("nodectl")?.display().to_string();
    let script = format!(
        "mount -t tmpfs none /run && mkdir -p /run/etc && mount --bind /run/etc /etc\n{lines}\nset +e\n\
         {program} {args}\necho $?\n"
    );
    let shell = [
        "unshare",
        "--mount",
        "--pid",
        "--fork",
        "--mount-proc",
        "--uts",
    ];
    node.run(&[&shell[..], &["sh", "-ec", &script]].concat())
}
