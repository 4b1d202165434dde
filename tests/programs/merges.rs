//! Merging: what is done and wants it is put onto the target branch, checked, or comes back.

use std::path::Path;

use crate::support::{Sandbox, until};

/// A repository with a file of three lines and a check that knows the word BAD.
fn sandbox(more: &str) -> Sandbox {
    let s = Sandbox::with_git();
    s.sh("printf 'one\\ntwo\\nthree\\n' >a.txt && git add a.txt && git commit --quiet --message lines");
    s.configure(&format!(
        "[merge]\nenabled = true\ninto = \"main\"\ncheck = \"! grep -qs BAD *.txt\"\n{more}\n"
    ));
    s.sh("git branch -M main");
    s
}

fn edit(s: &Sandbox, id: &str, options: &[&str], line: &str) {
    let line = format!("{line} && git add -A && git commit --quiet --message {id}");
    let all: Vec<&str> = ["--id", id].iter().chain(options).copied().collect();
    s.add(&all, &line);
}

fn work(s: &Sandbox) {
    s.coord(&["work", "--until-empty"]);
}

fn register(s: &Sandbox, id: &str, n: u32) -> serde_json::Value {
    let text = s.text(s.queue(&format!("tasks/{id}/{n}.merge")));
    serde_json::from_str(&text).unwrap_or_default()
}

fn file(s: &Sandbox, name: &str) -> String {
    s.sh(&format!("git show main:{name}")).stdout
}

#[test]
fn what_is_done_is_merged_and_the_checked_out_branch_comes_along() {
    let s = sandbox("");
    edit(&s, "A", &[], "sed -i s/one/ONE/ a.txt");
    edit(&s, "B", &["--no-merge"], "echo b >b.txt");
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("done".into(), "done".into()));
    assert_eq!(file(&s, "a.txt"), "ONE\ntwo\nthree\n");
    assert_eq!(s.text(Path::new("a.txt")), "ONE\ntwo\nthree\n", "the worktree was left behind");
    assert_eq!(s.sh("git status --porcelain --untracked-files=no").stdout, "");
    assert!(s.sh("git cat-file -e main:b.txt; echo $?").stdout.trim() != "0", "merged unasked");
    let trailers = s.sh("git log -1 --format=%B main").stdout;
    for line in ["Coord-Task: A", "Coord-Attempt: 1", "Coord-Worker: "] {
        assert!(trailers.contains(line), "{trailers}");
    }
    assert_eq!(register(&s, "A", 1)["verdict"], "pass");
    s.coord(&["show", "A"]).ok().says("merged as");
    s.coord(&["fsck", "--strict"]).ok();
}

#[test]
fn a_conflict_comes_back_on_the_new_base_with_its_reason() {
    let s = sandbox("batch = 1");
    // Both attempts wait for each other, so both start from the same base.
    let meet = |id: &str, other: &str| {
        let dir = s.beside("");
        format!(
            "touch {0}/{id}; test $COORD_ATTEMPT != 1 || until test -e {0}/{other}; do sleep 0.01; done; \
             test $COORD_ATTEMPT = 1 || cp $COORD_FAILURE_FILE {0}/why; sed -i 1s/$/-{id}/ a.txt",
            dir.display()
        )
    };
    edit(&s, "A", &[], &meet("A", "B"));
    edit(&s, "B", &[], &meet("B", "A"));
    s.start(2);
    s.coord(&["wait", "--timeout", "60s"]).ok();
    s.coord(&["stop"]).ok();
    let first = file(&s, "a.txt").lines().next().unwrap().to_owned();
    assert!(first == "one-A-B" || first == "one-B-A", "{first}");
    let back = if first == "one-A-B" { "B" } else { "A" };
    let stage = register(&s, back, 1);
    assert_eq!((&stage["verdict"], &stage["retry"]), (&"bounce".into(), &true.into()));
    assert!(stage["why"].as_str().unwrap().contains("conflicts with main in a.txt"), "{stage}");
    let why = s.text(s.beside("why"));
    assert!(why.contains("came back from its merge") && why.contains("<<<<<<<"), "{why}");
    assert_eq!(register(&s, back, 2)["verdict"], "pass");
}

#[test]
fn a_red_check_comes_back_with_its_output_until_a_person_is_asked() {
    let s = sandbox("max_bounces = 1");
    edit(&s, "A", &[], "echo BAD >bad.txt");
    edit(&s, "B", &[], "echo good >good.txt");
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("failed".into(), "done".into()));
    assert_eq!(register(&s, "A", 1)["retry"], true);
    assert_eq!(register(&s, "A", 2)["retry"], false);
    assert!(s.sh("git log --format=%s main").stdout.lines().all(|line| !line.contains("Merge A")));
    s.coord(&["why", "A"]).ok().says("came back from its merge too often: the check fails on main");
    s.coord(&["status"]).ok().says("A ");
}

#[test]
fn a_branch_that_is_red_itself_blames_nobody() {
    let s = sandbox("");
    s.sh("echo BAD >bad.txt && git add bad.txt && git commit --quiet --message bad");
    edit(&s, "A", &[], "echo a >a2.txt");
    work(&s);
    assert_eq!(s.state("A"), "merging");
    s.coord(&["why", "A"]).ok().says("main itself fails the check");
    s.sh("git rm --quiet bad.txt && git commit --quiet --message mended");
    s.coord(&["merge"]).ok();
    assert_eq!(s.state("A"), "done");
}

