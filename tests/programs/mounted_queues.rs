//! What happens to a queue when file systems are mounted and unmounted: a bind mount and a second mount are
//! the same queue, an overlay is a copy of it, and none of it hurts anybody. Mounting is for root.

use std::fs;
use std::path::Path;

use crate::mount::Mount;
use crate::support::{Sandbox, alive, kill, skip, until};

const TMPFS: &[&str] = &["-t", "tmpfs", "-o", "size=8m", "none"];

#[test]
fn a_file_system_is_unmounted_when_the_programs_have_left() {
    let mut s = Sandbox::bare();
    let home = s.beside("home");
    let Some(mount) = Mount::new(&s, "unmount", TMPFS, &s.beside("own")) else { return };
    s.root = mount.0.join("project");
    fs::create_dir(&s.root).unwrap();
    s.coord(&["init"]).ok();
    let workers = "version = 1\n[workers]\ngrace = \"1s\"\nrescan = \"500ms\"\n";
    fs::write(s.root.join("coord.toml"), workers).unwrap();
    s.start(1);
    let at = mount.0.to_str().unwrap().to_owned();
    s.root = home.clone();
    let busy = s.run("umount", &[&at]);
    assert!(busy.code != 0 && busy.stderr.contains("busy"), "{}", busy.stderr);
    // By force: the path leads to an empty directory, and they notice.
    s.sh(&format!("umount -l '{at}'"));
    until("all have left", || s.processes().is_empty());
    assert!(is_empty(&mount.0), "something was made where it had been");
    // In order: they leave, and it is not busy.
    s.root = home;
    let Some(mount) = Mount::new(&s, "unmount", TMPFS, &s.beside("own")) else { return };
    s.root = mount.0.join("project");
    fs::create_dir(&s.root).unwrap();
    s.coord(&["init"]).ok();
    s.start(1);
    s.coord(&["stop", "--timeout", "20s"]).ok();
    until("all have left", || s.processes().is_empty());
    s.root = s.beside("../home");
    s.run("umount", &[&at]).ok();
}

