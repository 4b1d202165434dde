//! Processes that hide, that cannot be ended, and machines without pidfds: what a dead worker has left
//! running ends before its task goes on, or is waited for and named.

use std::process::Child;
use std::time::Duration;

use crate::support::{Sandbox, alive, kill, patiently_for, skip, until};

/// `sh` of its own that runs a loop which writes down the attempt; `$1` is the number.
const TICKS: &str = "while sleep 0.05; do echo tick $1 >>$2; done";

/// A job whose first attempt leaves one that `how` hides, and stays; the second is done at once.
fn job(s: &Sandbox, how: &str) -> String {
    let witness = s.beside("wit");
    let line = format!(
        "echo start $COORD_ATTEMPT >>{w}; [ $COORD_ATTEMPT = 1 ] || exit 0; {how} sh -c '{TICKS}' x 1 {w} & \
         sleep 1000",
        w = witness.display()
    );
    s.add(&[], &line)
}

fn witness(s: &Sandbox) -> String {
    s.text(s.beside("wit"))
}

/// Kills the one worker; another one goes on. What the first attempt wrote after the second had begun.
fn killed_while_it_runs(s: &Sandbox, id: &str) -> String {
    let worker = s.background(&["work"]);
    until("it hides, and writes", || witness(s).contains("tick 1"));
    kill(i32::try_from(worker.id()).unwrap());
    s.collect(worker).exits(128 + 9);
    s.coord(&["work", "--max-tasks", "1"]).ok();
    assert_eq!(s.state(id), "done");
    // Whatever was still about to write has the time of many lines.
    patiently_for(Duration::from_millis(400), || false);
    let lines = witness(s);
    lines[lines.find("start 2").unwrap()..].lines().skip(1).collect::<Vec<_>>().join("\n")
}

#[test]
fn a_job_without_its_environment_is_ended_before_the_next_attempt() {
    let mut s = Sandbox::new();
    s.set("COORD_NO_CGROUP", "1");
    let id = job(&s, "env -i");
    assert_eq!(killed_while_it_runs(&s, &id), "");
}

#[test]
fn a_job_in_a_session_of_a_session_is_ended_by_its_mark() {
    let mut s = Sandbox::new();
    s.set("COORD_NO_CGROUP", "1");
    let id = job(&s, "setsid setsid -f");
    assert_eq!(killed_while_it_runs(&s, &id), "");
}

/// Whether this machine lets a worker have a control group of its own.
fn has_groups() -> bool {
    !coord::sys::cgroup::planned("probe").is_empty()
}

#[test]
fn a_job_that_has_left_its_session_and_its_environment_is_in_the_control_group() {
    if !has_groups() {
        return skip("unseen::control_group", "no cgroup v2 that may be written");
    }
    let s = Sandbox::new();
    let id = job(&s, "env -i setsid setsid -f");
    assert_eq!(killed_while_it_runs(&s, &id), "");
}

#[test]
fn what_leads_no_session_any_more_is_known_by_the_name_of_its_session() {
    let mut s = Sandbox::new();
    s.set("COORD_NO_CGROUP", "1");
    let id = job(&s, "env -i");
    let worker = s.background(&["work"]);
    until("it writes", || witness(&s).contains("tick 1"));
    let noted = |s: &Sandbox| {
        let wid = s.names("procs").into_iter().find(|name| name.starts_with("solo-")).unwrap();
        s.text(s.queue(&format!("procs/{wid}/run/_leader.{id}.1")))
    };
    let leader: serde_json::Value = serde_json::from_str(&noted(&s)).unwrap();
    if leader["session"] == "" {
        kill(i32::try_from(worker.id()).unwrap());
        s.collect(worker);
        return skip("unseen::session_name", "the kernel has no autogroups");
    }
    // Both at once: the one that is left has another parent, and a session without a leader.
    let pid = i32::try_from(leader["pid"].as_i64().unwrap()).unwrap();
    kill(i32::try_from(worker.id()).unwrap());
    kill(pid);
    s.collect(worker).exits(128 + 9);
    until("its leader is gone", || !alive(pid));
    s.coord(&["work", "--max-tasks", "1"]).ok();
    patiently_for(Duration::from_millis(400), || false);
    let lines = witness(&s);
    assert!(!lines[lines.find("start 2").unwrap()..].contains("tick"), "{lines}");
}

/// A shell that a plain user may run and not read: no process of it is dumpable.
fn blind_shell(s: &mut Sandbox, test: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "only root can give a plain user a program that it may not read");
        return None;
    }
    let shell = s.beside("blind");
    std::fs::copy("/bin/sh", &shell).unwrap();
    if !s.as_plain_user() {
        skip(test, "a plain user cannot reach the programs");
        return None;
    }
    let path = shell.display().to_string();
    let owned = std::process::Command::new("sh")
        .args(["-c", &format!("chown 0:0 '{path}' && chmod 0711 '{path}'")])
        .status();
    assert!(owned.unwrap().success());
    Some(path)
}

