//! A node's boot, seen from inside: `lab boot` and `lab init`.
//!
//! `lab boot` makes the namespaces and waits; `lab init` is the node's first process. It builds a
//! root file system that is the machine's own (or another) with a private layer on top, so nothing
//! outside ever changes, starts Corosync and Pacemaker, and reaps. When stdin ends, so does the node.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::sys::wait::waitpid;
use nix::unistd::{Group, User, chdir, chown, pivot_root, sethostname};
use serde::{Deserialize, Serialize};

use super::{ClusterOptions, Daemon};
use crate::exec::LAB;
use crate::namespace::outlive_stdin;
use crate::{Context, Error, Result, wait_until};

/// The tested resource agent on a node.
pub const AGENT: &str = "/usr/lib/ocf/resource.d/rust/ClusterIP";
/// The tested command line program on a node.
pub const NODECTL: &str = "/usr/sbin/nodectl";
/// The tested daemon on a node.
pub const DAEMON: &str = "/usr/sbin/clusteripd";
/// The lab's server as a resource agent, `ocf:lab:Service`.
pub const SERVICE: &str = "/usr/lib/ocf/resource.d/lab/Service";
/// The logs worth showing when something fails.
pub const LOGS: [&str; 5] = [
    "/var/log/corosync.log",
    "/var/log/pacemaker/pacemaker.log",
    "/var/log/lab-init.log",
    "/var/log/syslog",
    DAEMON_LOG,
];
const DAEMON_LOG: &str = "/var/log/clusteripd.log";

/// What Pacemaker is to have in its environment, for each time that it is started; not there on a node without it.
const ENVIRONMENT: &str = "/etc/lab-environment";
const INIT_LOG: &str = LOGS[2];
const BOOT_TIME: Duration = Duration::from_secs(40);

/// All that a node needs to know to boot.
#[derive(Serialize, Deserialize)]
pub struct Spec {
    name: String,
    corosync_conf: String,
    hosts: String,
    cib: String,
    root: PathBuf,
    files: Vec<(PathBuf, String)>,
    /// Pacemaker's, if there is to be one.
    environment: Option<Vec<(String, String)>>,
    /// The words behind the daemon's name, if it is to run.
    daemon: Option<Vec<String>>,
}

impl Spec {
    pub(super) fn new(
        name: &str,
        options: &ClusterOptions,
        files: Vec<(PathBuf, String)>,
        members: &[(String, usize, Ipv4Addr, Ipv6Addr)],
    ) -> Self {
        let mut hosts = String::from("127.0.0.1\tlocalhost\n::1\tlocalhost\n");
        let mut nodelist = String::new();
        for (name, number, v4, v6) in members {
            hosts += &format!("{v4}\t{name}\n{v6}\t{name}\n");
            // Corosync does not understand a brace and its content on one line.
            nodelist += &format!(
                "  node {{\n    name: {name}\n    nodeid: {number}\n    ring0_addr: {v4}\n  }}\n"
            );
        }
        let two_node = if members.len() == 2 {
            "  two_node: 1\n  wait_for_all: 0\n"
        } else {
            ""
        };
        let token_ms = options.token_ms;
        let sched_rr = if options.real_time { "yes" } else { "no" };
        let corosync_conf = format!(
            "totem {{\n  version: 2\n  cluster_name: lab\n  transport: knet\n  token: {token_ms}\n  \
             crypto_cipher: none\n  crypto_hash: none\n}}\n\
             nodelist {{\n{nodelist}}}\n\
             quorum {{\n  provider: corosync_votequorum\n{two_node}}}\n\
             system {{\n  sched_rr: {sched_rr}\n  move_to_root_cgroup: no\n}}\n\
             logging {{\n  to_syslog: no\n  to_stderr: no\n  to_logfile: yes\n  logfile: {}\n  \
             timestamp: hires\n}}\n",
            LOGS[0]
        );
        Self {
            name: name.into(),
            corosync_conf,
            hosts,
            cib: CIB.into(),
            root: options.root.clone(),
            files,
            environment: options.pacemaker.then(|| options.environment.clone()),
            daemon: options.daemon.as_ref().map(Daemon::words),
        }
    }
}

/// The first configuration: a DC is elected soon, and nobody is fenced before all have met.
const CIB: &str = r#"<cib crm_feature_set="3.0.14" validate-with="pacemaker-3.0" epoch="1" num_updates="0" admin_epoch="0">
  <configuration>
    <crm_config>
      <cluster_property_set id="cib-bootstrap-options">
        <nvpair id="cib-bootstrap-options-stonith-enabled" name="stonith-enabled" value="false"/>
        <nvpair id="cib-bootstrap-options-dc-deadtime" name="dc-deadtime" value="2s"/>
      </cluster_property_set>
    </crm_config>
    <nodes/>
    <resources/>
    <constraints/>
  </configuration>
  <status/>
</cib>
"#;

