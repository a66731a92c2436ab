//! Runs a program on another kernel of Debian's: a machine of qemu's boots it over this very file system.
//!
//! `guest [--kernel SUITE] [--without MODULE]… PROGRAM ARGUMENT…` fetches the suite's kernel once (Debian 12's,
//! unless said otherwise), boots it with the machine's own root file system beneath a layer in memory, and runs the program there, with the
//! same arguments, environment and folder. What it prints is printed here, and its exit status is
//! this program's. So cargo can take it as a runner, and the scenarios need not know of it; those
//! that ask find `LAB_GUEST` in their environment. Nothing on the machine is changed but the folder
//! `guest` beside the built programs.
//!
//! | module | what lives there |
//! |---|---|
//! | `debian` | the archive: any suite of it, without a trace in the machine's own lists |
//! | `kernel` | the packages: which ones, what is where in them, which modules need which |
//! | `initramfs` | the first file system: this program, its libraries, a few modules, the job |
//! | `machine` | qemu: its command line, its output, its deadline, the status that comes back |
//! | `inside` | the other half: the guest's first process, which is this program too |
//! | `job` | what one half tells the other |
#![forbid(unsafe_code)]

mod debian;
mod initramfs;
mod inside;
mod job;
mod kernel;
mod machine;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use lab::{Context, Error, Result};

use crate::job::Job;
use crate::kernel::Kernel;

/// How an initramfs is called, before the number of the process that made it.
const INITRAMFS: &str = "initramfs-";
const USAGE: &str = "guest [--kernel SUITE] [--without MODULE]… PROGRAM [ARGUMENT…]";
/// For all that the guest does; under emulation the scenarios take some two hours.
const DEADLINE: Duration = Duration::from_secs(240 * 60);

fn main() -> ExitCode {
    if std::process::id() == 1 {
        inside::init();
    }
    match outside(std::env::args().skip(1)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            eprintln!("guest: {error}");
            ExitCode::FAILURE
        }
    }
}

fn outside(words: impl Iterator<Item = String>) -> Result<u8> {
    let mut without = Vec::new();
    let mut words = words.peekable();
    let mut suite = kernel::USUAL.to_owned();
    while let Some(option) = words.next_if(|word| word.starts_with('-')) {
        let value = words.next().context(USAGE)?;
        match option.as_str() {
            "--kernel" => suite = value,
            "--without" => without.push(value),
            _ => return Err(Error::new(USAGE)),
        }
    }
    let argv: Vec<String> = words.collect();
    if argv.is_empty() {
        return Err(Error::new(USAGE));
    }
    let started = Instant::now();
    let say = |line: &str| eprintln!("{:7.2} s  guest  {line}", started.elapsed().as_secs_f64());

    let folder = kernel::folder()?;
    let kernel = Kernel::get(&folder, &suite, say)?;
    let job = Job::new(argv, &kernel, without)?;
    forget_the_dead(&folder)?;
    let initramfs = folder.join(format!("{INITRAMFS}{}", std::process::id()));
    std::fs::write(&initramfs, initramfs::pack(&kernel, &job)?).context(initramfs.display())?;
    say(&format!("booting Linux {} …", kernel.release));
    let ended = machine::run(&kernel.image, &initramfs, DEADLINE);
    // It is of no use to anybody else, and easily made again.
    let _ = std::fs::remove_file(&initramfs);
    let status = ended?;
    say(&format!("ended with status {status}"));
    Ok(status)
}

/// Removes what runs that were killed have left in the folder.
fn forget_the_dead(folder: &Path) -> Result<()> {
    for file in folder.read_dir().context(folder.display())? {
        let path = file.context(folder.display())?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(number) = name.strip_prefix(INITRAMFS) else {
            continue;
        };
        if !Path::new("/proc").join(number).exists() {
            // Another run may be tidying up as well.
            let _ = std::fs::remove_file(&path);
        }
    }
    Ok(())
}
