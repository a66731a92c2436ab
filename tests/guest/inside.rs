//! The guest's first process: from the kernel's hand-over to the job's end.
//!
//! It mounts the machine's root file system beneath a layer in memory, goes there, runs the job,
//! and tells qemu the status. A layer on top of everything means that the job may write where it
//! likes, and that the machine never sees it.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use lab::{Context, Error, Result};
use nix::fcntl::OFlag;
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::unistd::{chdir, chroot};

use crate::initramfs::MODULE_LIST;
use crate::job::{self, Job};
use crate::kernel::{dependencies, is_module};
use crate::machine::{EXIT_BASE, EXIT_PORT, HIGHEST_STATUS, ROOT_TAG};

/// Chains that do nothing, at every hook that a test may be the first to use. Whether a hook is in use at all the kernel
/// patches into its code (`ingress_needed_key`, `nf_hooks_needed`), and where one emulated CPU does that while another
/// goes by there again and again, that one stays where it is for good (seen in floods, with qemu 7.2 and Linux 6.1).
const KEPT: &str = "\
    table netdev kept { chain ingress { type filter hook ingress device lo priority 0; }; }\n\
    table arp kept {\n\
        chain input { type filter hook input priority 0; }\n\
        chain output { type filter hook output priority 0; }\n\
    }\n\
    table inet kept {\n\
        chain prerouting { type filter hook prerouting priority 0; }\n\
        chain input { type filter hook input priority 0; }\n\
        chain forward { type filter hook forward priority 0; }\n\
        chain output { type filter hook output priority 0; }\n\
        chain postrouting { type filter hook postrouting priority 0; }\n\
    }\n";

/// All that the guest does; never returns.
pub fn init() -> ! {
    let status = live().unwrap_or_else(|error| {
        println!("guest: {error}");
        1
    });
    let told = end(status.min(HIGHEST_STATUS));
    // A first process that ends is a panic of the kernel, which ends qemu too.
    panic!("cannot end the machine: {told:?}");
}

fn live() -> Result<u8> {
    attach("proc", "/proc", "proc", MsFlags::empty(), "")?;
    attach("sys", "/sys", "sysfs", MsFlags::empty(), "")?;
    attach("dev", "/dev", "devtmpfs", MsFlags::empty(), "")?;
    let modules = fs::read_to_string(format!("/{MODULE_LIST}")).context(MODULE_LIST)?;
    for name in modules.lines() {
        load(Path::new("/").join(name).as_path())?;
    }
    let job = fs::read(format!("/{}", job::PATH)).context(job::PATH)?;
    let job: Job = serde_json::from_slice(&job).context(job::PATH)?;
    enter_root()?;
    give_modules(&job)?;
    let status = work(&job)?;
    match complaints()?.as_str() {
        "" => Ok(status),
        some => Err(Error::new(format!("the kernel complained:\n{some}"))),
    }
}

/// What the kernel's log has of the kernel's own faults.
fn complaints() -> Result<String> {
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg")
        .context("/dev/kmsg")?;
    let (mut found, mut record) = (String::new(), [0; 8192]);
    loop {
        // One record a read.
        match log.read(&mut record) {
            Ok(length) => {
                let text = String::from_utf8_lossy(&record[..length]);
                let said = text.split_once(';').map_or("", |(_, said)| said);
                let faults = ["WARNING: ", "BUG: ", "Oops: ", "INFO: task "];
                // A machine with too much to do emulates so slowly that a CPU seems stuck.
                let slow = said.contains("soft lockup");
                if !slow && faults.iter().any(|word| said.contains(word)) {
                    found += said;
                }
            }
            // Records that were overwritten before they were read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
            Err(error) => return Err(error).context("read the kernel's log"),
        }
    }
}

fn load(module: &Path) -> Result<()> {
    let file = fs::File::open(module).context(module.display())?;
    finit_module(&file, c"", ModuleInitFlags::empty()).context(module.display())
}

