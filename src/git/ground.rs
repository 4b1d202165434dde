//! Repositories for the tests of this module, made with the real git.

use std::path::{Path, PathBuf};

use super::Git;

/// A directory with a repository `repo` in it, and an environment without anybody's configuration.
pub struct Ground {
    dir: tempfile::TempDir,
}

impl Ground {
    /// A repository with the branch `main` and no commit.
    pub fn new() -> Ground {
        Ground::with(&[])
    }

    /// The same with further options for `git init`.
    pub fn with(options: &[&str]) -> Ground {
        let ground = Ground { dir: tempfile::tempdir().unwrap() };
        let repo = ground.path("repo");
        let args = ["init", "--quiet", "-b", "main", repo.to_str().unwrap()];
        ground.at("").must("init", &[&args[..], options].concat()).unwrap();
        ground
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// git in a directory of it.
    pub fn at(&self, name: &str) -> Git<'static> {
        Git::new(&self.path(name), &crate::sys::tool::nothing)
            .env("HOME", self.dir.path())
            .env("XDG_CONFIG_HOME", self.dir.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", self.path("gitconfig"))
            .identity("Ann", "ann@example.org")
    }

    /// git in the repository.
    pub fn git(&self) -> Git<'static> {
        self.at("repo")
    }

    /// Runs a command there that succeeds; what it prints, without the last line end.
    pub fn run(&self, args: &[&str]) -> String {
        self.git().must(&format!("{args:?}"), args).unwrap().text().trim_end().to_owned()
    }

    /// Writes a file of the repository.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        write(&self.path("repo").join(name), content.as_ref());
    }

    /// Reads one.
    pub fn read(&self, name: &str) -> String {
        read(&self.path("repo").join(name))
    }

    /// Commits everything as it is; the commit.
    pub fn commit(&self, message: &str) -> String {
        self.run(&["add", "--all", "--force"]);
        self.run(&["commit", "--quiet", "--allow-empty", "--allow-empty-message", "-m", message]);
        self.run(&["rev-parse", "HEAD"])
    }

    /// Writes a file and commits it.
    pub fn put(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        self.write(name, content);
        self.commit(&format!("put {name}"))
    }

    /// Goes to a new branch, or to an old one, at a commit.
    pub fn branch(&self, name: &str, at: &str) {
        self.run(&["checkout", "--quiet", "-B", name, at]);
    }

    /// Installs a hook, a shell script.
    pub fn hook(&self, repo: &str, name: &str, script: &str) {
        use std::os::unix::fs::PermissionsExt;
        let git = self.at(repo);
        let path =
            git.ask(&["rev-parse", "--git-path", &format!("hooks/{name}")]).unwrap().unwrap();
        let path = git.dir().join(path);
        write(&path, format!("#!/bin/sh\n{script}\n").as_bytes());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// Writes a file, with its directory.
#[expect(clippy::disallowed_methods, reason = "a test makes files")]
pub fn write(path: &Path, content: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, content).unwrap();
}

/// Reads a file.
#[expect(clippy::disallowed_methods, reason = "a test reads files")]
pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned()
}

/// Removes a file.
#[expect(clippy::disallowed_methods, reason = "a test removes files")]
pub fn remove(path: &Path) {
    std::fs::remove_file(path).unwrap();
}

/// Gives a file a time long past.
#[expect(clippy::disallowed_methods, reason = "a test changes files")]
pub fn age(path: &Path) {
    let file = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1 << 30)).unwrap();
}
