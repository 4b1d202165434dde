//! A boot that is over, and a backup that takes the place of its queue.

use std::fs;
use std::path::Path;

use crate::support::{Sandbox, kill, until};

const LINE: &str = "touch began; until test -e go; do sleep 0.05; done; echo $COORD_ATTEMPT >>ran";

/// T runs when its worker, and what that runs, are killed.
fn killed(s: &Sandbox) {
    s.add(&["--id", "T", "--retries", "0"], LINE);
    let mut worker = s.background(&["work"]);
    until("T runs", || s.root.join("began").exists());
    kill(worker.id().cast_signed());
    worker.wait().unwrap();
    s.processes().into_iter().for_each(kill);
    s.sh("touch go");
}

/// The cards that are there were made in an earlier boot.
fn reboot(s: &Sandbox) {
    let procs = s.names("procs").into_iter().filter(|name| name.starts_with("solo-"));
    let cards = procs
        .flat_map(|wid| ["card.0.json", "hb"].map(|name| s.queue(&format!("procs/{wid}/{name}"))));
    for path in cards.chain([s.queue("tasks/T/1.claim")]) {
        let text = s.text(&path);
        let boot = text.lines().find(|line| line.contains("\"boot\"")).unwrap().to_owned();
        let card = text.replace(&boot, "  \"boot\": \"an-earlier-one\",");
        fs::remove_file(&path).unwrap();
        fs::write(&path, card).unwrap();
    }
}

#[test]
fn after_a_reboot_what_ran_is_given_back() {
    let s = Sandbox::new();
    killed(&s);
    reboot(&s);
    s.work().ok();
    let first = s.end("T", 1);
    assert_eq!(
        (&first["verdict"], &first["why"], &first["charged"]),
        (&"expired".into(), &"boot".into(), &0.into())
    );
    assert_eq!((s.state("T"), s.text("ran")), ("done".to_owned(), "2\n".to_owned()));
}

#[test]
fn a_backup_is_restored_in_the_place_of_its_queue() {
    for rebooted in [false, true] {
        let s = Sandbox::new();
        killed(&s);
        s.sh("cp -a .coord ../backup");
        s.add(&["--id", "LATER"], "true");
        // Not removed: the new directory might get the inode that becomes free.
        s.sh("mv .coord ../old && cp -a ../backup .coord");
        if rebooted {
            reboot(&s);
        }
        // At once: the lease is a minute.
        s.work().ok();
        let first = s.end("T", 1);
        assert_eq!((&first["verdict"], &first["why"]), (&"release".into(), &"copied".into()));
        assert_eq!(first["charged"], 0, "{first}");
        assert_eq!((s.state("T"), s.text("ran")), ("done".to_owned(), "2\n".to_owned()));
        s.coord(&["show", "LATER"]).fails(4, "LATER");
        s.coord(&["fsck", "--strict"]).ok();
    }
}

#[test]
fn a_backup_that_is_restored_under_its_fleet_is_taken_up_by_a_new_one() {
    let s = Sandbox::new();
    s.start(1);
    s.add(&["--id", "T", "--retries", "0"], LINE);
    until("T runs", || s.root.join("began").exists());
    s.sh("cp -a .coord ../backup && rm -rf .coord && cp -a ../backup .coord");
    s.sh("touch go");
    until("those of the old directory have left", || s.processes().is_empty());
    s.work().ok();
    assert_eq!(s.end("T", 1)["verdict"], "release");
    assert_eq!(s.state("T"), "done");
    s.coord(&["fsck", "--strict"]).ok();
}

/// Each line of the first table in docs/operating.md names the tests that show it.
#[test]
fn the_operators_table_names_tests_that_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let page = read("docs/operating.md");
    let table = page.lines().skip_while(|line| !line.starts_with("| what you do |")).skip(2);
    let rows: Vec<&str> = table.take_while(|line| line.starts_with("| ")).collect();
    assert!(rows.len() > 12, "{page}");
    for row in rows {
        let cell = row.trim_end_matches([' ', '|']).rsplit('|').next().unwrap().trim();
        let mut module = "";
        for name in cell.split('`').skip(1).step_by(2) {
            let name = match name.split_once("::") {
                Some((of, name)) => (module = of, name).1,
                None => name,
            };
            let text = read(&format!("tests/programs/{module}.rs"));
            assert!(text.contains(&format!("fn {name}()")), "{module}::{name} is no test: {row}");
        }
        assert!(!module.is_empty() || cell == "as there", "no test: {row}");
    }
}