/// Whether root here is root of the machine, not of a user namespace.
pub fn is_real_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// The body of `lab boot SPEC`: makes the namespaces, starts the first process, waits for it.
pub fn boot(spec: &str) -> Result<u8> {
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(namespaces).context("make a node's namespaces")?;
    let program = std::env::current_exe().context("find the running program")?;
    let mut init = Command::new(program)
        .args(["init", spec])
        .spawn()
        .context("start the first process")?;
    println!("init {}", init.id());
    let status = init.wait().context("wait for the first process")?;
    Ok(status.code().map_or(137, |code| code as u8))
}

/// The body of `lab init SPEC`: the node's first process; never returns once it has booted.
pub fn init(spec: &str) -> Result<()> {
    // Whoever waits for this process may be killed; then nobody may stay.
    set_pdeathsig(Signal::SIGKILL).context("ask to be killed with the parent")?;
    std::thread::spawn(|| {
        outlive_stdin();
        std::process::exit(0);
    });
    let spec: Spec = serde_json::from_str(spec).context("read the specification")?;
    sethostname(&spec.name).context("set the host name")?;
    build_root(&spec)?;
    fill_root(&spec)?;
    system_log()?;
    // It waits for Corosync by itself, and outlives its restarts.
    if let Some(words) = &spec.daemon {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        start(DAEMON, &words, &[], DAEMON_LOG)?;
    }
    start_stack()?;
    println!("booted");
    reap()
}

/// Writes what comes to the system log into a file, as every machine does.
fn system_log() -> Result<()> {
    let socket = UnixDatagram::bind("/dev/log").context("/dev/log")?;
    let mut log = File::create(LOGS[3]).context(LOGS[3])?;
    std::thread::spawn(move || {
        let mut line = vec![0; 8192];
        while let Ok(length) = socket.recv(&mut line) {
            // Only for people; a full disk must not stop the node.
            let _ = log.write_all(&[&line[..length], b"\n"].concat());
        }
    });
    Ok(())
}

/// The body of `lab stack`: starts Corosync and, when it answers, Pacemaker if this node has one.
pub fn start_stack() -> Result<()> {
    start("corosync", &["-f"], &[], INIT_LOG)?;
    let answers = || {
        let asked = Command::new("corosync-cmapctl")
            .args(["-g", "totem.cluster_name"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        asked.is_ok_and(|status| status.success())
    };
    wait_until("Corosync's answer", BOOT_TIME, answers).map_err(|error| {
        let logs = LOGS.map(|log| fs::read_to_string(log).unwrap_or_default());
        Error::new(format!("{error}\n{}", logs.concat()))
    })?;
    if !Path::new(ENVIRONMENT).exists() {
        return Ok(());
    }
    let given = fs::read_to_string(ENVIRONMENT).context(ENVIRONMENT)?;
    let given: Vec<(String, String)> = serde_json::from_str(&given).context(ENVIRONMENT)?;
    let own = [("PCMK_logfacility", "none"), ("HOME", "/root")];
    let given = given.iter().map(|(name, value)| (&**name, &**value));
    let all: Vec<(&str, &str)> = own.into_iter().chain(given).collect();
    start("pacemakerd", &["-f"], &all, INIT_LOG)
}

fn start(program: &str, arguments: &[&str], env: &[(&str, &str)], log: &str) -> Result<()> {
    let log = || {
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .context(log)
    };
    Command::new(program)
        .args(arguments)
        .envs(env.iter().copied())
        .stdin(Stdio::null())
        .stdout(log()?)
        .stderr(log()?)
        .spawn()
        .context(format!("start {program}; is it installed?"))?;
    Ok(())
}

/// Adopts and reaps all that dies on this node, as an init does.
fn reap() -> ! {
    loop {
        match waitpid(None, None) {
            Ok(status) => {
                let log = OpenOptions::new().append(true).open(INIT_LOG);
                // Only a hint for people; a full disk must not stop the reaping.
                let _ = log.and_then(|mut log| writeln!(log, "ended: {status:?}"));
            }
            Err(Errno::ECHILD) => std::thread::sleep(Duration::from_millis(100)),
            Err(_) => {}
        }
    }
}

/// Makes the root that was given, with a private layer on top of it, this node's root.
fn build_root(spec: &Spec) -> Result<()> {
    bind_flags("/", MsFlags::MS_REC | MsFlags::MS_PRIVATE)?;
    // A file system in memory over /run is a place that exists everywhere and hides nothing needed.
    fresh("/run", "mode=755")?;
    let [upper, work, root] = ["/run/lab/upper", "/run/lab/work", "/run/lab/root"];
    for folder in [upper, work, root] {
        fs::create_dir_all(folder).context(folder)?;
    }
    let beneath = spec.root.display();
    let options = format!("lowerdir={beneath},upperdir={upper},workdir={work}");
    mount(
        Some("lab"),
        root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )
    .context("lay a private layer over the root file system")?;

    let program = std::env::current_exe().context("find the running program")?;
    let own = (program, LAB.to_string());
    for (source, target) in spec.files.iter().chain([&own]) {
        let place = PathBuf::from(format!("{root}{target}"));
        place_file(source, &place).context(format!("put {} at {target}", source.display()))?;
    }
    let old = format!("{root}/mnt");
    pivot_root(root, old.as_str()).context("enter the new root")?;
    chdir("/").context("enter the new root")?;
    devices()?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("leave the old root")
}

/// Programs are bound, not copied: they may be large, and no node changes them.
fn place_file(source: &Path, target: &Path) -> Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).context(folder.display())?;
    }
    File::create(target).context(target.display())?;
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )
    .context("bind it")
}

