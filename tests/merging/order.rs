//! What is merged before what, what goes together, and into which branch.

use crate::desk::{desk, edit, states, subjects, work};

#[test]
fn what_adds_dependencies_is_merged_last_of_its_wave() {
    let s = desk("");
    // Urgent, first, and done long before A has begun.
    let last = ["--adds-deps", "--wave", "1", "--priority", "1"];
    edit(&s, "D", &last, "echo d >d1.txt");
    edit(&s, "A", &["--wave", "1", "--hold"], "echo a >a1.txt");
    edit(&s, "B", &["--wave", "1"], "echo b >b1.txt");
    edit(&s, "C", &["--wave", "2", "--hold"], "echo c >c1.txt");
    work(&s);
    assert_eq!(states(&s, &["D", "A", "B", "C"]), "merging held done held");
    s.coord(&["why", "D"]).ok().says("A is not merged yet");
    s.coord(&["release", "A"]).ok();
    work(&s);
    // C is of another wave.
    assert_eq!(states(&s, &["D", "A", "B", "C"]), "done done done held");
    let merged = subjects(&s, "main");
    assert!(merged[0].starts_with("Merge D") && merged[1].starts_with("Merge A"), "{merged:?}");
}

#[test]
fn what_changes_a_shared_path_is_merged_one_at_a_time() {
    let s = desk("[scopes]\nshared = [\"lock.txt\"]");
    s.sh("seq 30 >lock.txt && git add . && git commit --quiet --message lock");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &[], "sed -i 1s/$/a/ lock.txt");
    edit(&s, "B", &[], "sed -i 30s/$/b/ lock.txt");
    edit(&s, "C", &[], "echo c >c1.txt");
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    assert_eq!(states(&s, &["A", "B", "C"]), "done done done");
    let merged = subjects(&s, "main");
    assert_eq!(merged[1], "Merge 2 tasks: A, C", "{merged:?}");
    assert!(merged[0].starts_with("Merge B"), "{merged:?}");
}

#[test]
fn shared_paths_count_from_the_project() {
    let mut s = crate::support::Sandbox::bare();
    s.sh("git init -q -b main . && mkdir sub && seq 30 >sub/lock.txt && git add . && git commit -qm 1");
    // The project is a directory of the repository.
    s.root.push("sub");
    s.coord(&["init"]).ok();
    s.configure("[merge]\nenabled = true\ninto = \"main\"\n[scopes]\nshared = [\"lock.txt\"]\n");
    s.coord(&["mergeq", "pause"]).ok();
    edit(&s, "A", &[], "sed -i 1s/$/a/ lock.txt");
    edit(&s, "B", &[], "sed -i 30s/$/b/ lock.txt");
    work(&s);
    s.coord(&["mergeq", "resume"]).ok();
    work(&s);
    let merged = subjects(&s, "main");
    assert!(merged[0].starts_with("Merge B") && merged[1].starts_with("Merge A"), "{merged:?}");
}

#[test]
fn each_branch_has_a_lane_of_its_own() {
    let s = desk("");
    s.sh("git branch release && echo later >later.txt && git add . && git commit -qm later");
    edit(&s, "R", &["--into", "release"], "test ! -e later.txt && echo r >r1.txt");
    edit(&s, "M", &[], "echo m >m1.txt");
    work(&s);
    assert_eq!(states(&s, &["R", "M"]), "done done");
    let files = |branch: &str| s.sh(&format!("git ls-tree --name-only {branch}")).stdout;
    let (main, release) = (files("main"), files("release"));
    assert!(main.contains("m1.txt") && !main.contains("r1.txt"), "{main}");
    assert!(release.contains("r1.txt") && !release.contains("m1.txt"), "{release}");
    assert!(!release.contains("later.txt"), "main went into release: {release}");
    assert_eq!(s.names("merge"), ["default", "release"]);
    // A lane that cannot merge keeps nobody else from it.
    edit(&s, "S", &["--into", "release"], "echo s >s1.txt");
    s.coord(&["mergeq", "pause"]).ok();
    work(&s);
    s.sh("git branch --quiet -m release released");
    s.coord(&["mergeq", "resume"]).ok();
    edit(&s, "N", &[], "echo n >n1.txt");
    work(&s);
    assert_eq!(states(&s, &["S", "N"]), "merging done");
    s.coord(&["why", "S"]).ok().says("there is no branch release to merge into");
    s.sh("git branch --quiet -m released release");
    s.coord(&["merge", "S"]).ok();
    assert_eq!(s.state("S"), "done");
    s.coord(&["fsck"]).ok();
}
