//! `coord import`: what people have, read right or refused by name.

use crate::support::Sandbox;

fn put(s: &Sandbox, name: &str, text: &str) {
    std::fs::write(s.root.join(name), text).unwrap();
}

#[test]
fn import_takes_checklists_and_json_lines() {
    let s = Sandbox::new();
    let list = "# Work\n- [x] W-0: before\n- [ ] W-1: first `true`\n- [ ] W-2: second (after W-1) `true`\n";
    put(&s, "TASKS.md", list);
    let dry = s.coord(&["import", "TASKS.md", "--dry-run"]);
    dry.ok().says("ID").says("WAVE").says("AFTER").says("ROLE").says("COMMAND");
    let row = dry.stdout.lines().find(|line| line.contains("W-2")).unwrap().to_owned();
    assert!(row.contains("W-1") && row.contains("default") && row.contains("sh -c true"), "{row}");
    assert_eq!(s.names("tasks").len(), 0);
    s.coord(&["import", "TASKS.md"]).ok().says("W-1").says("W-2").says("done before");
    s.coord(&["import", "TASKS.md"]).ok().says("there already");
    s.coord(&["why", "W-2"]).ok().says("W-1 is not done yet");
    put(&s, "t.jsonl", "{\"id\":\"J\",\"sh\":\"true\"}\n{\"sh\":\"true\"}\n");
    s.coord(&["import", "-q", "t.jsonl"]).ok();
    assert_eq!(s.state("J"), "ready");
    put(&s, "bad.jsonl", "{\"id\":\"K\",\"sh\":\"true\"}\n{\"sh\":\"true\",\"priority\":100}\n");
    s.coord(&["import", "bad.jsonl"]).fails(2, "bad.jsonl:2");
    s.coord(&["show", "K"]).fails(4, "K");
}

#[test]
fn items_without_ids_are_imported_once() {
    let s = Sandbox::new();
    put(&s, "TASKS.md", "- [ ] first `true`\n- [ ] second `true`\n- [ ] second `true`\n");
    s.coord(&["import", "TASKS.md"]).ok().says("added");
    assert_eq!(s.names("tasks").len(), 3);
    // One more, and one in another order: only what is new is added, and it knows the others.
    let more = "- [ ] second `true`\n- [ ] first `true`\n- [ ] second `true`\n- [ ] third (after #1) `true`\n";
    put(&s, "TASKS.md", more);
    let dry = s.coord(&["import", "--dry-run", "TASKS.md"]);
    dry.ok().says("there already").says("(next number)");
    s.coord(&["import", "TASKS.md"]).ok().says("there already").says("added");
    assert_eq!(s.names("tasks").len(), 4);
    s.coord(&["why", "4"]).ok().says("2 is not done yet");
    // What was done and archived is not done again either.
    s.coord(&["work", "--until-empty"]).ok();
    s.coord(&["gc", "--older-than", "0s"]).ok();
    s.coord(&["import", "TASKS.md"]).ok().silent_about("added");
    assert_eq!(s.names("tasks").len(), 0);
}

#[test]
fn files_of_other_tools_are_refused_by_name() {
    let s = Sandbox::new();
    for (name, text, tool) in [
        (
            "issues.jsonl",
            "{\"id\":\"bd-1\",\"title\":\"x\",\"status\":\"closed\",\"issue_type\":\"bug\"}\n",
            "Beads",
        ),
        (
            "tasks.json",
            "{\"master\": {\"tasks\": [{\"id\": 1, \"title\": \"x\", \"status\": \"done\"}]}}",
            "Task Master",
        ),
        (
            "gh.json",
            "[{\"number\":7,\"title\":\"x\",\"state\":\"CLOSED\",\"body\":\"\"}]",
            "GitHub",
        ),
        ("back-1.md", "---\nid: BACK-1\nstatus: Done\n---\n- [ ] #1 it holds\n", "Backlog.md"),
    ] {
        put(&s, name, text);
        s.coord(&["import", name]).fails(2, tool).warns(name);
    }
    assert_eq!(s.names("tasks").len(), 0);
    // The same that is dropped into the queue.
    s.sh("touch -d '1 minute ago' tasks.json && mv tasks.json .coord/incoming/");
    s.coord(&["work", "--once"]).exits(6);
    assert!(s.text(".coord/incoming/rejected/tasks.json.why").contains("Task Master"));
}

#[test]
fn nothing_of_a_checklist_vanishes_without_a_word() {
    let s = Sandbox::new();
    put(&s, "TASKS.md", "- [ ] a `true`\n- [~] b `true`\n");
    s.coord(&["import", "TASKS.md"]).fails(2, "TASKS.md:2").warns("`[~]`");
    put(&s, "t.jsonl", "{\"sh\":\"true\",\"prioritty\":1,\"estimate\":3}\n");
    let added = s.coord(&["import", "t.jsonl"]);
    added.ok().warns("`prioritty`").warns("did you mean `priority`").warns("`estimate`");
    // A task that nobody could run would wait for ever.
    put(&s, "plan.md", "- [ ] W-1: think about it\n");
    s.coord(&["import", "plan.md"]).fails(2, "plan.md:1").warns("nobody can run it");
    put(&s, "plan.md", "- [ ] W-1: think about it (manual)\n");
    s.coord(&["import", "plan.md"]).ok();
}

#[test]
fn a_list_of_kiro_or_spec_kit_runs_in_its_order() {
    let s = Sandbox::new();
    let agent = "[agents.a]\ncommand = [\"sh\", \"-c\", \"echo $COORD_TASK_ID >> order\"]\n";
    put(&s, "coord.toml", &format!("version = 1\n[workers]\nagent = \"a\"\n{agent}"));
    put(
        &s,
        "kiro.md",
        "- [ ] 1. Types\n  - [ ] 1.1 Add\n  - [ ]* 1.2 Test\n- [x] 2. Old\n  - [x] 2.1 Done\n- [ ] 3. New\n  - [ ] 3.1 Do\n",
    );
    put(
        &s,
        "kit.md",
        "## Phase 1\n- [ ] T001 Make\n- [ ] T002 [P] Lint\n- [ ] T003 Join (depends on T001)\n",
    );
    s.coord(&["import", "kiro.md", "kit.md"]).ok();
    assert_eq!(s.state("1.2"), "held");
    s.coord(&["work", "--until-empty"]).ok();
    let order = s.text("order");
    let at = |id: &str| order.lines().position(|line| line == id);
    let known = ["1.1", "3.1", "T001", "T002", "T003"]
        .map(|id| at(id).unwrap_or_else(|| panic!("{id}: {order}")));
    assert!(known[0] < known[1] && known[2] < known[3] && known[3] < known[4], "{order}");
    assert_eq!((at("1.2"), at("2.1")), (None, None), "{order}");
}