#[test]
fn a_process_that_is_not_dumpable_is_no_dead_one() {
    let mut s = Sandbox::new();
    s.set("COORD_NO_CGROUP", "1");
    let Some(shell) = blind_shell(&mut s, "unseen::not_dumpable") else { return };
    // Somebody else's, as far as anybody can read: nothing but its environment could tie it.
    let mut bystander = s.command(&shell).args(["-c", "sleep 1000"]).spawn().unwrap();
    let witness_path = s.beside("wit");
    let line = format!(
        "echo start $COORD_ATTEMPT >>{w}; [ $COORD_ATTEMPT = 1 ] || exit 0; exec {shell} -c '{TICKS}' x 1 {w}",
        w = witness_path.display()
    );
    let id = s.add(&[], &line);
    assert_eq!(killed_while_it_runs(&s, &id), "");
    assert!(bystander.try_wait().unwrap().is_none(), "an unreadable environment ties nobody");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
}

/// A program by which a job of a plain user leaves a process of root: `HELPER ARGS… COMMAND`.
fn as_root(s: &mut Sandbox, test: &str) -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        skip(test, "only root can make a program that runs as root");
        return None;
    }
    let helper = s.beside("as-root");
    let found =
        ["/usr/bin/setpriv", "/bin/setpriv"].into_iter().find(|p| std::path::Path::new(p).exists());
    let Some(found) = found else {
        skip(test, "no setpriv");
        return None;
    };
    std::fs::copy(found, &helper).unwrap();
    if !s.as_plain_user() {
        skip(test, "a plain user cannot reach the programs");
        return None;
    }
    let path = helper.display().to_string();
    let made = std::process::Command::new("sh")
        .args(["-c", &format!("chown 0:0 '{path}' && chmod 4755 '{path}'")])
        .status();
    assert!(made.unwrap().success());
    let command = format!("{path} --reuid 0 --regid 0 --clear-groups");
    let probe = s.command("sh").args(["-c", &format!("{command} id -ru")]).output().unwrap();
    if probe.stdout != b"0\n" {
        skip(test, "set-user-id programs are not obeyed here");
        return None;
    }
    Some(command)
}

fn pid_in(s: &Sandbox, file: &str) -> Option<i32> {
    s.text(s.beside(file)).trim().parse().ok()
}

#[test]
fn what_is_another_users_holds_the_task_and_is_named_until_it_is_gone() {
    let mut s = Sandbox::new();
    s.configure("[lease]\nexpire = \"60s\"\n");
    let Some(as_root) = as_root(&mut s, "unseen::another_users") else { return };
    let file = s.beside("root-pid").display().to_string();
    let line = format!(
        "[ $COORD_ATTEMPT = 1 ] || exit 0; {as_root} sh -c 'echo $$ >{file}; exec sleep 1000' & sleep 1000"
    );
    let id = s.add(&[], &line);
    let worker = s.background(&["work"]);
    until("root's process runs", || pid_in(&s, "root-pid").is_some_and(alive));
    let pid = pid_in(&s, "root-pid").unwrap();
    kill(i32::try_from(worker.id()).unwrap());
    s.collect(worker).exits(128 + 9);
    let other = s.background(&["work"]);
    let named = format!("{pid} (sleep, of root)");
    until("it is named", || s.coord(&["status"]).stdout.contains(&named));
    let said = s.coord(&["status"]).stdout;
    assert!(said.contains(&format!("kill -9 {pid}")), "{said}");
    assert!(alive(pid) && s.state(&id) == "running", "its task went on beside it");
    assert!(!s.queue(&format!("tasks/{id}/1.end")).exists());
    kill(pid);
    s.until_state(&id, "done");
    assert_eq!(s.end(&id, 1)["verdict"], "expired");
    until("it is not named any more", || !s.coord(&["status"]).stdout.contains(&named));
    kill(i32::try_from(other.id()).unwrap());
    s.collect(other);
}

