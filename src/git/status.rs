//! What differs between a worktree and its HEAD, as git tells programs.

use crate::error::Result;

use super::Git;

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A tracked path that was changed.
    Tracked,
    /// A path with a conflict.
    Unmerged,
    /// Not tracked, and not ignored. With a `/` at its end it is a repository of its own.
    Untracked,
    /// Ignored.
    Ignored,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The path from the top of the worktree.
    pub path: String,
    /// How it differs.
    pub mark: Mark,
    /// Of a submodule: `S`, and a letter for each of another commit (`C`), changed files (`M`) and
    /// untracked ones (`U`). Empty otherwise.
    pub submodule: String,
}

impl Change {
    /// A repository of its own in the worktree, which no commit of the outer one can hold.
    pub fn is_nested(&self) -> bool {
        self.mark == Mark::Untracked && self.path.ends_with('/')
    }

    /// Whether the path is one of these or lies below one.
    pub fn is_below(&self, paths: &[String]) -> bool {
        is_below(self.path.trim_end_matches('/'), paths)
    }
}

/// Whether a path is one of these or lies below one.
pub fn is_below(path: &str, paths: &[String]) -> bool {
    let lies = |above: &String| {
        let above = above.trim_end_matches('/');
        path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    paths.iter().any(lies)
}

/// Paths in a worktree, from its top, that are no attempt's work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// Copied or linked there: nobody's work, whatever becomes of them.
    pub given: Vec<String>,
    /// Caches: nobody's work as far as they are not tracked. A tracked file is one wherever it lies.
    pub caches: Vec<String>,
}

impl Apart {
    /// All of them.
    pub fn all(&self) -> Vec<String> {
        self.given.iter().chain(&self.caches).cloned().collect()
    }

    /// Whether a change is none of an attempt's.
    pub fn has(&self, change: &Change) -> bool {
        let untracked = matches!(change.mark, Mark::Untracked | Mark::Ignored);
        change.is_below(&self.given) || untracked && change.is_below(&self.caches)
    }
}

/// Everything that differs in the worktree that `git` runs in; with `ignored`, ignored paths too.
pub fn status(git: &Git<'_>, ignored: bool) -> Result<Vec<Change>> {
    let mut args = vec![
        "status",
        "--porcelain=v2",
        "-z",
        "--no-renames",
        "--untracked-files=all",
        "--ignore-submodules=none",
    ];
    if ignored {
        args.push("--ignored=matching");
    }
    let output = git.must("look at the state of a worktree", &args)?;
    Ok(parse(&output.stdout))
}

fn parse(bytes: &[u8]) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut records = bytes.split(|&b| b == 0);
    while let Some(record) = records.next() {
        let text = String::from_utf8_lossy(record);
        let Some((kind, rest)) = text.split_once(' ') else { continue };
        let (mark, before) = match kind {
            "?" => (Mark::Untracked, 0),
            "!" => (Mark::Ignored, 0),
            "1" => (Mark::Tracked, 7),
            "2" => (Mark::Tracked, 8),
            "u" => (Mark::Unmerged, 9),
            _ => continue,
        };
        let mut fields = rest.splitn(before + 1, ' ');
        let submodule = if before > 0 { fields.nth(1).unwrap_or_default() } else { "" };
        let submodule =
            if submodule.starts_with('S') { submodule.replace('.', "") } else { String::new() };
        let path = if before > 0 { fields.nth(before - 2) } else { Some(rest) };
        if kind == "2" {
            // The path that it had before.
            records.next();
        }
        let path = path.unwrap_or_default().to_owned();
        changes.push(Change { path, mark, submodule });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_record_is_read() {
        let bytes = b"# branch.oid x\x001 .M N... 100644 100644 100644 a b with space\x00\
            2 R. N... 100644 100644 100644 a b R100 new\x00? old\x00\
            u UU N... 100644 100644 100644 100644 a b c both\x00\
            1 .M SC.U 160000 160000 160000 a b libs/sub\x00? nested/\x00? d/y\x00! target/\x00";
        let found = parse(bytes);
        let told: Vec<(&str, Mark, &str)> =
            found.iter().map(|c| (c.path.as_str(), c.mark, c.submodule.as_str())).collect();
        assert_eq!(
            told,
            [
                ("with space", Mark::Tracked, ""),
                ("new", Mark::Tracked, ""),
                ("both", Mark::Unmerged, ""),
                ("libs/sub", Mark::Tracked, "SCU"),
                ("nested/", Mark::Untracked, ""),
                ("d/y", Mark::Untracked, ""),
                ("target/", Mark::Ignored, ""),
            ]
        );
        assert!(found[4].is_nested() && !found[5].is_nested() && !found[6].is_nested());
        let below = |path: &str| found[6].is_below(&[path.to_owned()]);
        assert!(below("target") && !below("tar") && !below("target/x"));
    }
}
