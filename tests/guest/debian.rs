//! Debian's archive, from the mirror that this machine has: any suite, with apt's own check of its signatures,
//! and with nothing of it in this machine's lists or packages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lab::{Context, Error, Result};

/// Who signs the archive.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A suite of the archive, as apt sees it from a folder of its own.
pub struct Archive {
    suite: String,
    folder: PathBuf,
}

impl Archive {
    /// Asks the mirror what there is.
    pub fn new(folder: &Path, suite: &str) -> Result<Self> {
        let archive = Self {
            suite: suite.to_owned(),
            folder: folder.join("apt").join(suite),
        };
        for part in ["lists/partial", "archives/partial"] {
            let part = archive.folder.join(part);
            fs::create_dir_all(&part).context(part.display())?;
        }
        let sources = archive.folder.join("sources.list");
        let line = format!("deb [signed-by={KEYRING}] {} {suite} main\n", mirror()?);
        fs::write(&sources, line).context(sources.display())?;
        let updated = archive.apt("apt-get", &["update", "-qq"], Path::new("/"));
        // Without a mirror, or beside another run, the lists of the last time do.
        let lists = archive.folder.join("lists");
        let known = fs::read_dir(&lists).context(lists.display())?;
        let known = known
            .flatten()
            .any(|file| file.file_name().to_string_lossy().contains("_Packages"));
        match (updated, known) {
            (Err(error), false) => Err(error),
            _ => Ok(archive),
        }
    }

    /// What a package depends on.
    pub fn depends(&self, package: &str) -> Result<Vec<String>> {
        let listed = self.apt("apt-cache", &["depends", package], Path::new("/"))?;
        let depends = listed
            .lines()
            .filter_map(|line| line.trim().strip_prefix("Depends: "))
            .map(str::to_owned)
            .collect::<Vec<_>>();
        match depends.is_empty() {
            true => Err(Error::new(format!("{} has no {package}", self.suite))),
            false => Ok(depends),
        }
    }

    /// Unpacks packages into a new folder.
    pub fn unpack(&self, packages: &[String], folder: &Path) -> Result<()> {
        fs::create_dir_all(folder).context(folder.display())?;
        let words = ["download", "-qq"].into_iter();
        let words: Vec<&str> = words.chain(packages.iter().map(String::as_str)).collect();
        self.apt("apt-get", &words, folder)?;
        let files = fs::read_dir(folder).context(folder.display())?;
        let archives: Vec<PathBuf> = files
            .filter_map(|file| Some(file.ok()?.path()))
            .filter(|file| file.extension().is_some_and(|ending| ending == "deb"))
            .collect();
        if archives.len() != packages.len() {
            let named = packages.join(" ");
            return Err(Error::new(format!(
                "apt-get did not download all of {named}"
            )));
        }
        for archive in archives {
            run(
                "dpkg-deb",
                &["-x", &archive.display().to_string(), "."],
                folder,
            )?;
            fs::remove_file(&archive).context(archive.display())?;
        }
        Ok(())
    }

    fn apt(&self, program: &str, words: &[&str], folder: &Path) -> Result<String> {
        let own = self.folder.display();
        let settings = [
            format!("Dir::State={own}"),
            format!("Dir::Cache={own}"),
            format!("Dir::Etc::SourceList={own}/sources.list"),
            "Dir::Etc::SourceParts=/dev/null".to_owned(),
            "Dir::State::Status=/dev/null".to_owned(),
            "APT::Sandbox::User=root".to_owned(),
        ];
        let settings = settings.iter().flat_map(|setting| ["-o", setting]);
        let words: Vec<&str> = settings.chain(words.iter().copied()).collect();
        run(program, &words, folder)
    }
}

/// The mirror from which this machine has its own packages.
fn mirror() -> Result<String> {
    let words = [
        "indextargets",
        "--format",
        "$(REPO_URI)",
        "Created-By: Packages",
        "Label: Debian",
    ];
    let listed = run("apt-get", &words, Path::new("/"))?;
    let first = listed.lines().next().map(str::to_owned);
    first.context("apt knows no mirror of Debian; the guest needs one, and: apt-get update")
}

/// Runs a program to its end, and gives what it printed.
pub fn run(program: &str, arguments: &[&str], folder: &Path) -> Result<String> {
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