#[test]
fn a_bind_mount_is_the_same_queue() {
    let mut s = Sandbox::new();
    s.start(1);
    let project = s.root.to_str().unwrap().to_owned();
    let Some(mount) = Mount::new(&s, "bind mount", &["--bind", &project], &s.beside("bound"))
    else {
        s.coord(&["stop"]).ok();
        return;
    };
    s.root = mount.0.clone();
    s.coord(&["start"]).fails(5, "a coordinator is already running");
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    s.coord(&["init", "--adopt"]).fails(5, "this very directory is worked in");
    s.coord(&["stop", "--timeout", "20s"]).ok();
    until("all have left", || s.processes().is_empty());
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_second_mount_of_a_file_system_is_the_same_queue_and_so_is_a_later_one() {
    let mut s = Sandbox::bare();
    let image = s.beside("image").to_str().unwrap().to_owned();
    let made =
        s.run("sh", &["-c", &format!("truncate -s 32M '{image}' && mkfs.ext4 -q '{image}'")]);
    if made.code != 0 {
        return skip("second mount", &format!("no mkfs.ext4: {}", made.stderr.trim()));
    }
    let Some(first) = Mount::new(&s, "second mount", &["-o", "loop", &image], &s.beside("first"))
    else {
        return;
    };
    let device = s.sh(&format!("findmnt -no SOURCE '{}'", first.0.display())).stdout;
    let project = |mount: &Mount| mount.0.join("project");
    let home = s.beside("home");
    s.root = project(&first);
    fs::create_dir(&s.root).unwrap();
    s.coord(&["init"]).ok();
    s.start(1);
    let second = Mount(home.with_file_name("second"));
    fs::create_dir(&second.0).unwrap();
    s.sh(&format!("mount '{}' '{}'", device.trim(), second.0.display()));
    s.root = project(&second);
    s.coord(&["start"]).fails(5, "a coordinator is already running");
    s.add(&["--id", "A"], "true");
    s.until_state("A", "done");
    s.coord(&["stop", "--timeout", "20s"]).ok();
    until("all have left", || s.processes().is_empty());
    // What a worker held that is dead by then is of this directory, whatever the device is called.
    s.add(&["--id", "T", "--retries", "0"], "sleep 1000");
    let mut worker = s.background(&["work"]);
    s.until_state("T", "running");
    kill(worker.id().cast_signed());
    worker.wait().unwrap();
    s.processes().into_iter().for_each(kill);
    s.root = home;
    for mount in [first, second] {
        let gone = || s.run("umount", &[mount.0.to_str().unwrap()]).code == 0 || is_empty(&mount.0);
        until("it is unmounted", gone);
    }
    let Some(again) = Mount::new(&s, "second mount", &["-o", "loop", &image], &s.beside("again"))
    else {
        return;
    };
    s.root = project(&again);
    s.work();
    assert_eq!(s.end("T", 1)["verdict"], "expired", "it was a death like any other");
    s.coord(&["fsck", "--strict"]).ok();
}

fn is_empty(dir: &Path) -> bool {
    fs::read_dir(dir).is_ok_and(|mut names| names.next().is_none())
}

#[test]
fn an_overlay_above_a_queue_is_a_copy_of_it() {
    // The layers in one file system, and the upper one in another: in the first case the directory has the
    // inode of its original.
    for own in [false, true] {
        let mut s = Sandbox::new();
        s.start(1);
        s.add(
            &["--id", "T"],
            "echo $$ >pid; until test -e go; do sleep 0.05; done; echo $COORD_ATTEMPT >>ran",
        );
        until("T runs", || s.text("pid").ends_with('\n'));
        let job: i32 = s.text("pid").trim().parse().unwrap();
        let is_program = |pid: &i32| {
            fs::read_to_string(format!("/proc/{pid}/comm"))
                .is_ok_and(|name| name.starts_with("coord"))
        };
        let programs: Vec<i32> = s.processes().into_iter().filter(is_program).collect();
        let _upper = match own {
            true => Mount::new(&s, "overlay", TMPFS, &s.beside("upper")),
            false => None,
        };
        s.sh("mkdir -p ../upper/data ../upper/work");
        let beside = |name: &str| s.beside(name).to_str().unwrap().to_owned();
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            beside("project"),
            beside("upper/data"),
            beside("upper/work")
        );
        let overlay = ["-t", "overlay", "-o", &layers, "overlay"];
        let original = s.root.clone();
        if let Some(merged) = Mount::new(&s, "overlay", &overlay, &s.beside("merged")) {
            s.root = merged.0.clone();
            s.coord(&["stop", "--timeout", "20s"]).ok().warns("nobody works here");
            s.coord(&["init", "--adopt"]).ok().warns("T.1");
            s.sh("touch go");
            s.work().ok();
            assert_eq!((s.state("T"), s.text("ran")), ("done".to_owned(), "2\n".to_owned()));
            assert!(alive(job) && programs.iter().all(|pid| alive(*pid)), "of the original");
        }
        s.root = original;
        s.sh("touch go");
        s.until_state("T", "done");
        assert_eq!(s.text("ran"), "1\n");
        s.coord(&["stop", "--timeout", "20s"]).ok();
        s.coord(&["fsck", "--strict"]).ok();
    }
}

#[test]
fn a_queue_in_an_overlay_goes_on_when_that_is_mounted_anew() {
    let mut s = Sandbox::bare();
    s.sh("mkdir -p ../lower/project ../upper/data ../upper/work");
    let beside = |name: &str| s.beside(name).to_str().unwrap().to_owned();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        beside("lower"),
        beside("upper/data"),
        beside("upper/work")
    );
    let overlay = ["-t", "overlay", "-o", &layers, "overlay"];
    let home = s.beside("home");
    for round in ["A", "B"] {
        s.root = home.clone();
        let Some(merged) = Mount::new(&s, "overlay", &overlay, &s.beside("merged")) else { return };
        s.root = merged.0.join("project");
        if round == "A" {
            s.coord(&["init"]).ok();
            s.configure("");
        }
        // A worker that is dead by then, with its boot or its container, had this.
        s.add(
            &["--id", round, "--retries", "0"],
            "touch began; until test -e go; do sleep 0.05; done",
        );
        if round == "A" {
            let mut worker = s.background(&["work"]);
            until("it runs", || s.root.join("began").exists());
            kill(worker.id().cast_signed());
            worker.wait().unwrap();
            s.sh("touch go");
            continue;
        }
        s.work();
        assert_eq!(s.state("B"), "done");
        assert!(["expired", "release"].contains(&s.end("A", 1)["verdict"].as_str().unwrap()));
    }
}
