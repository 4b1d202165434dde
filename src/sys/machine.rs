//! What the programs ask the machine about: who it is, and how much of it is left.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::LazyLock;

use nix::libc;

/// Identity of the place where a process runs. Pids of two cards may be compared only if all three
/// fields are equal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The machine: its machine-id, or its name where it has none.
    pub host_id: String,
    /// The kernel's boot id: another one means that everything of that boot is gone.
    pub boot: String,
    /// Inode of the pid namespace: containers of one machine have their own.
    pub pidns: u64,
}

#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc and /etc")]
fn line_of(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

/// The machine's name, for people.
pub fn host_name() -> String {
    match nix::unistd::gethostname() {
        Ok(name) => name.to_string_lossy().into_owned(),
        Err(_) => "localhost".to_owned(),
    }
}

/// Where this process runs.
#[expect(clippy::disallowed_methods, reason = "sys/ may look at /proc")]
pub fn place() -> &'static Place {
    static PLACE: LazyLock<Place> = LazyLock::new(|| Place {
        host_id: line_of("/etc/machine-id").unwrap_or_else(host_name),
        boot: line_of("/proc/sys/kernel/random/boot_id").unwrap_or_else(|| "unknown".to_owned()),
        pidns: std::fs::metadata("/proc/self/ns/pid").map_or(0, |m| m.ino()),
    });
    &PLACE
}

/// Whether this process may have a controlling terminal, which its children would share.
#[expect(clippy::disallowed_methods, reason = "sys/ may open files")]
pub fn has_terminal() -> bool {
    let opened = std::fs::File::open("/dev/tty");
    let none = |e: std::io::Error| matches!(e.raw_os_error(), Some(libc::ENXIO | libc::ENOENT));
    !opened.is_err_and(none)
}

/// Wall time of this boot, in milliseconds since 1970; 0 where unknown.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn booted_at_ms() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/stat") else { return 0 };
    let line = text.lines().find_map(|l| l.strip_prefix("btime "));
    line.and_then(|s| s.trim().parse::<u64>().ok()).map_or(0, |s| s * 1000)
}

/// Memory that can be had without swapping, in bytes; `None` where unknown.
#[expect(clippy::disallowed_methods, reason = "sys/ may read /proc")]
pub fn available_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb * 1024)
}

/// Free and total bytes of the file system that holds `path`.
pub fn disk_space(path: &Path) -> Option<(u64, u64)> {
    Some((fs2::available_space(path).ok()?, fs2::total_space(path).ok()?))
}

/// The kind of a file system, as far as it matters here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FsKind {
    /// Its usual name, or its number.
    pub name: String,
    /// Whether inotify tells nothing of changes made elsewhere.
    pub blind: bool,
}

/// What file system `path` lies on.
pub fn fs_kind(path: &Path) -> FsKind {
    let magic = match nix::sys::statfs::statfs(path) {
        Ok(stat) => stat.filesystem_type().0,
        Err(_) => 0,
    };
    let (name, blind) = match magic & 0xffff_ffff {
        0xef53 => ("ext4", false),
        0x5846_5342 => ("xfs", false),
        0x9123_683e => ("btrfs", false),
        0x0102_1994 => ("tmpfs", false),
        0x794c_7630 => ("overlayfs", false),
        0x2fc1_2fc1 => ("zfs", false),
        0x4d44 => ("vfat", false),
        0x6969 => ("nfs", true),
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => ("smb", true),
        0x0102_1997 => ("9p", true),
        0x6573_5546 => ("fuse", true),
        0x00c3_6400 => ("ceph", true),
        0x0bd0_0bd0 => ("lustre", true),
        other => return FsKind { name: format!("{other:#x}"), blind: false },
    };
    FsKind { name: name.to_owned(), blind }
}

/// A limit of the kernel under /proc/sys, as a number.
pub fn sysctl(name: &str) -> Option<u64> {
    line_of(&format!("/proc/sys/{name}"))?.parse().ok()
}
