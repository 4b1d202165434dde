//! A queue on a disk that is full: what makes room, and what ends work, needs none of its own.

use crate::mount::Mount;
use crate::support::{Sandbox, until};

/// A queue on a disk of its own, with this option of tmpfs, and two tasks that are done.
fn small(test: &str, option: &str) -> Option<(Sandbox, Mount)> {
    let s = Sandbox::bare();
    let options = ["-t", "tmpfs", "-o", option, "none"];
    let mount = Mount::new(&s, test, &options, &s.queue(""))?;
    s.coord(&["init"]).ok();
    s.configure("");
    assert_eq!(s.names("reserve").len(), 16);
    for id in ["A", "B"] {
        s.add(&["--id", id], "true");
    }
    s.work().ok();
    Some((s, mount))
}

/// Leaves no byte free.
fn fill(s: &Sandbox) {
    s.run("dd", &["if=/dev/zero", "of=.coord/filler", "bs=4k"]).exits(1);
    s.run("dd", &["if=/dev/zero", "of=.coord/filler.2", "bs=1"]).exits(1);
}

/// Leaves no inode free.
fn take_inodes(s: &Sandbox) {
    s.sh("n=0; while touch .coord/filler.$n; do n=$((n+1)); done 2>&-; true");
}

const GIVEN_UP: &str = "the disk of the queue is full: its reserve is given up for this";
const FULL: &str = "No space left on device";

#[test]
fn what_makes_room_spends_the_reserve_and_the_next_to_look_fills_it_again() {
    let Some((s, _mount)) = small("reserve", "size=2m") else { return };
    fill(&s);
    // What only takes room does not get it, and what only looks does not need it.
    s.coord(&["add", "--id", "C", "--", "true"]).fails(7, FULL).warns("coord gc --delete");
    s.coord(&["status"]).ok().says("disk").says("nothing new is begun: 0 KiB are free");
    assert_eq!(s.names("reserve").len(), 16);
    s.coord(&["gc", "--delete", "A", "B"]).ok().warns(GIVEN_UP).says("deleted");
    assert_eq!(s.names("tasks"), [""; 0]);
    assert_eq!(s.names("reserve"), [""; 0], "there is no room for it yet");
    s.sh("rm .coord/filler .coord/filler.2");
    s.coord(&["gc"]).ok();
    assert_eq!(s.names("reserve").len(), 16);
    s.coord(&["fsck", "--strict"]).ok();
    s.add(&["--id", "C"], "true");
    s.work().ok();
}

#[test]
fn a_monitor_fills_the_reserve_that_was_given_up() {
    let Some((s, _mount)) = small("reserve of a monitor", "size=2m") else { return };
    s.sh("rm .coord/reserve/*");
    s.start(1);
    until("the reserve is there", || s.names("reserve").len() == 16);
    s.coord(&["stop", "--timeout", "30s"]).ok();
    // Who removes its directory wants none.
    s.sh("rm -r .coord/reserve");
    s.start(1);
    s.coord(&["stop", "--timeout", "30s"]).ok();
    s.coord(&["gc"]).ok();
    assert!(!s.queue("reserve").exists());
    s.coord(&["init"]).ok();
    assert_eq!(s.names("reserve").len(), 16);
}

#[test]
fn without_a_reserve_what_makes_room_changes_nothing() {
    let Some((s, _mount)) = small("no reserve", "size=2m") else { return };
    s.sh("rm -r .coord/reserve");
    fill(&s);
    let listing = || s.sh("find .coord | sort").stdout;
    let before = listing();
    s.coord(&["gc", "--delete", "A", "B"]).fails(7, FULL);
    assert_eq!(listing(), before);
    s.sh("rm .coord/filler");
    s.coord(&["gc", "--delete", "A", "B"]).ok().says("deleted");
}

#[test]
fn where_no_inode_is_left_the_reserve_has_some() {
    let Some((s, _mount)) = small("no inodes", "size=8m,nr_inodes=400") else { return };
    take_inodes(&s);
    s.coord(&["add", "--id", "C", "--", "true"]).fails(7, FULL);
    s.coord(&["pause"]).ok().warns(GIVEN_UP);
    s.coord(&["resume"]).ok();
    s.coord(&["gc", "--delete", "A", "B"]).ok().says("deleted");
    assert_eq!(s.names("tasks"), [""; 0]);
    s.sh("rm .coord/filler.*");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_fleet_on_a_full_disk_stops_when_it_is_told_and_loses_nothing() {
    let how = [&["stop", "--timeout", "30s"][..], &["stop", "--now", "--timeout", "30s"]];
    type Lack = (&'static str, fn(&Sandbox));
    let lacks: [Lack; 2] = [("size=2m", fill), ("size=8m,nr_inodes=400", take_inodes)];
    for (how, (option, lack)) in how.iter().flat_map(|how| lacks.map(|lack| (*how, lack))) {
        let Some((s, _mount)) = small("stop", option) else { return };
        s.add(&["--id", "T"], "touch up; until [ -e go ]; do sleep 0.01; done");
        s.add(&["--id", "U"], "true");
        s.coord(&["cancel", "U"]).ok();
        s.start(1);
        until("it runs", || s.root.join("up").exists());
        lack(&s);
        s.sh("touch go");
        s.coord(how).ok();
        s.sh("rm .coord/filler*");
        s.work().ok();
        assert_eq!(s.state("T"), "done");
        s.coord(&["fsck", "--strict"]).ok();
    }
}

#[test]
fn what_waits_can_be_cancelled_on_a_full_disk() {
    let Some((s, _mount)) = small("cancel", "size=2m") else { return };
    s.add(&["--id", "T"], "true");
    fill(&s);
    s.coord(&["cancel", "T"]).ok().warns(GIVEN_UP);
    assert_eq!(s.state("T"), "cancelled");
    s.sh("rm .coord/filler .coord/filler.2");
    s.coord(&["fsck", "--strict"]).ok();
}