/// The machine's root with a layer in memory, and what every machine mounts on it.
fn enter_root() -> Result<()> {
    // Nobody changes the programs while they are tested, so the guest may remember what it read.
    let options = "trans=virtio,version=9p2000.L,msize=512000,cache=loose";
    attach(ROOT_TAG, "/lower", "9p", MsFlags::MS_RDONLY, options)?;
    attach(
        "layer",
        "/layer",
        "tmpfs",
        MsFlags::empty(),
        "size=75%,mode=755",
    )?;
    for folder in ["/layer/upper", "/layer/work"] {
        fs::create_dir(folder).context(folder)?;
    }
    let options = "lowerdir=/lower,upperdir=/layer/upper,workdir=/layer/work";
    attach("root", "/root", "overlay", MsFlags::empty(), options)?;
    for folder in ["proc", "sys", "dev"] {
        let target = format!("/root/{folder}");
        let _ = fs::create_dir(&target);
        attach(&format!("/{folder}"), &target, "", MsFlags::MS_MOVE, "")?;
    }
    chdir("/root").context("enter the root")?;
    attach(".", "/", "", MsFlags::MS_MOVE, "")?;
    chroot(".").context("enter the root")?;
    chdir("/").context("enter the root")?;
    attach("run", "/run", "tmpfs", MsFlags::empty(), "mode=755")?;
    for (folder, kind, options) in [
        ("/dev/pts", "devpts", "mode=620,ptmxmode=666"),
        ("/dev/shm", "tmpfs", "mode=1777"),
    ] {
        let _ = fs::create_dir(folder);
        attach("guest", folder, kind, MsFlags::empty(), options)?;
    }
    // Pacemaker and others ask the machine for its name.
    fs::write("/proc/sys/kernel/hostname", "guest").context("set the host name")
}

/// Makes the package's modules the machine's, but for those that it is not to have.
fn give_modules(job: &Job) -> Result<()> {
    let release = job.modules.file_name().context("the modules' folder")?;
    let place = Path::new("/lib/modules").join(release);
    fs::create_dir_all("/lib/modules").context("/lib/modules")?;
    // The machine may have this very kernel; its modules are not those that were unpacked.
    let _ = fs::remove_dir_all(&place);
    symlink(&job.modules, &place).context(place.display())?;
    let list = dependencies(&job.modules)?;
    for name in &job.without {
        let line = list.iter().find(|(file, _)| is_module(file, name));
        let (file, _) = line.context(format!("the kernel has no module {name} to do without"))?;
        fs::remove_file(job.modules.join(file)).context(file)?;
    }
    Ok(())
}

fn work(job: &Job) -> Result<u8> {
    let (program, arguments) = job.argv.split_first().context("nothing to do")?;
    succeeds(job, "ip", &["link", "set", "lo", "up"])?;
    succeeds(job, "nft", &[KEPT])?;
    let status = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(&job.environment)
        .current_dir(&job.folder)
        .stdin(Stdio::null())
        .status()
        .context(format!("cannot start {program}"))?;
    Ok(status.code().map_or(HIGHEST_STATUS, |code| code as u8))
}

/// Runs a program of the machine's, which must succeed.
fn succeeds(job: &Job, program: &str, arguments: &[&str]) -> Result<()> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(&job.environment);
    match command.status().context(program)?.success() {
        true => Ok(()),
        false => Err(Error::new(format!(
            "{program} {} failed",
            arguments.join(" ")
        ))),
    }
}

/// Ends qemu with a status; what was printed has gone out by then, for the console waits.
fn end(status: u8) -> Result<()> {
    let _ = std::io::stdout().flush();
    let mut ports = OpenOptions::new()
        .write(true)
        .open("/dev/port")
        .context("/dev/port")?;
    ports
        .seek(SeekFrom::Start(EXIT_PORT))
        .context("/dev/port")?;
    ports.write_all(&[EXIT_BASE + status]).context("/dev/port")
}

fn attach(source: &str, target: &str, kind: &str, flags: MsFlags, options: &str) -> Result<()> {
    mount(Some(source), target, Some(kind), flags, Some(options))
        .context(format!("mount {source} at {target}"))
}
