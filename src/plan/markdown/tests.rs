//! Whole files.

use super::*;
use crate::error::Exit;
use proptest::prelude::*;

const FILE: &str = "# Plan

Some prose. - [ ] not an item

```
- [ ] X-1: neither
```

## Wave 1: start
- [x] W-1: set up
- [ ] W-2: library (after W-1) `cargo build`
  Mind the
    MSRV.

### Details
* [ ] W-3: parent @tester
    - [ ] first part
      $ make a
      $ make b
    1. [ ] second part

      Do this:

      ```sh
      - [ ] not an item
      ```
      - a point

## Wave 3
+ [ ] W-9: release (after other-1@pass, #1) (manual)

## Notes
1) [X] loose
";

fn read(text: &str) -> Checklist {
    parse(text, "TASKS.md").unwrap_or_else(|error| panic!("{error}"))
}

fn needs(item: &Item) -> Vec<usize> {
    item.needs.iter().map(|need| need.item).collect()
}

#[test]
fn a_whole_file() {
    let list = read(FILE);
    let items = &list.items;
    let titles: Vec<&str> = items.iter().map(|item| item.spec.title.as_str()).collect();
    assert_eq!(
        titles,
        ["set up", "library", "parent", "first part", "second part", "release", "loose"]
    );
    let ids: Vec<&str> = items.iter().map(|item| item.id.as_deref().unwrap_or("-")).collect();
    assert_eq!(ids, ["W-1", "W-2", "W-3", "-", "-", "W-9", "-"]);
    let waves: Vec<u32> = items.iter().map(|item| item.spec.wave.unwrap_or(0)).collect();
    assert_eq!(waves, [1, 1, 1, 1, 1, 3, 0]);
    let done: Vec<bool> = items.iter().map(|item| item.done).collect();
    assert_eq!(done, [true, false, false, false, false, false, true]);
    assert_eq!(items[2].parent, None);
    assert_eq!((items[3].parent, items[4].parent), (Some(2), Some(2)));
    assert_eq!((items[0].line, items[4].line), (10, 20));

    assert_eq!(needs(&items[1]), [0]);
    assert_eq!(needs(&items[2]), [3, 4]);
    assert_eq!(needs(&items[5]), [0, 1, 2, 3, 4]);
    assert!(items[6].needs.is_empty());
    assert_eq!(items[5].spec.after, ["other-1@pass"]);
    assert_eq!(list.unknown, [(30, "other-1".to_owned())]);

    assert_eq!(items[1].spec.sh, "cargo build");
    assert_eq!(items[1].spec.more["notes"], "Mind the\n  MSRV.");
    assert_eq!(items[3].spec.sh, "make a && make b");
    assert_eq!(
        items[4].spec.prompt,
        "second part\n\nDo this:\n\n```sh\n- [ ] not an item\n```\n- a point"
    );
    assert!(items[5].spec.manual);
    assert_eq!(items[2].spec.role, "tester");
}

#[test]
fn dependencies_get_their_ids() {
    let list = read(FILE);
    let mut ids: Vec<Option<String>> = list.items.iter().map(|item| item.id.clone()).collect();
    ids[0] = None;
    ids[3] = Some("17".into());
    ids[4] = Some("18".into());
    assert_eq!(list.items[5].after(&ids).join(" "), "other-1@pass W-2 W-3 17 18");
    assert_eq!(list.items[1].after(&ids), Vec::<String>::new());
    assert_eq!(list.items[2].after(&ids), ["17", "18"]);
    let list = read("- [ ] a1: x\n- [ ] b1: y (after a1@pass)");
    assert_eq!(list.items[1].after(&[Some("a1".into()), None]), ["a1@pass"]);
}

#[test]
fn depth_is_counted_in_columns() {
    let list = read("- [ ] a\n\t- [ ] b\n\t\t- [ ] c\n    - [ ] d\n- [ ] e\n");
    let parents: Vec<Option<usize>> = list.items.iter().map(|item| item.parent).collect();
    assert_eq!(parents, [None, Some(0), Some(1), Some(0), None]);
}