#[test]
fn what_a_living_worker_cannot_end_holds_the_next_attempt_and_not_a_result() {
    let mut s = Sandbox::new();
    let Some(as_root) = as_root(&mut s, "unseen::at_home") else { return };
    let file = s.beside("root-pid").display().to_string();
    let leave = format!(
        "{as_root} sh -c 'echo $$ >{file}; exec sleep 1000' & while ! [ -s {file} ]; do sleep 0.02; done"
    );
    // Done is done, whatever goes on behind it.
    let done = s.add(&[], &leave);
    s.coord(&["work", "--max-tasks", "1"]).ok();
    assert_eq!(s.state(&done), "done");
    kill(pid_in(&s, "root-pid").unwrap());
    std::fs::remove_file(s.beside("root-pid")).unwrap();
    let id = s
        .add(&["--backoff", "10ms"], &format!("[ $COORD_ATTEMPT = 1 ] || exit 0; {leave}; exit 1"));
    let worker = s.background(&["work", "--until-empty"]);
    until("root's process runs", || pid_in(&s, "root-pid").is_some_and(alive));
    let pid = pid_in(&s, "root-pid").unwrap();
    let named = format!("{pid} (sleep, of root)");
    until("it is named", || s.coord(&["status"]).stdout.contains(&named));
    assert!(!s.queue(&format!("tasks/{id}/1.end")).exists(), "the next attempt may begin");
    kill(pid);
    s.collect(worker).ok();
    assert_eq!(s.state(&id), "done");
    assert_eq!(s.end(&id, 1)["verdict"], "fail");
    assert!(!s.coord(&["status"]).stdout.contains(&named));
}

