//! What is drawn by chance: a layout, settings, and what the attempt does.

use std::fmt;

use crate::chance::Chance;

/// A line of shell that sets something, run at the top of the user's worktree; `$COMMON` is what all
/// worktrees share. One that this git does not know fails, and changes nothing.
pub const SETTINGS: &[&str] = &[
    "git config core.worktree \"$PWD\"",
    "git config extensions.worktreeConfig true",
    "git config core.bare true",
    "git config core.autocrlf true",
    "git config core.autocrlf input",
    "git config core.eol crlf",
    "git config core.safecrlf true",
    "git sparse-checkout set src",
    "git config core.sparseCheckout true",
    "git config submodule.recurse true",
    "mkdir -p ../hooks && printf '#!/bin/sh\\nexit 1\\n' > ../hooks/post-checkout && chmod +x ../hooks/post-checkout && git config core.hooksPath \"$PWD/../hooks\"",
    "mkdir -p \"$COMMON/hooks\" && printf '#!/bin/sh\\nexit 1\\n' > \"$COMMON/hooks/pre-commit\" && chmod +x \"$COMMON/hooks/pre-commit\"",
    "mkdir -p \"$COMMON/hooks\" && printf '#!/bin/sh\\nexit 0\\n' > \"$COMMON/hooks/post-checkout\" && chmod +x \"$COMMON/hooks/post-checkout\"",
    "git config core.fsmonitor true",
    "git config core.splitIndex true",
    "git config core.untrackedCache true",
    "git config index.version 4",
    "git config core.fileMode false",
    "git config core.ignoreCase true",
    "git config core.precomposeUnicode true",
    "git config core.quotePath false",
    "git config core.trustctime false && git config core.checkStat minimal",
    "git config worktree.guessRemote true",
    "git config checkout.defaultRemote origin",
    "git config rebase.autoStash true",
    "git config commit.gpgSign true",
    "git config commit.cleanup scissors && git config commit.verbose true",
    "git config merge.ff only",
    "git config merge.conflictStyle zdiff3",
    "git config diff.external false",
    "git config diff.mnemonicPrefix true",
    "git config diff.noprefix true",
    "git config diff.renames copies",
    "git config diff.ignoreSubmodules all",
    "git config status.showUntrackedFiles no",
    "git config color.ui always",
    "git config log.showSignature true",
    "printf '*.log\\n' > ../excludes && git config core.excludesFile \"$PWD/../excludes\"",
    "printf '* text=auto\\n' > ../attributes && git config core.attributesFile \"$PWD/../attributes\"",
    "mkdir -p \"$COMMON/info\" && printf '*.flt filter=up\\n' >> \"$COMMON/info/attributes\" && git config filter.up.clean 'tr a-z A-Z' && git config filter.up.smudge cat",
    "mkdir -p \"$COMMON/info\" && printf '*.flt filter=bad\\n' >> \"$COMMON/info/attributes\" && git config filter.bad.clean false && git config filter.bad.required true",
    "git config clean.requireForce true",
    "git config protocol.allow never",
    "git config init.defaultBranch other",
    "git config core.logAllRefUpdates false",
    "git config --global safe.bareRepository explicit",
    "printf '[core]\\nworktree = /nowhere\\nbare = true\\n' > ../slot.inc && git config --global \"includeIf.gitdir:**/worktrees/*.path\" \"$PWD/../slot.inc\"",
    "git config gc.pruneExpire now && git config gc.auto 1",
    "git config feature.manyFiles true",
    "git config user.useConfigOnly true",
    "git config core.sharedRepository group",
    "git config core.abbrev 5",
    "git config extensions.preciousObjects true",
    "git config worktree.useRelativePaths true",
    "git config core.bigFileThreshold 1",
    // The two that lead git elsewhere together, so that they meet in the small size as well.
    "git config core.worktree \"$PWD\" && git config extensions.worktreeConfig true",
    "git config core.bare true && git config extensions.worktreeConfig true",
];

