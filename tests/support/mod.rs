//! A queue of its own for each test, with real programs, and nothing left when the test is over.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output as RawOutput, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// By this variable a process belongs to a sandbox: all programs and jobs inherit it.
const MARK: &str = "SANDBOX_OF_TEST";

/// A user who may do nothing special.
const NOBODY: u32 = 65534;

/// Generous: what passes does so much earlier. Only a test that hangs ever waits for it.
pub const PATIENCE: Duration = Duration::from_secs(40);

/// A directory with its own queue, HOME and programs.
pub struct Sandbox {
    dir: tempfile::TempDir,
    /// The project, which holds `.coord`.
    pub root: PathBuf,
    env: Vec<(String, String)>,
    /// Who runs the programs, if not the user of the tests.
    user: Option<u32>,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Output {
    /// What was run.
    pub what: String,
    /// Its data.
    pub stdout: String,
    /// Its remarks.
    pub stderr: String,
    /// Its exit code; 128 and the signal if it was killed.
    pub code: i32,
}

impl Output {
    fn of(what: String, raw: &RawOutput) -> Output {
        use std::os::unix::process::ExitStatusExt;
        let code = raw.status.code().unwrap_or_else(|| 128 + raw.status.signal().unwrap_or(0));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Output { what, stdout: text(&raw.stdout), stderr: text(&raw.stderr), code }
    }

    /// Everything, for a failure.
    fn all(&self) -> String {
        format!(
            "$ {}\n--- exit {}\n--- stdout\n{}\n--- stderr\n{}",
            self.what, self.code, self.stdout, self.stderr
        )
    }

    /// It must have ended with this code. A code other than 0 and 1 has its reason on stderr in the
    /// style of every error.
    #[track_caller]
    pub fn exits(&self, code: i32) -> &Output {
        assert_eq!(self.code, code, "wrong exit code\n{}", self.all());
        self
    }

    /// It must have succeeded.
    #[track_caller]
    pub fn ok(&self) -> &Output {
        self.exits(0)
    }

    /// Standard output must contain this.
    #[track_caller]
    pub fn says(&self, text: &str) -> &Output {
        assert!(self.stdout.contains(text), "stdout lacks {text:?}\n{}", self.all());
        self
    }

    /// Standard output must not contain this.
    #[track_caller]
    pub fn silent_about(&self, text: &str) -> &Output {
        assert!(!self.stdout.contains(text), "stdout has {text:?}\n{}", self.all());
        self
    }

    /// Standard error must contain this.
    #[track_caller]
    pub fn warns(&self, text: &str) -> &Output {
        assert!(self.stderr.contains(text), "stderr lacks {text:?}\n{}", self.all());
        self
    }

    /// It must have failed in the style of every error: nothing on stdout, `error: …` in lower case
    /// and without a full stop.
    #[track_caller]
    pub fn fails(&self, code: i32, text: &str) -> &Output {
        self.exits(code);
        assert!(self.stdout.is_empty(), "stdout is for data\n{}", self.all());
        let line = self.stderr.lines().find(|l| l.starts_with("error: "));
        let line = line.unwrap_or_else(|| panic!("no `error: …`\n{}", self.all()));
        assert!(!line.ends_with('.'), "a full stop\n{}", self.all());
        assert!(self.stderr.contains(text), "stderr lacks {text:?}\n{}", self.all());
        assert!(!self.stderr.contains("panicked"), "a panic\n{}", self.all());
        self
    }

    /// The one JSON document on stdout.
    #[track_caller]
    pub fn json(&self, schema: &str) -> Value {
        let value: Value = serde_json::from_str(&self.stdout)
            .unwrap_or_else(|e| panic!("not one JSON document: {e}\n{}", self.all()));
        assert_eq!(value["schema"], schema, "{}", self.all());
        value
    }

    /// Standard output without the last line end.
    pub fn line(&self) -> &str {
        self.stdout.trim_end()
    }
}

/// What a script starts with `&` ignores Ctrl-C, and so does what that starts, such as the programs that are
/// tested. A signal that has a handler is not ignored by them.
fn let_ctrl_c_through() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
        let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        for signal in [nix::libc::SIGINT, nix::libc::SIGQUIT] {
            if ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1) {
                coord::sys::child::note_signal(signal).unwrap();
            }
        }
    });
}

impl Sandbox {
    /// A queue outside git.
    pub fn new() -> Sandbox {
        let sandbox = Sandbox::bare();
        sandbox.coord(&["init"]).ok();
        sandbox.configure("");
        sandbox
    }

    /// A queue in a git repository with one commit.
    pub fn with_git() -> Sandbox {
        let sandbox = Sandbox::bare();
        sandbox.sh("git init -q -b main . && echo one > file && git add . && git commit -qm one");
        sandbox.coord(&["init"]).ok();
        sandbox.configure("");
        sandbox
    }

