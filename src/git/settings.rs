//! Settings of people that would change what git does for `coord`, or what it prints for it. Each is
//! given with every command, so that it is the same everywhere; a person's own commands, and those of
//! attempts, are never touched by them.
//!
//! Not here: what is a person's wish for the repository itself (filters, line endings, merge drivers,
//! ignored files, how a remote is reached), and what an option of the single command says already.

/// Given with every command.
pub const OWN: [&str; 16] = [
    // No collection of garbage in the middle of a command, and none behind it.
    "gc.auto=0",
    "maintenance.auto=false",
    "advice.detachedHead=false",
    // Its daemon, or hook, would outlive a command, with its directory in a worktree.
    "core.fsmonitor=false",
    // Files would count as unchanged that `coord` itself has written, whatever becomes of them.
    "core.ignoreStat=false",
    // A sparse file that is there all the same would be neither saved nor cleaned.
    "sparse.expectFilesOutsideOfPatterns=false",
    // A submodule is `setup`'s business: its repository may not even be there.
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "push.recurseSubmodules=no",
    // Words of git are read, with their beginnings.
    "color.ui=false",
    "color.push=false",
    "color.transport=false",
    "color.remote=false",
    // Messages are written in UTF-8, and the commits must not say another encoding.
    "i18n.commitEncoding=UTF-8",
    "i18n.logOutputEncoding=UTF-8",
    "log.showSignature=false",
];

/// For a command of which no hook is to run.
pub const NO_HOOKS: &str = "core.hooksPath=/dev/null";