#[test]
fn headings_that_are_no_waves() {
    for heading in ["## Waves 2", "## Wave two", "## Wave", "## Wave 2nd", "#Wave 2", "Wave 2"] {
        let list = read(&format!("{heading}\n- [ ] x\n"));
        assert_eq!(list.items[0].spec.wave, None, "{heading}");
    }
    for heading in ["# WAVE 2", "###### phase 2: x", "## **Wave 2**", "## Wave 2 (x)"] {
        let list = read(&format!("{heading}\n- [ ] x\n"));
        assert_eq!(list.items[0].spec.wave, Some(2), "{heading}");
    }
}

#[test]
fn nothing_and_odd_ends_of_lines() {
    assert_eq!(read(""), Checklist::default());
    assert_eq!(read("prose\n- point\n- [a] x\n- [ ]y\n").items, []);
    let list = read("\u{feff}- [ ] W-1: x\r\n  text\r\n");
    assert_eq!(
        (list.items[0].id.as_deref(), &*list.items[0].spec.prompt),
        (Some("W-1"), "x\n\ntext")
    );
}

#[test]
fn mistakes() {
    for (text, says) in [
        ("\n- [ ] W-1: a\n- [ ] W-1: b", "TASKS.md:3: id `W-1` stands at line 2 too"),
        ("- [ ] ", "TASKS.md:1: an item without a title"),
        ("- [ ] W-1:", "TASKS.md:1: an item without a title"),
        ("\n- [ ] a !p100", "TASKS.md:2: priority `!p100` is out of range"),
        ("- [ ] a (after #2)", "TASKS.md:1: there is no item `#2` in this file"),
        ("- [ ] a (after #0)", "TASKS.md:1: there is no item `#0` in this file"),
        ("- [ ] a\n\n```\nx", "TASKS.md:3: the code fence is never closed"),
        (
            "- [ ] W-2: a (after W-4)\n- [ ] W-4: b (after W-2)",
            "TASKS.md:1: dependency cycle: W-2 → W-4 → W-2",
        ),
        ("- [ ] W-2: a (after W-2)", "TASKS.md:1: dependency cycle: W-2 → W-2"),
        ("- [ ] a\n  - [ ] b (after #1)", "TASKS.md:1: dependency cycle: #1 → #2 → #1"),
        (
            "# Wave 1\n- [ ] W-1: a (after W-2)\n# Wave 2\n- [ ] W-2: b",
            "TASKS.md:2: dependency cycle: W-1 → W-2 → W-1",
        ),
    ] {
        let error = parse(text, "TASKS.md").unwrap_err();
        assert_eq!(error.message, says);
        assert_eq!(error.exit, Exit::Usage);
        assert!(error.hint.is_some());
    }
    let long = format!("- [ ] {}", "x".repeat(501));
    assert!(parse(&long, "f").unwrap_err().message.starts_with("f:1: the title is longer"));
}

proptest! {
    #[test]
    fn any_text_is_read(text in "([ \t]{0,5}(- \\[[ x]\\] |```|#{1,3} |\\$ |[0-9]\\. )?[a-zäW#@!:`(){}0-9 -]{0,12}(\\(after [#W0-9, -]{0,6}\\))?\n){0,9}") {
        if let Ok(list) = parse(&text, "f") {
            for (at, item) in list.items.iter().enumerate() {
                prop_assert!(item.parent.is_none_or(|parent| parent < at));
                prop_assert!(item.needs.iter().all(|need| need.item < list.items.len() && need.item != at));
                prop_assert!(!item.spec.title.is_empty());
            }
        }
    }

    #[test]
    fn any_characters_are_read(text in "\\PC{0,40}") {
        let _list = parse(&format!("- [ ] {text}\n  {text}"), "f");
        let _list = parse(&text, "f");
    }
}