    /// A project without a queue.
    pub fn bare() -> Sandbox {
        let_ctrl_c_through();
        let dir = tempfile::Builder::new().prefix("coord-test-").tempdir().unwrap();
        let dir_path = fs::canonicalize(dir.path()).unwrap();
        let root = dir_path.join("project");
        let home = dir_path.join("home");
        fs::create_dir(&root).unwrap();
        fs::create_dir(&home).unwrap();
        let bin = Path::new(env!("CARGO_BIN_EXE_coord")).parent().unwrap().display().to_string();
        let text = |p: &Path| p.to_str().unwrap().to_owned();
        let env = [
            (MARK, text(&dir_path)),
            ("HOME", text(&home)),
            ("PATH", format!("{bin}:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")),
            ("LANG", "C.UTF-8".to_owned()),
            ("USER", "tester".to_owned()),
            ("GIT_CONFIG_NOSYSTEM", "1".to_owned()),
            // Whatever lies around the temporary directory, such as an empty `.git`, is not the test's.
            ("GIT_CEILING_DIRECTORIES", text(&dir_path)),
            ("GIT_AUTHOR_NAME", "Tester".to_owned()),
            ("GIT_AUTHOR_EMAIL", "tester@example.org".to_owned()),
            ("GIT_COMMITTER_NAME", "Tester".to_owned()),
            ("GIT_COMMITTER_EMAIL", "tester@example.org".to_owned()),
        ];
        let env = env.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        Sandbox { dir, root, env, user: None }
    }

    /// Short waits, as tests want them, and further tables.
    pub fn configure(&self, more: &str) {
        let text = format!(
            "version = 1\n[workers]\ngrace = \"1s\"\ncount = 2\n[retry]\nbackoff = \"100ms\"\n{more}"
        );
        fs::write(self.root.join("coord.toml"), text).unwrap();
    }

    /// A further variable for everything that is started from now on.
    pub fn set(&mut self, name: &str, value: &str) {
        self.env.push((name.to_owned(), value.to_owned()));
    }

    /// From now on everything runs as a plain user, to whom the sandbox belongs. False: the programs that
    /// are tested cannot be reached by one.
    pub fn as_plain_user(&mut self) -> bool {
        if !nix::unistd::geteuid().is_root() {
            return true;
        }
        self.sh(&format!("chown -R {NOBODY}:{NOBODY} '{}'", self.dir.path().display()));
        self.user = Some(NOBODY);
        let reached = self.command(env!("CARGO_BIN_EXE_coord")).arg("--version").output();
        reached.is_ok_and(|output| output.status.success())
    }

