//! One queue on which one command is disturbed, and what must hold of it afterwards.
//!
//! The check reads registers and the witness files that the jobs themselves write; it knows nothing
//! of how coord works.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::situation::Situation;
use crate::support::{alive, kill, patiently};
use crate::users::{User, Users};

/// By this variable a process belongs to a case: all programs and jobs inherit it.
const MARK: &str = "SYSCALLS_CASE";

/// A directory with a project, its queue and its jobs' witness files.
pub struct Case {
    /// The project, which holds `.coord`.
    pub root: PathBuf,
    /// Who does what in it, if not all is done by the user of the tests.
    pub users: Option<Users>,
}

/// How a program ended, and what it said.
#[derive(Debug, Default)]
pub struct Ended {
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// The signal that killed it.
    pub signal: Option<i32>,
    /// Its data.
    pub stdout: String,
    /// Its remarks.
    pub stderr: String,
}

/// The directory of the built programs.
pub fn programs() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_coord")).parent().unwrap().to_owned()
}

/// Makes the processes of a copied queue those of the copy: puts another word for one into each file that has
/// it, in place, since cards have many names.
fn rename_all(dir: &Path, word: &str, other: &str) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let meta = fs::symlink_metadata(&path).unwrap();
        if meta.is_dir() {
            rename_all(&path, word, other);
        } else if meta.is_file()
            && let Ok(text) = fs::read_to_string(&path)
            && text.contains(word)
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
            fs::write(&path, text.replace(word, other)).unwrap();
            fs::File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(meta.modified().unwrap())
                .unwrap();
            fs::set_permissions(&path, meta.permissions()).unwrap();
        }
    }
}

impl Case {
    /// An empty project in `dir`, which is made.
    pub fn new(dir: &Path) -> Case {
        let root = plain(dir).join("project");
        fs::create_dir_all(root.join("wit")).unwrap();
        Case { root: fs::canonicalize(root).unwrap(), users: None }
    }

    /// A copy of this one, with the hard links between its files.
    pub fn copy(&self, dir: &Path) -> Case {
        let dir = &plain(dir);
        fs::create_dir_all(dir).unwrap();
        let copied = Command::new("cp").arg("-a").arg(&self.root).arg(dir).status().unwrap();
        assert!(copied.success(), "cannot copy {} to {}", self.root.display(), dir.display());
        let root = fs::canonicalize(dir.join("project")).unwrap();
        let copy = Case { root, users: self.users };
        if copy.users.is_some() {
            copy.open();
        }
        if let (Some(of), Some(to)) = (self.inode(), copy.inode()) {
            rename_all(&copy.queue(""), &format!(".{of}\""), &format!(".{to}\""));
        }
        copy
    }

    /// The inode of the queue, which its processes have in their cards.
    fn inode(&self) -> Option<u64> {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(self.queue("")).ok().map(|meta| meta.ino())
    }

    /// The directory around the project.
    pub fn dir(&self) -> &Path {
        self.root.parent().unwrap()
    }

    /// A path in the queue.
    pub fn queue(&self, relative: &str) -> PathBuf {
        self.root.join(".coord").join(relative)
    }

