//! The guest's first file system, as the kernel unpacks it into memory.
//!
//! It holds this program as `/init`, the libraries that it is linked with, the modules without
//! which the real root file system cannot be mounted, and the job. The format is cpio's "newc"
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use lab::{Context, Result};

use crate::job::{self, Job};
use crate::kernel::{Kernel, read_module};

/// What is needed to mount the root: the bus, the file system over it, the layer in memory.
const MODULES: [&str; 4] = ["virtio_pci", "9p", "9pnet_virtio", "overlay"];
/// The names of the modules in the order of loading, one a line.
pub const MODULE_LIST: &str = "modules";
/// Where x86-64 programs say that their loader is.
const LOADER: &str = "lib64/ld-linux-x86-64.so.2";

const FOLDER: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const LINK: u32 = 0o120_777;

/// The whole archive.
pub fn pack(kernel: &Kernel, job: &Job) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    let own = std::env::current_exe().context("find the running program")?;
    archive.file("init", &read(&own)?);
    for library in libraries()? {
        let name = library.display().to_string();
        let name = name.trim_start_matches('/');
        archive.file(name, &read(&library)?);
        if library.file_name() == Path::new(LOADER).file_name() {
            archive.add(LOADER, LINK, format!("/{name}").as_bytes());
        }
    }
    // Libraries are in /usr/lib, and looked for in /lib.
    archive.add("lib", LINK, b"usr/lib");
    let mut names = String::new();
    for (n, file) in kernel.modules_for(&MODULES)?.iter().enumerate() {
        let name = format!("{n}.ko");
        archive.file(&name, &read_module(file)?);
        names += &format!("{name}\n");
    }
    archive.file(MODULE_LIST, names.as_bytes());
    archive.file(
        job::PATH,
        &serde_json::to_vec(job).context("write the job")?,
    );
    for folder in ["proc", "sys", "dev", "lower", "layer", "root"] {
        archive.add(folder, FOLDER, b"");
    }
    Ok(archive.end())
}

/// The libraries of this program, which are those that it has mapped.
fn libraries() -> Result<BTreeSet<PathBuf>> {
    let maps = fs::read_to_string("/proc/self/maps").context("/proc/self/maps")?;
    let files = maps.lines().filter_map(|line| {
        let path = line.split_whitespace().nth(5)?;
        path.contains(".so").then(|| PathBuf::from(path))
    });
    Ok(files.collect())
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).context(path.display())
}

/// A cpio archive in the making.
#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<PathBuf>,
}

impl Archive {
    fn file(&mut self, name: &str, content: &[u8]) {
        self.add(name, PROGRAM, content);
    }

    /// Adds an entry, and the folders that it is in.
    fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let above: Vec<_> = Path::new(name).ancestors().skip(1).collect();
        for folder in above.into_iter().rev() {
            let is_new = !folder.as_os_str().is_empty() && self.folders.insert(folder.into());
            if is_new {
                self.entry(&folder.display().to_string(), FOLDER, b"");
            }
        }
        if mode == FOLDER && !self.folders.insert(name.into()) {
            return;
        }
        self.entry(name, mode, content);
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = content.len() as u32;
        // Number, mode, owner, group, links, time, size, four device numbers, the name's length.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields.into_iter().chain([name.len() as u32 + 1, 0]) {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.align();
        self.bytes.extend_from_slice(content);
        self.align();
    }

    fn align(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn end(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, b"");
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_come_with_their_folders() {
        let mut archive = Archive::default();
        archive.file("a/b/c", b"hello");
        archive.file("a/b/d", b"");
        let bytes = archive.end();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8_lossy(&bytes);
        let names: Vec<_> = text
            .split("070701")
            .skip(1)
            .map(|entry| entry[104..].split('\0').next().unwrap_or_default())
            .collect();
        assert_eq!(names, ["a", "a/b", "a/b/c", "a/b/d", "TRAILER!!!"]);
        assert!(text.contains("hello\0\0\x00070701"));
    }

    #[test]
    fn this_program_has_a_loader_and_a_c_library() {
        let names: Vec<_> = libraries()
            .unwrap()
            .into_iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        assert!(names.iter().any(|name| name.starts_with("libc.so")));
        assert!(names.iter().any(|name| name.starts_with("ld-linux")));
    }
}
