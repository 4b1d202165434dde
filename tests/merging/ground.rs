//! The code base: the crate `strsim`, as published, with its 88 unit tests. It is one of this
//! project's own dependencies, so the build has unpacked it already, and nothing of it is committed.
//!
//! A second commit adds places for the changes to come. Two places are so far apart that git merges
//! changes in both, and that neither is in the context of the other.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::support::Sandbox;
use crate::tasks::Plan;

/// The crate.
const CRATE: &str = "strsim";
/// Lines between two places, at least.
const APART: usize = 9;
/// The file with the lines that pairs of tasks fight for.
pub const SHARED: &str = "src/more/shared.rs";

/// A repository, and git in it with a sandbox's environment.
#[derive(Clone)]
pub struct Repo<'a> {
    sandbox: &'a Sandbox,
    /// Its directory.
    pub dir: PathBuf,
}

impl<'a> Repo<'a> {
    /// The one in this directory.
    pub fn at(sandbox: &'a Sandbox, dir: &Path) -> Repo<'a> {
        Repo { sandbox, dir: dir.to_owned() }
    }

    /// Another one in the same sandbox.
    pub fn elsewhere(&self, dir: &str) -> Repo<'a> {
        Repo { dir: dir.into(), ..self.clone() }
    }

    /// Runs git, which may fail: its exit code, its output, its remarks.
    pub fn try_git(&self, args: &[&str]) -> (i32, String, String) {
        let dir = self.dir.to_string_lossy();
        let output = self.sandbox.run("git", &[&["-C", &dir][..], args].concat());
        (output.code, output.stdout, output.stderr)
    }

    /// Runs git, which must succeed; its output without the last line end.
    #[track_caller]
    pub fn git(&self, args: &[&str]) -> String {
        let (code, out, err) = self.try_git(args);
        assert_eq!(code, 0, "git {args:?} in {}\n{out}\n{err}", self.dir.display());
        out.trim_end().to_owned()
    }

    /// The lines of git's output.
    #[track_caller]
    pub fn lines(&self, args: &[&str]) -> Vec<String> {
        self.git(args).lines().map(str::to_owned).collect()
    }

    /// Runs a line of shell here: whether it succeeded, and all that it said.
    pub fn sh(&self, line: &str) -> (bool, String) {
        let raw = self.sandbox.command("sh").args(["-c", line]).current_dir(&self.dir).output();
        let raw = raw.unwrap();
        let text = [&raw.stdout[..], &raw.stderr[..]].concat();
        (raw.status.success(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// What a program of the toolchain prints.
fn printed(program: &str, args: &[&str]) -> String {
    let raw = Command::new(program).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let raw = raw.unwrap_or_else(|e| panic!("{program}: {e}"));
    assert!(raw.status.success(), "{program}: {}", String::from_utf8_lossy(&raw.stderr));
    String::from_utf8(raw.stdout).unwrap()
}

/// Where cargo has unpacked the crate. Asked for this machine only: the crates that others would need
/// are not here.
fn unpacked() -> PathBuf {
    let version = printed("rustc", &["--version", "--verbose"]);
    let host = version.lines().find_map(|l| l.strip_prefix("host: ")).unwrap();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let args = ["metadata", "--offline", "--locked", "--format-version=1", "--filter-platform"];
    let text = printed(&cargo, &[&args[..], &[host]].concat());
    let metadata: Value = serde_json::from_str(&text).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|p| p["name"] == CRATE).expect("a dependency of ours");
    Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().to_owned()
}

/// The line of shell that tests the code base: in a sandbox, which has a HOME of its own, only the
/// compiler itself can be run, and not what chooses one.
pub fn check() -> String {
    let sysroot = printed("rustc", &["--print", "sysroot"]);
    let rustc = Path::new(sysroot.trim()).join("bin/rustc");
    assert!(rustc.exists(), "no compiler: {}", rustc.display());
    format!(
        "mkdir -p target && '{}' --edition 2015 --cap-lints allow --test src/lib.rs \
         -o target/tests && target/tests --quiet",
        rustc.display()
    )
}

/// Makes the repository with its two commits; the branch is `main`. What is published may not be
/// writable, and its links lead nowhere here: files are read and written anew.
pub fn make<'a>(sandbox: &'a Sandbox, dir: &Path, plan: &Plan) -> Repo<'a> {
    let repo = Repo::at(sandbox, dir);
    fs::create_dir_all(dir).unwrap();
    copy(&unpacked(), dir);
    repo.git(&["init", "--quiet", "--initial-branch", "main"]);
    repo.git(&["add", "."]);
    repo.git(&["commit", "--quiet", "--message", "The crate as published"]);
    add_places(dir, plan);
    repo.git(&["add", "."]);
    repo.git(&["commit", "--quiet", "--message", "Places for changes"]);
    repo
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        if [".cargo-ok", ".cargo_vcs_info.json", ".git", "target"].iter().any(|n| name == *n) {
            continue;
        }
        let (old, new) = (entry.path(), to.join(&name));
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&new).unwrap();
            copy(&old, &new);
        } else {
            fs::write(&new, fs::read(&old).unwrap()).unwrap();
        }
    }
}

