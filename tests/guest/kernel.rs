//! The kernel of the guest: the package that Debian 12's `linux-image-amd64` stands for.
//!
//! It is downloaded and unpacked, not installed, and kept from run to run in the folder `guest`
//! beside the built programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Context, Error, Result};

/// The package whose dependency is the newest 6.1 of Debian 12.
const META_PACKAGE: &str = "linux-image-amd64";

/// An unpacked kernel package.
pub struct Kernel {
    /// As `uname -r` says it.
    pub release: String,
    /// The kernel itself.
    pub image: PathBuf,
    /// Its `/lib/modules/RELEASE`.
    pub modules: PathBuf,
}

/// The folder for all that belongs to the guest: `target/guest`, for a program in `target/debug`.
pub fn folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the running program")?;
    let target = own.ancestors().nth(2).context("find the build folder")?;
    let folder = target.join("guest");
    fs::create_dir_all(&folder).context(folder.display())?;
    Ok(folder)
}

impl Kernel {
    /// The kernel, fetched if it is not there yet or Debian has a newer one.
    pub fn get(folder: &Path, say: impl Fn(&str)) -> Result<Self> {
        let package = package()?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        if !release.starts_with("6.1.") {
            return Err(Error::new(format!(
                "{META_PACKAGE} is {package} here; the guest is made for Debian 12, which has 6.1"
            )));
        }
        let unpacked = folder.join(&release);
        let kernel = Self {
            image: unpacked.join(format!("boot/vmlinuz-{release}")),
            modules: unpacked.join(format!("lib/modules/{release}")),
            release,
        };
        // It is renamed when it is whole, so what is there can be relied on.
        if !unpacked.is_dir() {
            say(&format!("fetching {package}, some 70 MB …"));
            let fresh = folder.join(format!("unpacking-{}", std::process::id()));
            let done = fetch(&package, &kernel.release, &fresh);
            let done = done.and_then(|()| fs::rename(&fresh, &unpacked).context(fresh.display()));
            if done.is_err() {
                let _ = fs::remove_dir_all(&fresh);
            }
            // Another run may have been faster.
            if !unpacked.is_dir() {
                done?;
            }
        }
        Ok(kernel)
    }

    /// The files of these modules and of all that they need, in the order of loading.
    pub fn modules_for(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let list = self.modules.join("modules.dep");
        let list = fs::read_to_string(&list).context(list.display())?;
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            let ending = format!("/{name}.ko");
            let line = list
                .lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(file, _)| file.ends_with(&ending));
            let (file, needed) = line.context(format!("the kernel has no module {name}"))?;
            // The list has what must come first at the end of the line.
            for file in needed.split_whitespace().rev().chain([file]) {
                let file = self.modules.join(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// What `linux-image-amd64` depends on.
fn package() -> Result<String> {
    let listed = run("apt-cache", &["depends", META_PACKAGE], Path::new("/"))?;
    listed
        .lines()
        .find_map(|line| line.trim().strip_prefix("Depends: "))
        .map(str::to_owned)
        .context(format!("apt knows no {META_PACKAGE}; run: apt-get update"))
}

fn fetch(package: &str, release: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).context(folder.display())?;
    run("apt-get", &["download", "-qq", package], folder)?;
    let files = fs::read_dir(folder).context(folder.display())?;
    let archive = files
        .filter_map(|file| Some(file.ok()?.path()))
        .find(|file| file.extension().is_some_and(|ending| ending == "deb"))
        .context(format!("apt-get downloaded nothing for {package}"))?;
    run(
        "dpkg-deb",
        &["-x", &archive.display().to_string(), "."],
        folder,
    )?;
    fs::remove_file(&archive).context(archive.display())?;
    run("depmod", &["-b", ".", release], folder)?;
    Ok(())
}

fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
    // depmod is where an ordinary user's PATH does not lead.
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin";
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", path)
        .env("LC_ALL", "C")
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context(format!("cannot run {program}; run: make deps guest-deps"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(Error::new(format!(
        "`{program} {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr).trim_end()
    )))
}