#[test]
fn a_list_of_spec_kit_keeps_its_ids_and_its_order() {
    let list = read(
        "## Phase 1: Setup\n- [x] T001 Make it\n- [ ] T002 [P] Lint @types/x\n- [ ] T003 [P] Format\n\
         ## Phase 3: Story\n<!-- - [ ] T900 sample\n- [ ] T901 sample -->\n\
         - [ ] T010 [P] [US1] Test `x`\n- [ ] T011 [P] [US1] Test y\n- [ ] T012 [US1] Do (depends on T002)\n\
         - [ ] T013 [US1] Wire `src/a.ts`\n",
    );
    let ids: Vec<&str> = list.items.iter().filter_map(|item| item.id.as_deref()).collect();
    assert_eq!(ids, ["T001", "T002", "T003", "T010", "T011", "T012", "T013"]);
    // The phase before; of the phase what is before, and nothing that is ticked.
    assert_eq!(needs(&list.items[2]), Vec::<usize>::new());
    assert_eq!(needs(&list.items[3]), [0, 1, 2]);
    assert_eq!(needs(&list.items[5]), [1, 0, 2, 3, 4]);
    assert_eq!(needs(&list.items[6]), [0, 1, 2, 5]);
    let last = &list.items[6].spec;
    assert_eq!((last.title.as_str(), last.sh.as_str()), ("Wire `src/a.ts`", ""));
    assert_eq!((last.labels.join(" "), last.wave), ("us1".to_owned(), Some(3)));
}

const KIRO: &str = "## Tasks\n- [x] 1. Types\n  - [x] 1.1 Add them\n    - _Requirements: 1.1_\n\
    - [-] 2. Context\n  - [ ] 2.1 Create it\n  - [ ]* 2.2 Test it\n- [ ] 3. Checkpoint\n- [ ] 4. Page\n  - [ ] 4.1 Style\n";

#[test]
fn a_list_of_kiro_is_done_in_its_order() {
    let list = read(KIRO);
    let titles: Vec<&str> = list.items.iter().map(|item| item.spec.title.as_str()).collect();
    let all =
        ["Types", "Add them", "Context", "Create it", "Test it", "Checkpoint", "Page", "Style"];
    assert_eq!(titles, all);
    assert!(!list.items[2].done && list.items[1].done);
    let optional = &list.items[4];
    assert!(optional.optional && optional.spec.hold && optional.spec.labels == ["optional"]);
    assert_eq!(needs(optional), [3]);
    // Its parts, but for what may be left out; then what stands before.
    assert_eq!(needs(&list.items[2]), [3]);
    assert_eq!(
        (needs(&list.items[5]), needs(&list.items[7]), needs(&list.items[6])),
        (vec![2], vec![5], vec![7])
    );
    assert_eq!(list.items[1].spec.prompt, "Add them\n\n- _Requirements: 1.1_");
}

#[test]
fn a_dependency_graph_of_kiro_counts_instead_of_the_order() {
    let graph = "## Task Dependency Graph\n```json\n{\"waves\":[{\"id\":0,\"tasks\":[\"2.1\",\"4.1\"]},{\"id\":1,\"tasks\":[\"2.2\"]}]}\n```\n";
    let list = read(&format!("{KIRO}{graph}"));
    assert_eq!((needs(&list.items[3]), needs(&list.items[7])), (vec![], vec![]));
    assert_eq!(needs(&list.items[4]), [3, 7]);
    assert_eq!(needs(&list.items[5]), [0, 1, 2, 3]);
    let list = read(&format!("{KIRO}## Task Dependency Graph\n```\n2.1 -> 4.1\n```\n"));
    assert_eq!(needs(&list.items[7]), [5], "what is not understood leaves the order of the file");
    assert!(list.remarks[0].1.contains("the order of the file counts"));
}

#[test]
fn no_item_vanishes() {
    for mark in ["~", "?", ">", "/", "!"] {
        let error = parse(&format!("- [ ] a\n- [{mark}] b\n"), "TASKS.md").unwrap_err();
        assert!(error.message.contains(&format!("TASKS.md:2: `[{mark}]` is no box")), "{error}");
    }
    let error =
        parse("---\nid: BACK-1\nstatus: Done\n---\n- [ ] #1 it holds\n", "back-1.md").unwrap_err();
    assert!(error.message.contains("a task of Backlog.md"), "{error}");
}

#[test]
fn an_item_without_an_id_is_known_again() {
    let of = |text: &str| uids(&read(text).items, "/p/TASKS.md");
    let before = of("- [ ] a\n  - [ ] b\n- [ ] c\n  - [ ] b\n- [ ] a\n");
    assert_eq!(before[3], "/p/TASKS.md / c / b");
    assert_eq!(before[4], "/p/TASKS.md / a (2)");
    // Moved, ticked and with a text below, it is the same item.
    let after = of("- [ ] c\n  - [x] b\n    text\n- [ ] a\n");
    assert_eq!(after, [before[2].as_str(), &before[3], &before[0]]);
}