#[test]
fn a_dirty_worktree_is_left_alone_with_a_word_and_catches_up() {
    let s = sandbox("");
    std::fs::write(s.beside("project/a.txt"), "mine\n").unwrap();
    edit(&s, "A", &[], "sed -i s/one/ONE/ a.txt");
    work(&s);
    assert_eq!(s.state("A"), "done");
    assert_eq!(s.text(s.beside("project/a.txt")), "mine\n", "a person's change was lost");
    s.coord(&["status"]).ok().says("was left behind");
    s.sh("git checkout --quiet -- a.txt 2>/dev/null || git restore --source=main --staged --worktree a.txt");
    edit(&s, "B", &[], "sed -i s/two/TWO/ a.txt");
    work(&s);
    assert_eq!(s.sh("git status --porcelain --untracked-files=no").stdout, "");
    assert_eq!(s.text(s.beside("project/a.txt")), "ONE\nTWO\nthree\n");
}

#[test]
fn the_order_may_be_given_and_a_pause_is_kept() {
    let s = sandbox("");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &["--merge-after", "B"], "echo a >a1.txt");
    edit(&s, "B", &[], "echo b >b1.txt");
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("merging".into(), "merging".into()));
    let listed = s.coord(&["mergeq", "ls"]).ok().stdout.clone();
    assert!(listed.contains("for B") && listed.contains("B.1"), "{listed}");
    s.coord(&["mergeq", "resume"]).ok();
    // Nobody rescans meanwhile: the merge of B wakes that of A.
    s.start(1);
    s.coord(&["wait", "--timeout", "20s"]).ok();
    s.coord(&["stop"]).ok();
    let order = s.sh("git log --first-parent --reverse --format=%s main").stdout;
    assert!(order.find("Merge B").unwrap() < order.find("Merge A").unwrap(), "{order}");
}

#[test]
fn who_comes_after_has_what_was_merged_and_pass_starts_from_the_branch() {
    let s = sandbox("");
    edit(&s, "A", &[], "echo a >a1.txt");
    edit(&s, "B", &["--after", "A"], "test -e a1.txt && echo b >b1.txt");
    work(&s);
    assert_eq!(s.state("B"), "done");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "C", &[], "echo c >c1.txt");
    edit(&s, "D", &["--after", "C@pass"], "test -e c1.txt && echo d >d1.txt");
    work(&s);
    assert_eq!((s.state("C"), s.state("D")), ("merging".into(), "merging".into()));
    let base = s.end("D", 1)["result"]["base"].clone();
    assert_eq!(base, s.end("C", 1)["result"]["commit"], "D did not start from C's commit");
    s.coord(&["why", "D"]).ok().says("C is not merged yet");
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!((s.state("C"), s.state("D")), ("done".into(), "done".into()));
}

#[test]
fn a_change_outside_of_its_scope_is_refused() {
    let s = sandbox("[scopes]\nshared = [\"Cargo.lock\"]");
    edit(
        &s,
        "A",
        &["--scope", "src", "--retries", "0"],
        "mkdir -p src && echo x >src/x && echo y >y.txt",
    );
    edit(&s, "B", &["--scope", "src"], "mkdir -p src && echo z >src/z && echo lock >Cargo.lock");
    work(&s);
    assert_eq!((s.state("A"), s.state("B")), ("failed".into(), "done".into()));
    let why = s.end("A", 1)["why"].as_str().unwrap().to_owned();
    assert!(why.contains("outside of its scope (src): y.txt"), "{why}");
    let warns = sandbox("[scopes]\noutside = \"warn\"");
    edit(&warns, "A", &["--scope", "src"], "echo y >y.txt");
    work(&warns);
    assert_eq!(warns.state("A"), "done");
    warns.coord(&["status"]).ok().says("outside of its scope");
}

#[test]
fn killed_at_every_step_of_a_merge() {
    for step in [
        "lane.link",
        "merging.link",
        "merging.wait",
        "merging.unlink",
        "merge.link",
        "event.append",
    ] {
        let mut s = sandbox("batch = 1");
        edit(&s, "A", &["--merge-after", "B"], "sed -i s/one/ONE/ a.txt");
        edit(&s, "B", &[], "sed -i s/three/THREE/ a.txt");
        let trace = s.beside("trace");
        s.set("COORD_STEP_TRACE", &trace.to_string_lossy());
        s.set("COORD_STEP", &format!("{step}:crash"));
        // Each turn dies as well: nobody may wait until all is merged.
        for _ in 0..4 {
            s.coord(&["work", "--once"]);
        }
        for _ in 0..2 {
            s.coord(&["merge", "--quiet"]);
        }
        let passed = s.text(&trace);
        assert!(passed.lines().any(|line| line.starts_with(step)), "nobody came to {step}");
        s.set("COORD_STEP", "");
        // A turn that died lets the next one wait a while.
        until("all is merged", || {
            s.coord(&["merge", "--quiet"]);
            work(&s);
            s.state("A") == "done" && s.state("B") == "done"
        });
        let merges = s.sh("git log --first-parent --format=%s main").stdout;
        for id in ["Merge A", "Merge B"] {
            assert_eq!(merges.matches(id).count(), 1, "{step}: {merges}");
        }
        assert_eq!(file(&s, "a.txt"), "ONE\ntwo\nTHREE\n", "{step}");
        s.coord(&["fsck", "--strict"]).ok();
    }
}
