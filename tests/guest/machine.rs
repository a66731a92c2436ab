//! The machine: qemu, its output, its deadline, and how the guest's status comes back.
//!
//! A stock kernel is emulated, not virtualised, so that it boots on every machine; who has a
//! working KVM says `GUEST_ACCEL=kvm`. The guest has no network card, and sees the machine's files
//! read-only. qemu hangs on a leash: it ends with this program, even if that is killed.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use lab::{Context, Error, Result};

/// The name under which the guest finds the machine's root file system.
pub const ROOT_TAG: &str = "root";
/// The port of qemu's device that ends it; a byte written there is doubled, plus one.
pub const EXIT_PORT: u64 = 0xf4;
/// What the guest adds to its status, so that qemu's own failure, a 1, is told from it.
pub const EXIT_BASE: u8 = 1;
/// The highest status that comes back as it was.
pub const HIGHEST_STATUS: u8 = 126;
/// The leash's status when qemu was killed.
const KILLED: i32 = 137;

/// Mitigations and grace periods of RCU are what emulation makes slowest, and nothing here asks for
/// either.
const COMMAND_LINE: &str = "console=ttyS0 quiet panic=-1 rdinit=/init mitigations=off \
                            rcupdate.rcu_expedited=1 norandmaps";

/// Boots the kernel, prints what it prints, and gives the status of the job.
pub fn run(kernel: &Path, initramfs: &Path, deadline: Duration) -> Result<u8> {
    let accel = std::env::var("GUEST_ACCEL").unwrap_or_else(|_| "tcg,thread=multi".into());
    let (kernel, initramfs) = (
        kernel.display().to_string(),
        initramfs.display().to_string(),
    );
    let root = format!(
        "local,path=/,mount_tag={ROOT_TAG},security_model=none,readonly=on,multidevs=remap"
    );
    let exit = format!("isa-debug-exit,iobase={EXIT_PORT:#x},iosize=4");
    let words = [
        "-accel",
        &accel,
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "3072",
        "-nic",
        "none",
        "-nodefaults",
        "-display",
        "none",
        "-no-reboot",
        "-serial",
        "stdio",
        "-virtfs",
        &root,
        "-device",
        &exit,
        "-kernel",
        &kernel,
        "-initrd",
        &initramfs,
        "-append",
        COMMAND_LINE,
    ];
    let mut leash = Command::new(lab::lab_binary()?)
        .args(["leash", "qemu-system-x86_64"])
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start qemu")?;
    let output = leash.stdout.take().context("read from qemu")?;
    let (done, ended) = mpsc::channel();
    std::thread::spawn(move || {
        pass_on(BufReader::new(output));
        done.send(())
    });
    let in_time = ended.recv_timeout(deadline).is_ok();
    drop(leash.stdin.take());
    let status = leash.wait().context("wait for qemu")?;
    if !in_time {
        let minutes = deadline.as_secs() / 60;
        return Err(Error::new(format!("not done after {minutes} minutes")));
    }
    let code = status.code().unwrap_or(-1);
    let said = u8::try_from(code / 2)
        .ok()
        .filter(|_| code % 2 == 1 && code != KILLED);
    said.and_then(|byte| byte.checked_sub(EXIT_BASE))
        .context(format!(
            "the guest ended without a word about its job (qemu's status is {code}); is \
             qemu-system-x86 installed? run: make guest-deps"
        ))
}

/// Prints the guest's console; what a terminal would obey, and nobody meant, is left out.
fn pass_on(mut console: impl BufRead) {
    let mut line = Vec::new();
    while matches!(console.read_until(b'\n', &mut line), Ok(length) if length > 0) {
        line.retain(|byte| *byte != b'\r');
        let mut out = std::io::stdout().lock();
        // Nobody reads any more: the guest goes on, and its status still counts.
        let _ = out.write_all(&line).and_then(|()| out.flush());
        line.clear();
    }
}