/// A small /dev of its own: no watchdog, no disks.
fn devices() -> Result<()> {
    fresh("/dev", "mode=755")?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (outside, inside) = (format!("/mnt/dev/{name}"), format!("/dev/{name}"));
        if Path::new(&outside).exists() {
            File::create(&inside).context(&inside)?;
            mount(
                Some(outside.as_str()),
                inside.as_str(),
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .context(&inside)?;
        }
    }
    for (name, target) in [
        ("fd", "fd"),
        ("stdin", "fd/0"),
        ("stdout", "fd/1"),
        ("stderr", "fd/2"),
    ] {
        symlink(format!("/proc/self/{target}"), format!("/dev/{name}")).context(name)?;
    }
    fs::create_dir("/dev/shm").context("/dev/shm")?;
    fresh("/dev/shm", "mode=1777")
}

/// Mounts what every machine has, and makes what the packages' installation and systemd would.
fn fill_root(spec: &Spec) -> Result<()> {
    mount(
        Some("proc"),
        "/proc",
        Some("proc"),
        MsFlags::empty(),
        None::<&str>,
    )
    .context("/proc")?;
    // Pacemaker in panic would reboot the real machine through these.
    for trigger in ["/proc/sysrq-trigger", "/proc/sys/kernel/sysrq"] {
        if Path::new(trigger).exists() {
            mount(
                Some("/dev/null"),
                trigger,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
            .context(trigger)?;
        }
    }
    mount(
        Some("sysfs"),
        "/sys",
        Some("sysfs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )
    .context("/sys")?;
    fresh("/run", "mode=755")?;
    fresh("/tmp", "mode=1777")?;
    for folder in ["/var/log", "/var/lib/corosync", "/var/lib/pacemaker"] {
        fs::create_dir_all(folder).context(folder)?;
        fresh(folder, "mode=755")?;
    }
    for folder in ["/run/lock", "/run/resource-agents", "/var/log/crmsh"] {
        fs::create_dir_all(folder).context(folder)?;
    }
    File::create(INIT_LOG).context(INIT_LOG)?;

    let user = User::from_name("hacluster").ok().flatten();
    let group = Group::from_name("haclient").ok().flatten();
    let (user, group) = user
        .zip(group)
        .context("there is no user hacluster; install pacemaker")?;
    let give = |path: &str, mode: u32| {
        chown(path, Some(user.uid), Some(group.gid)).context(path)?;
        fs::set_permissions(path, Permissions::from_mode(mode)).context(path)
    };
    for folder in ["/run/crm", "/var/log/pacemaker", "/var/lib/pacemaker"] {
        fs::create_dir_all(folder).context(folder)?;
        give(folder, 0o750)?;
    }
    for name in ["cib", "pengine", "blackbox", "cores"] {
        let folder = format!("/var/lib/pacemaker/{name}");
        fs::create_dir_all(&folder).context(&folder)?;
        give(&folder, 0o750)?;
    }
    let cib = "/var/lib/pacemaker/cib/cib.xml";
    write(cib, &spec.cib)?;
    give(cib, 0o600)?;

    if let Some(environment) = &spec.environment {
        let environment = serde_json::to_string(environment).context(ENVIRONMENT)?;
        write(ENVIRONMENT, &environment)?;
    }
    write("/etc/corosync/corosync.conf", &spec.corosync_conf)?;
    write("/etc/hosts", &spec.hosts)?;
    write("/etc/hostname", &format!("{}\n", spec.name))?;
    fs::create_dir_all("/usr/lib/ocf/resource.d/lab").context(SERVICE)?;
    write(SERVICE, include_str!("Service"))?;
    fs::set_permissions(SERVICE, Permissions::from_mode(0o755)).context(SERVICE)?;
    let _ = fs::remove_file("/usr/sbin/fence_lab");
    symlink(LAB, "/usr/sbin/fence_lab").context("/usr/sbin/fence_lab")
}

fn write(path: &str, text: &str) -> Result<()> {
    // The file may be a link to somewhere else outside; here it becomes a plain one.
    let _ = fs::remove_file(path);
    fs::write(path, text).context(path)
}

fn fresh(folder: &str, options: &str) -> Result<()> {
    mount(
        Some("lab"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options),
    )
    .context(format!("mount {folder}"))
}

fn bind_flags(path: &str, flags: MsFlags) -> Result<()> {
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>).context(format!("remount {path}"))
}