    /// A directory of the sandbox outside the project.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.root.with_file_name(name)
    }

    /// A path in the queue.
    pub fn queue(&self, relative: &str) -> PathBuf {
        self.root.join(".coord").join(relative)
    }

    /// A command in the project, with this sandbox's environment only.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(self.env.iter().cloned()).current_dir(&self.root);
        // Where the programs' coverage goes, when that is measured.
        command.envs(std::env::vars_os().filter(|(name, _)| name == "LLVM_PROFILE_FILE"));
        command.stdin(Stdio::null());
        if let Some(user) = self.user {
            use std::os::unix::process::CommandExt;
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs `coord`.
    pub fn coord(&self, args: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_coord"), args)
    }

    /// Runs a program to its end.
    pub fn run(&self, program: &str, args: &[&str]) -> Output {
        let raw = self.command(program).args(args).output().unwrap();
        let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
        Output::of(format!("{name} {}", args.join(" ")), &raw)
    }

    /// Runs a line of shell, which must succeed.
    #[track_caller]
    pub fn sh(&self, line: &str) -> Output {
        let output = self.run("sh", &["-c", line]);
        output.ok();
        output
    }

    /// Starts `coord` in the background.
    pub fn background(&self, args: &[&str]) -> Child {
        let mut command = self.command(env!("CARGO_BIN_EXE_coord"));
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Starts `coord` in the background, with its data in a file of the project.
    pub fn background_into(&self, file: &str, args: &[&str]) -> Child {
        let file = fs::File::create(self.root.join(file)).unwrap();
        let mut command = self.command(env!("CARGO_BIN_EXE_coord"));
        command.args(args).stdout(file).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits for a background program.
    pub fn collect(&self, mut child: Child) -> Output {
        // Killed in the end, and with it all that may hold its pipes: a hang is a failure.
        if !patiently(|| child.try_wait().unwrap().is_some()) {
            self.processes().into_iter().for_each(kill);
        }
        let raw = child.wait_with_output().unwrap();
        Output::of("(in the background)".to_owned(), &raw)
    }

    /// Starts a fleet of `n` workers.
    pub fn start(&self, n: u32) {
        self.coord(&["start", "-n", &n.to_string()]).ok();
    }

    /// Adds a task that runs a shell line; returns its id.
    pub fn add(&self, options: &[&str], line: &str) -> String {
        let mut args = vec!["add"];
        args.extend(options);
        args.extend(["--sh", line]);
        self.coord(&args).ok().line().to_owned()
    }

    /// Works the queue until nothing is left; returns what the worker said.
    pub fn work(&self) -> Output {
        self.coord(&["work", "--until-empty"])
    }

    /// The state of a task; empty as long as there is no such task.
    pub fn state(&self, id: &str) -> String {
        let shown = self.coord(&["show", id, "--json"]);
        if shown.code == 4 {
            return String::new();
        }
        shown.ok().json("coord.task/1")["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Waits until a task has a state.
    #[track_caller]
    pub fn until_state(&self, id: &str, state: &str) {
        let what = || {
            let why = self.coord(&["why", id]);
            format!("{id} should be {state}; it is\n{}", why.stdout)
        };
        assert!(patiently(|| self.state(id) == state), "{}", what());
    }

    /// A file's text; empty where it is not there.
    pub fn text(&self, path: impl AsRef<Path>) -> String {
        fs::read_to_string(self.root.join(path)).unwrap_or_default()
    }

    /// The lines of a file of the project.
    pub fn lines(&self, path: &str) -> Vec<String> {
        self.text(path).lines().map(str::to_owned).collect()
    }

    /// The register `n.end` of a task.
    #[track_caller]
    pub fn end(&self, id: &str, n: u32) -> Value {
        let path = self.queue(&format!("tasks/{id}/{n}.end"));
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        serde_json::from_str(&text).unwrap()
    }

    /// Names in a directory of the queue, sorted.
    pub fn names(&self, relative: &str) -> Vec<String> {
        let Ok(dir) = fs::read_dir(self.queue(relative)) else { return Vec::new() };
        let names: BTreeSet<String> =
            dir.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.into_iter().collect()
    }

    /// The live processes of this sandbox.
    pub fn processes(&self) -> Vec<i32> {
        let mark = format!("{MARK}={}", fs::canonicalize(self.dir.path()).unwrap().display());
        marked(mark.as_bytes())
    }
}

fn marked(mark: &[u8]) -> Vec<i32> {
    let Ok(dir) = fs::read_dir("/proc") else { return Vec::new() };
    dir.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| {
            let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environ.split(|b| *b == 0).any(|pair| pair == mark)
        })
        .filter(|&pid| alive(pid))
        .collect()
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // By kill, not by `coord stop`: a test that has just shown that something hangs must not
        // hang itself.
        let gone = patiently(|| {
            let left = self.processes();
            left.iter().for_each(|&pid| kill(pid));
            left.is_empty()
        });
        if !gone && !std::thread::panicking() {
            panic!("left behind: {:?}", self.processes());
        }
    }
}

/// Ends a process at once.
pub fn kill(pid: i32) {
    use nix::sys::signal::{Signal, kill};
    let _ = kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL);
}

/// Whether a process lives.
pub fn alive(pid: i32) -> bool {
    coord::sys::alive::proc_stat(pid).is_some_and(|s| !s.zombie)
}

/// Looks again and again until a condition holds; false if it never does.
pub fn patiently(condition: impl FnMut() -> bool) -> bool {
    patiently_for(PATIENCE, condition)
}

/// The same with a patience of its own.
pub fn patiently_for(patience: Duration, mut condition: impl FnMut() -> bool) -> bool {
    // Nobody ever sends: the receiver is a wait that ends by its time.
    let (_sender, never) = mpsc::channel::<()>();
    let deadline = Instant::now() + patience;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        let _ = never.recv_timeout(Duration::from_millis(15));
    }
}

/// Waits until a condition holds; fails with `what` if it never does.
#[track_caller]
pub fn until(what: &str, condition: impl FnMut() -> bool) {
    assert!(patiently(condition), "never came true: {what}");
}

static SKIPPED: AtomicUsize = AtomicUsize::new(0);

/// Says that a test could not be made on this machine, and why. With `COORD_TESTS_NO_SKIP` set, as
/// in CI, that is a failure.
#[track_caller]
pub fn skip(test: &str, why: &str) {
    let number = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
    // Past the capture of the test harness: a skipped test must be seen.
    use std::io::Write;
    let line = format!("skipped: {test}: {why} (number {number})\n");
    drop(std::io::stderr().lock().write_all(line.as_bytes()));
    drop(
        fs::OpenOptions::new()
            .write(true)
            .open("/dev/tty")
            .map(|mut t| t.write_all(line.as_bytes())),
    );
    assert!(std::env::var_os("COORD_TESTS_NO_SKIP").is_none(), "{line}");
}