/// A place at which a task inserts something behind the middle line.
fn place(indent: &str, name: &str) -> String {
    format!(
        "\n{indent}// Room for a change.\n{indent}//\n{indent}// place {name}\n{indent}//\n{indent}// End of the room.\n"
    )
}

/// Puts places behind lines that are just this, from `first` on.
fn spread(text: &str, first: &str, behind: &str, names: &[String], indent: &str) -> String {
    let mut names = names.iter();
    let (mut open, mut since, mut result) = (false, APART, String::new());
    for line in text.lines() {
        open |= line == first;
        since += 1;
        result += line;
        result.push('\n');
        if open
            && line == behind
            && since >= APART
            && let Some(name) = names.next()
        {
            result += &place(indent, name);
            since = 0;
        }
    }
    assert_eq!(names.count(), 0, "too few places in the crate");
    result
}

fn add_places(dir: &Path, plan: &Plan) {
    let lib = dir.join("src/lib.rs");
    let text = fs::read_to_string(&lib).unwrap();
    let tests = text.find("#[cfg(test)]\nmod tests {").expect("the crate's tests");
    let (code, tests) = text.split_at(tests);
    let of = |prefix: &str| -> Vec<String> {
        plan.in_library().iter().map(|id| format!("{prefix}{id}")).collect()
    };
    let code = spread(code, "use std::char;", "}", &of(""), "");
    let tests = spread(tests, "    #[test]", "    }", &of("test "), "    ");
    let code =
        code.replacen("use std::str::Chars;\n", "use std::str::Chars;\n\npub mod more;\n", 1);
    fs::write(&lib, code + &tests).unwrap();

    fs::create_dir(dir.join("src/more")).unwrap();
    let mut list = "//! What was added.\n\npub mod shared;\n".to_owned();
    plan.own_modules().iter().for_each(|id| list += &place("", id));
    fs::write(dir.join("src/more/mod.rs"), list).unwrap();

    let mut shared = "//! Lists, each of which two changes add to.\n".to_owned();
    for pair in 0..plan.pairs {
        write!(
            shared,
            "\n/// The words of pair {pair:02}.\npub const WORDS_{pair:02}: &[&str] = &[];\n"
        )
        .unwrap();
        shared += &place("", &format!("none {pair:02}"));
    }
    shared += "\n#[cfg(test)]\nmod tests {\n    use super::*;\n";
    for pair in 0..plan.pairs {
        for side in ["a", "b"] {
            shared += &place("    ", &format!("test P{pair:02}{side}"));
        }
    }
    shared += "}\n";
    fs::write(dir.join(SHARED), shared).unwrap();
}
