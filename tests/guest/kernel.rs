//! The guest's kernel: what `linux-image-amd64` stands for in a suite of Debian's.
//!
//! `debian` downloads and unpacks it; it is kept from run to run in the folder `guest` beside the built
//! programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Context, Error, Result};

use crate::debian::{Archive, run};

/// The suite whose kernel is booted unless another is asked for.
pub const USUAL: &str = "bookworm";
/// The package that depends on the newest kernel of a suite.
const META_PACKAGE: &str = "linux-image-amd64";
const IMAGE: &str = "linux-image-";

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
    /// The kernel of a suite, fetched if it is not there yet or Debian has a newer one.
    pub fn get(folder: &Path, suite: &str, say: impl Fn(&str)) -> Result<Self> {
        let archive = Archive::new(folder, suite)?;
        let depends = archive.depends(META_PACKAGE)?;
        let mut images = depends.iter().filter(|name| name.starts_with(IMAGE));
        let package = images.next().context(format!(
            "{META_PACKAGE} of {suite} depends on no kernel, but on {depends:?}"
        ))?;
        let release = package.trim_start_matches(IMAGE).to_owned();
        let unpacked = folder.join(&release);
        // It is renamed when it is whole, so what is there can be relied on.
        if !unpacked.is_dir() {
            let packages = parts(package, &release, archive.depends(package)?);
            say(&format!("fetching {}, some 100 MB …", packages.join(", ")));
            let fresh = folder.join(format!("unpacking-{}", std::process::id()));
            let done = archive
                .unpack(&packages, &fresh)
                .and_then(|()| prepare(&fresh, &release));
            let done = done.and_then(|()| fs::rename(&fresh, &unpacked).context(fresh.display()));
            if done.is_err() {
                let _ = fs::remove_dir_all(&fresh);
            }
            // Another run may have been faster.
            if !unpacked.is_dir() {
                done?;
            }
        }
        let modules = unpacked.join(format!("lib/modules/{release}"));
        let places = [
            unpacked.join(format!("boot/vmlinuz-{release}")),
            modules.join("vmlinuz"),
        ];
        let image = places.into_iter().find(|place| place.is_file());
        Ok(Self {
            image: image.context(format!("{package} has no kernel"))?,
            modules,
            release,
        })
    }

    /// The files of these modules and of all that they need, in the order of loading; what is built in has none.
    pub fn modules_for(&self, names: &[&str]) -> Result<Vec<PathBuf>> {
        let built_in = self.modules.join("modules.builtin");
        let built_in = fs::read_to_string(&built_in).context(built_in.display())?;
        let mut files: Vec<PathBuf> = Vec::new();
        for name in names {
            if built_in.lines().any(|file| is_module(file, name)) {
                continue;
            }
            let line = dependencies(&self.modules)?;
            let line = line
                .iter()
                .find(|(file, _)| is_module(file, name))
                .context(format!("the kernel has no module {name}"))?;
            let (file, needed) = line;
            // The list has what must come first at the end of the line.
            for file in needed.split_whitespace().rev().chain([file.as_str()]) {
                let file = self.modules.join(file);
                if !files.contains(&file) {
                    files.push(file);
                }
            }
        }
        Ok(files)
    }
}

/// Each module's file below the modules' folder, and those that it needs.
pub fn dependencies(modules: &Path) -> Result<Vec<(String, String)>> {
    let list = modules.join("modules.dep");
    let list = fs::read_to_string(&list).context(list.display())?;
    let lines = list.lines().filter_map(|line| line.split_once(':'));
    Ok(lines
        .map(|(file, needed)| (file.to_owned(), needed.to_owned()))
        .collect())
}

/// Is this the file of the module? Some kernels have theirs compressed.
pub fn is_module(file: &str, name: &str) -> bool {
    let file = file.strip_suffix(".xz").unwrap_or(file);
    let file = file.strip_suffix(".ko").unwrap_or(file);
    file.rsplit('/').next() == Some(name)
}

/// A module as the kernel takes it.
pub fn read_module(file: &Path) -> Result<Vec<u8>> {
    if file.extension().is_none_or(|ending| ending != "xz") {
        return fs::read(file).context(file.display());
    }
    let output = Command::new("xz")
        .arg("--decompress")
        .arg("--stdout")
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .context("cannot run xz; run: make guest-deps")?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Error::new(format!("xz cannot read {}", file.display()))),
    }
}

/// The packages that hold the kernel: one, or since Linux 7 those that it depends on.
fn parts(package: &str, release: &str, depends: Vec<String>) -> Vec<String> {
    let ending = format!("-{release}");
    let own = depends
        .into_iter()
        .filter(|name| name.starts_with("linux-") && name.ends_with(&ending));
    [package.to_owned()].into_iter().chain(own).collect()
}

/// Makes what the packages' installation would.
fn prepare(unpacked: &Path, release: &str) -> Result<()> {
    let lib = unpacked.join("lib");
    if !lib.exists() {
        std::os::unix::fs::symlink("usr/lib", &lib).context(lib.display())?;
    }
    run("depmod", &["-b", ".", release], unpacked).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_name_whether_compressed_or_not() {
        assert!(is_module("kernel/fs/9p/9p.ko", "9p"));
        assert!(is_module("kernel/fs/9p/9p.ko.xz", "9p"));
        assert!(!is_module("kernel/net/9p/9pnet.ko.xz", "9p"));
        assert!(!is_module("kernel/net/9p/a9p.ko", "9p"));
    }

    #[test]
    fn a_kernel_is_in_one_package_or_in_several() {
        let depends = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let one = depends(&["kmod", "linux-base", "<linux-initramfs-tool>"]);
        assert_eq!(parts("linux-image-6.1", "6.1", one), ["linux-image-6.1"]);
        let several = depends(&["linux-base", "linux-binary-7.3", "linux-modules-7.3"]);
        let packages = parts("linux-image-7.3", "7.3", several);
        assert_eq!(
            packages,
            ["linux-image-7.3", "linux-binary-7.3", "linux-modules-7.3"]
        );
    }
}