    /// A command in the project, with its own environment only.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        self.command_of(self.users.map(|users| users.who), program)
    }

    fn command_of(&self, user: Option<User>, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = match user {
            Some(user) => user.command(program),
            None => Command::new(program),
        };
        let path = format!("{}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", programs().display());
        command.env_clear().current_dir(&self.root).stdin(Stdio::null());
        // Where the programs' coverage goes, when that is measured.
        command.envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"));
        command.env("PATH", path).env("HOME", self.dir()).env("LANG", "C.UTF-8");
        command.env("USER", "tester").env(MARK, self.dir());
        // A repository of another user is used.
        command.env("GIT_CONFIG_COUNT", "1").env("GIT_CONFIG_KEY_0", "safe.directory");
        command.env("GIT_CONFIG_VALUE_0", "*");
        command
    }

    /// One of the five programs. `coord` finds its queue, the others are told.
    pub fn program(&self, words: &[&str]) -> Command {
        self.program_of(self.users.map(|users| users.who), words)
    }

    /// The one that is disturbed.
    pub fn disturbed(&self, words: &[&str]) -> Command {
        self.program_of(self.users.map(|users| users.disturbed), words)
    }

    /// That of a user.
    pub fn program_of(&self, user: Option<User>, words: &[&str]) -> Command {
        let words = user.map_or_else(|| words.to_vec(), |user| user.words(words));
        let place = if words[0] == "coord-coordinator" { self.alone() } else { programs() };
        let mut command = self.command_of(user, place.join(words[0]));
        if words[0] != "coord" {
            command.arg("--dir").arg(self.queue(""));
        }
        command.args(&words[1..]);
        command
    }

    /// A place where the coordinator finds no program that it could start: so it works by itself, and all
    /// that it does is done in its own process.
    fn alone(&self) -> PathBuf {
        let place = self.dir().join("alone");
        fs::create_dir_all(&place).unwrap();
        // By a process of its own: a child that another thread starts in this moment would hold the file
        // open for writing, and it could not be executed.
        let from = programs().join("coord-coordinator");
        assert!(Command::new("cp").arg(&from).arg(&place).status().unwrap().success());
        place
    }

    /// Runs `coord` to its end, undisturbed.
    pub fn coord(&self, args: &[&str]) -> Ended {
        self.run(self.program(&[&["coord"], args].concat()))
    }

    /// Runs `coord`, which must succeed.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) {
        let ended = self.coord(args);
        assert_eq!(ended.code, Some(0), "coord {args:?}: {ended:?}");
    }

    /// Runs `coord`, which must die at a step.
    #[track_caller]
    pub fn dies(&self, step: &str, args: &[&str]) {
        let mut command = self.program(&[&["coord"], args].concat());
        command.env("COORD_STEP", format!("{step}:crash"));
        let ended = self.run(command);
        assert_eq!(ended.signal, Some(9), "coord {args:?} did not die at {step}: {ended:?}");
    }

    /// Adds a task whose job leaves its witness and does this in between.
    pub fn add(&self, id: &str, options: &[&str], body: &str) {
        let job = job(body);
        let mut args = vec!["add", "--id", id];
        args.extend(options);
        args.extend(["--sh", &job]);
        self.ok(&args);
    }

    /// Runs a line of shell, which must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) {
        // What a person makes by hand in a queue of several users all must be able to use.
        let user = self.users.map(|users| User { umask: "002", ..users.who });
        let mut command = self.command_of(user, "sh");
        let output = command.args(["-c", line]).output().unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
    }

    /// Starts a program, with what it says in files of the case.
    pub fn start(&self, mut command: Command) -> Child {
        let file = |name: &str| fs::File::create(self.dir().join(name)).unwrap();
        command.stdout(file("stdout")).stderr(file("stderr")).spawn().unwrap()
    }

    /// Waits for a program that `start` has started. Files and no pipes: a job that survives its
    /// worker would keep a pipe open.
    #[track_caller]
    pub fn finish(&self, child: Child) -> Ended {
        let status = self.ends(child);
        Ended {
            code: status.code(),
            signal: status.signal(),
            stdout: self.said("stdout"),
            stderr: self.said("stderr"),
        }
    }

    /// Waits for the end of a program.
    #[track_caller]
    fn ends(&self, mut child: Child) -> std::process::ExitStatus {
        let mut ended = None;
        if !patiently(|| {
            ended = child.try_wait().unwrap();
            ended.is_some()
        }) {
            let said = self.said("stderr");
            self.processes().into_iter().for_each(kill);
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it hangs; it said: {said}");
        }
        ended.unwrap()
    }

    /// Runs a program to its end.
    #[track_caller]
    pub fn run(&self, command: Command) -> Ended {
        self.finish(self.start(command))
    }

    fn said(&self, file: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join(file)).unwrap_or_default()).into_owned()
    }

    /// The live processes of this case.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", self.dir().display());
        let Ok(dir) = fs::read_dir("/proc") else { return Vec::new() };
        dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| {
                let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                environ.split(|b| *b == 0).any(|pair| pair == mark.as_bytes())
            })
            .filter(|&pid| alive(pid))
            .collect()
    }

    /// What the registers of a task say: `absent`, `corrupt`, `pending`, `running`, `held`, `done`,
    /// `failed` or `cancelled`.
    pub fn state(&self, id: &str) -> String {
        let dir = self.queue(&format!("tasks/{id}"));
        if !dir.join("spec.json").exists() {
            return "absent".to_owned();
        }
        let names = names(&dir);
        let of = |kind: &str| names.iter().filter_map(|n| number(n, kind)).max().unwrap_or(0);
        let n = of(".claim");
        if n == 0 {
            return "pending".to_owned();
        }
        if of(".end") < n {
            let kind = read(&dir.join(format!("{n}.claim")))["kind"].clone();
            return if kind == "hold" { "held" } else { "running" }.to_owned();
        }
        let end = read(&dir.join(format!("{n}.end")));
        let reopened = of(".reopen") >= n;
        match end["verdict"].as_str().unwrap_or_default() {
            "done" => "done",
            _ if reopened || end["retry"] == true => "pending",
            "cancel" => "cancelled",
            _ => "failed",
        }
        .to_owned()
    }

    /// The verdict of an attempt.
    pub fn verdict(&self, id: &str, n: u32) -> String {
        let end = read(&self.queue(&format!("tasks/{id}/{n}.end")));
        end["verdict"].as_str().unwrap_or_default().to_owned()
    }

    /// One plain worker finishes, and nothing is wrong.
    #[track_caller]
    pub fn heal(&self) {
        let waits = self.waits_for_others();
        let worked = self.coord(&["work", "--until-empty"]);
        assert!(matches!(worked.code, Some(0 | 1)), "the worker that cleans up failed: {worked:?}");
        if let Some(waits) = waits {
            self.ends(waits);
        }
        let checked = self.coord(&["fsck", "--strict"]);
        assert_eq!(
            checked.code,
            Some(0),
            "fsck: {}{}\n{}",
            checked.stdout,
            checked.stderr,
            worked.stderr
        );
        let left = self.processes();
        assert!(left.is_empty(), "processes are left: {left:?}");
    }

    /// What must hold of every queue at rest, whatever was done to it.
    #[track_caller]
    pub fn verify(&self, situation: &Situation, acknowledged: bool) {
        for task in situation.tasks {
            let state = self.state(task.id);
            let allowed = if acknowledged { &[task.acknowledged][..] } else { task.otherwise };
            let fits = state == task.acknowledged || allowed.contains(&state.as_str());
            let word = if acknowledged { "acknowledged" } else { "not acknowledged" };
            assert!(
                fits,
                "{} is {state}, and the command was {word}; {:?}",
                task.id,
                names(&self.queue(&format!("tasks/{}", task.id)))
            );
        }
        for id in names(&self.queue("tasks")) {
            self.verify_task(&id);
        }
        if let Some(more) = situation.verify {
            more(self, acknowledged);
        }
    }

    fn verify_task(&self, id: &str) {
        let registers = names(&self.queue(&format!("tasks/{id}")));
        let done: Vec<u32> = registers
            .iter()
            .filter_map(|n| number(n, ".end"))
            .filter(|&n| self.verdict(id, n) == "done")
            .collect();
        let spec = read(&self.queue(&format!("tasks/{id}/spec.json")));
        if spec["array"].is_object() {
            for job in names(&self.root.join("wit")) {
                let number: u64 = job.strip_prefix("job-").unwrap().parse().unwrap();
                let of = self.jobs_done(id).into_iter().filter(|(done, _)| *done == number);
                let done: Vec<u32> = of.map(|(_, n)| n).collect();
                self.verify_witness(&job, &done, false);
            }
            return;
        }
        self.verify_witness(id, &done, spec["manual"] == true);
    }

    /// The tries of an array's jobs that were accepted, in order.
    pub fn jobs_done(&self, id: &str) -> Vec<(u64, u32)> {
        let jobs = self.queue(&format!("tasks/{id}/jobs"));
        let mut done = Vec::new();
        for chunk in names(&jobs) {
            for name in names(&jobs.join(&chunk)) {
                let Some(of) = name.strip_suffix(".end") else { continue };
                let (job, n) = of.split_once('.').unwrap();
                if read(&jobs.join(&chunk).join(&name))["verdict"] == "done" {
                    done.push((job.parse().unwrap(), n.parse().unwrap()));
                }
            }
        }
        done.sort_unstable();
        done
    }

    /// A job's own notes fit to the attempts at it that were accepted.
    fn verify_witness(&self, id: &str, done: &[u32], by_hand: bool) {
        assert!(done.len() <= 1, "{id} was accepted more than once: {done:?}");
        let witness = fs::read_to_string(self.root.join("wit").join(id)).unwrap_or_default();
        let mut seen: BTreeMap<u32, usize> = BTreeMap::new();
        let mut current = 0;
        for line in witness.lines() {
            let (what, n) = line.split_once(' ').unwrap();
            let n: u32 = n.parse().unwrap();
            assert!(n >= current, "{id}: attempt {n} acted after {current} had begun:\n{witness}");
            assert_eq!(n > current, what == "start", "{id}: attempt {n} ran twice:\n{witness}");
            current = n;
            *seen.entry(n).or_default() += 1;
        }
        for n in done {
            assert!(
                by_hand || seen.get(n) == Some(&2),
                "{id}: attempt {n} was accepted and did not end:\n{witness}"
            );
            assert!(current <= *n, "{id} went on after it was done:\n{witness}");
        }
    }

    /// Removes the case's files. Not on a failure: then they are looked at.
    pub fn remove(self) {
        fs::remove_dir_all(self.dir()).unwrap();
    }
}

/// Names of situations have spaces, and shell lines here do not quote.
fn plain(dir: &Path) -> PathBuf {
    PathBuf::from(dir.to_str().unwrap().replace(' ', "-"))
}

/// A job that says when it starts and when it ends.
pub fn job(body: &str) -> String {
    let say = |word: &str| format!("echo {word} $COORD_ATTEMPT >>wit/$COORD_TASK_ID");
    let body = if body.is_empty() { ":" } else { body };
    // Several users may write down what they do.
    format!("umask 0; {}; {body} && {}", say("start"), say("end"))
}

/// The names in a directory, sorted.
pub fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut names: Vec<String> =
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn number(name: &str, kind: &str) -> Option<u32> {
    name.strip_suffix(kind)?.parse().ok()
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default()
}