/// Runs a command of `s` under a filter that answers these system calls with an error. `None`: not here.
fn filtered(s: &Sandbox, test: &str, calls: &[u32], errno: i32, args: &[&str]) -> Option<Child> {
    let prctl = match std::env::consts::ARCH {
        "x86_64" => 157,
        "aarch64" => 167,
        _ => {
            skip(test, "the number of prctl is not known for this machine");
            return None;
        }
    };
    // Load the number of the call; an error for each of these; else allow.
    let mut filter = vec!["pack('SCCL', 0x20, 0, 0, 0)".to_owned()];
    for call in calls {
        filter.push(format!("pack('SCCL', 0x15, 0, 1, {call})"));
        filter.push(format!("pack('SCCL', 0x06, 0, 0, {})", 0x0005_0000 | errno));
    }
    filter.push("pack('SCCL', 0x06, 0, 0, 0x7fff0000)".to_owned());
    let count = filter.len();
    let program = format!(
        "my $f = join '', {}; my $p = pack('Sx6Q', {count}, unpack('Q', pack('P', $f)));\
         syscall({prctl}, 38, 1, 0, 0, 0) == 0 && syscall({prctl}, 22, 2, unpack('Q', pack('P', $p)), 0, 0) == 0 \
         or exit 99; exec @ARGV; exit 98",
        filter.join(", ")
    );
    let probe = s.command("perl").args(["-e", &program, "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        skip(test, "no perl, or no seccomp");
        return None;
    }
    let mut command = s.command("perl");
    command.args(["-e", &program]).args(args);
    Some(command.stdout(std::process::Stdio::null()).spawn().unwrap())
}

const PIDFD_SEND_SIGNAL: u32 = 424;
const PIDFD_OPEN: u32 = 434;

/// User and system time of a process, in ticks.
fn ticks(pid: i32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
}

fn without(test: &str, calls: &[u32], errno: i32) {
    let mut s = Sandbox::new();
    s.set("COORD_NO_CGROUP", "1");
    let id = job(&s, "setsid");
    let Some(start) = filtered(&s, test, calls, errno, &["coord", "start", "-n", "1"]) else {
        return;
    };
    s.collect(start).ok();
    until("its job writes", || witness(&s).contains("tick 1"));
    let pid_of = |kind: &str| {
        let all = s.coord(&["workers", "--json"]).json("coord.workers/1");
        let lists = [all["workers"].clone(), all["programs"].clone()];
        let members: Vec<_> =
            lists.iter().filter_map(|l| l.as_array()).flatten().cloned().collect();
        let pid =
            members.iter().find(|m| m["kind"] == kind && m["state"] != "dead").unwrap()["pid"]
                .clone();
        i32::try_from(pid.as_i64().unwrap()).unwrap()
    };
    kill(pid_of("worker"));
    s.until_state(&id, "done");
    let lines = witness(&s);
    assert!(!lines[lines.find("start 2").unwrap()..].contains("tick"), "{lines}");
    let monitor = pid_of("monitor");
    let before = ticks(monitor);
    patiently_for(Duration::from_secs(3), || false);
    let spent = ticks(monitor) - before;
    assert!(spent < 60, "the monitor spent {spent} ticks on nothing");
    s.coord(&["stop", "--timeout", "30s"]).ok();
}

#[test]
fn without_pidfds_what_is_left_is_ended_and_nobody_spins() {
    without("unseen::pidfd_enosys", &[PIDFD_OPEN], 38);
    without("unseen::pidfd_eperm", &[PIDFD_OPEN], 1);
    without("unseen::pidfd_signal", &[PIDFD_SEND_SIGNAL], 38);
    without("unseen::pidfd_signal_eperm", &[PIDFD_SEND_SIGNAL], 1);
}

/// A worker in a pid namespace of its own, idle, and its pid here.
fn far(s: &Sandbox, test: &str) -> Option<(Child, i32)> {
    let probe = s.command("unshare").args(["--pid", "--fork", "--mount-proc", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        skip(test, "no pid namespace can be made");
        return None;
    }
    let mut command = s.command("unshare");
    command.args([
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "coord-worker",
        "--name",
        "far",
        "--dir",
    ]);
    let log = std::fs::File::create(s.beside("far.log")).unwrap();
    command.arg(s.queue("")).stdout(std::process::Stdio::null()).stderr(log);
    let child = command.spawn().unwrap();
    let list = format!("/proc/{0}/task/{0}/children", child.id());
    let inner = || std::fs::read_to_string(&list).unwrap_or_default().trim().parse::<i32>().ok();
    until("it has registered", || s.names("procs").iter().any(|name| name.starts_with("far-")));
    let pid = inner().unwrap();
    Some((child, pid))
}

fn is_registered(s: &Sandbox) -> Option<String> {
    s.names("procs").into_iter().find(|name| name.starts_with("far-"))
}

#[test]
fn who_died_idle_elsewhere_does_not_answer_and_is_taken_out() {
    let s = Sandbox::new();
    s.configure("[lease]\nexpire = \"2s\"\nheartbeat = \"500ms\"\n");
    let Some((child, pid)) = far(&s, "unseen::died_elsewhere") else { return };
    kill(pid);
    s.collect(child);
    // Sooner than its lease nothing is decided, and it is named.
    s.coord(&["stop", "--timeout", "300ms"]).fails(124, "which has not answered yet");
    s.coord(&["stop", "--timeout", "30s"]).ok().warns("does not answer: taken out of the queue");
    assert_eq!(is_registered(&s), None);
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn who_lives_elsewhere_answers_and_who_was_taken_out_comes_back() {
    let s = Sandbox::new();
    s.configure("[lease]\nexpire = \"2s\"\nheartbeat = \"500ms\"\n");
    let Some((child, pid)) = far(&s, "unseen::lives_elsewhere") else { return };
    let wid = is_registered(&s).unwrap();
    let beat =
        || std::fs::metadata(s.queue(&format!("procs/{wid}/hb"))).unwrap().modified().unwrap();
    let first = beat();
    s.coord(&["gc"]).ok();
    until("it answers", || beat() > first);
    // It stands still, and does not.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGSTOP).unwrap();
    until("it is taken out", || {
        s.coord(&["gc"]).stdout.contains("processes elsewhere that do not answer")
    });
    assert_eq!(is_registered(&s), None);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGCONT).unwrap();
    until("it is back", || is_registered(&s).is_some_and(|new| new != wid));
    let id = s.add(&[], "true");
    s.until_state(&id, "done");
    s.coord(&["stop", "--timeout", "30s"]).ok();
    s.collect(child);
}

#[test]
fn a_command_begins_as_if_it_had_been_started_at_once() {
    let s = Sandbox::new();
    let line = "grep -E '^Sig(Ign|Blk|Cgt):' /proc/self/status; ls /proc/self/fd | wc -l; \
        readlink /proc/self/fd/0; env | grep -Ev '^(COORD|PARALLEL|GIT)_' | sort; umask; ulimit -n";
    let id = s.add(&[], &format!("{line}; ps -o sid= -p $$ | grep -qx \" *$$\" && touch leads"));
    s.coord(&["work", "--until-empty"]).ok();
    assert_eq!(s.state(&id), "done");
    assert!(s.root.join("leads").exists(), "it leads no session");
    // A job of a list is started by posix_spawn alone.
    let at_once = s.coord(&["run", "-n", "1", "--sh", &format!("{line}; : {{}}"), ":::", "1"]);
    assert_eq!(s.text(s.queue(&format!("tasks/{id}/1.out/log"))), at_once.ok().stdout);
    // What the kernel refuses is said as before: a file that is no program.
    std::fs::write(s.root.join("text"), "true\n").unwrap();
    s.sh("chmod +x text");
    let id = s.coord(&["add", "--retries", "0", "--", "./text"]).ok().line().to_owned();
    s.coord(&["work", "--until-empty"]).exits(1);
    let why = s.end(&id, 1)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("cannot start `./text`") && why.contains("Exec format"), "{why}");
    assert!(s.names("procs").iter().all(|name| name == "bell"), "{:?}", s.names("procs"));
}