/// Where the project, its repository and its worktrees are: what a shell does in an empty directory
/// `project`, of which it leaves `$TOP`, the worktree of the user (empty: there is none).
pub const LAYOUTS: &[(&str, &str)] = &[
    ("plain", "git init -q -b main . && seed && TOP=$PWD"),
    (
        "below",
        "git init -q -b main . && seed && TOP=$PWD && mkdir -p src/deep && PROJECT=$PWD/src/deep",
    ),
    ("separate", "git init -q -b main --separate-git-dir ../store . && seed && TOP=$PWD"),
    (
        "linked",
        "git init -q -b trunk ../trunk && cd ../trunk && seed && git worktree add -q -b main ../project && cd ../project && TOP=$PWD",
    ),
    (
        "bare",
        "git init -q -b main ../seed && (cd ../seed && seed) && git clone -q --bare ../seed ../store.git && git -C ../store.git worktree add -q ../project main && TOP=$PWD",
    ),
    (
        "in bare",
        "git init -q -b main ../seed && (cd ../seed && seed) && git clone -q --bare ../seed store.git && cd store.git && TOP= && PROJECT=$PWD",
    ),
    (
        "submodule",
        "git init -q -b main ../lib && (cd ../lib && seed) && git init -q -b main . && git -c protocol.file.allow=always submodule --quiet add ../lib lib && git commit -qm sub && cd lib && TOP=$PWD && PROJECT=$PWD",
    ),
    (
        "nested",
        "git init -q -b main .. && git -C .. commit -q --allow-empty -m outer && git init -q -b main . && seed && TOP=$PWD",
    ),
    ("empty above", "mkdir ../.git && git init -q -b main . && seed && TOP=$PWD"),
];

/// What an attempt does beside writing.
pub const DEEDS: &[&str] = &[
    "",
    "",
    "git add committed.txt; git commit -qm committed",
    "git add -A; git commit -qm all; echo more >> other",
    "git checkout -q --detach; git add committed.txt; git commit -qm strayed",
    "git add new.txt; git update-index --assume-unchanged other",
    "rm -f \"$(git rev-parse --git-path index)\"",
    "git stash -q; git stash apply -q",
    "git checkout -q --orphan lost",
    "git config core.worktree \"$PWD\"; git config extensions.worktreeConfig true",
    "git config extensions.worktreeConfig true; git config --worktree core.worktree \"$COORD_ROOT\"",
    "git config core.bare true",
];

/// How it ends.
pub const ENDS: &[&str] = &["exit 0", "exit 1", "[ $COORD_ATTEMPT = 2 ] || kill -9 $PPID; exit 0"];

/// One combination.
pub struct Drawn {
    /// What it was made from.
    pub seed: u64,
    /// Its layout.
    pub layout: (&'static str, &'static str),
    /// Its settings.
    pub settings: Vec<&'static str>,
    /// Variables for everything, `NAME=VALUE`.
    pub env: Vec<(&'static str, &'static str)>,
    /// Tables of coord.toml.
    pub toml: String,
    /// What the attempt does.
    pub deed: &'static str,
    /// How it ends.
    pub end: &'static str,
}

impl Drawn {
    /// The combination of a seed.
    pub fn new(seed: u64) -> Drawn {
        let mut chance = Chance(seed);
        let settings = SETTINGS.iter().copied().filter(|_| chance.in_a_hundred(10)).collect();
        let mut env = Vec::new();
        if chance.in_a_hundred(10) {
            env.push(("GIT_DEFAULT_HASH", "sha256"));
        }
        if chance.in_a_hundred(10) {
            env.push(("GIT_DEFAULT_REF_FORMAT", "reftable"));
        }
        let mut toml = format!(
            "[git]\ncommit = \"{}\"\n[worktree]\nisolation = \"{}\"\n",
            chance.one(&["agent", "worker", "none"]),
            chance.one(&["worktree", "worktree", "worktree", "clone"])
        );
        if chance.in_a_hundred(30) {
            let strategy = chance.one(&["merge", "rebase", "squash"]);
            toml.push_str(&format!("[merge]\nenabled = true\nstrategy = \"{strategy}\"\n"));
            if chance.in_a_hundred(30) {
                toml.push_str("check = \"true\"\n");
            }
        }
        let layout = chance.one(LAYOUTS);
        let (deed, end) = (chance.one(DEEDS), chance.one(ENDS));
        Drawn { seed, layout, settings, env, toml, deed, end }
    }
}

impl fmt::Display for Drawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let toml = self.toml.replace('\n', " ");
        let (seed, layout, env) = (self.seed, self.layout.0, &self.env);
        write!(f, "seed {seed}: {layout} {env:?} {toml}| {} | {}", self.deed, self.end)?;
        self.settings.iter().try_for_each(|setting| write!(f, "\n    {setting}"))
    }
}
