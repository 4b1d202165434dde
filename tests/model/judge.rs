//! What a checker's report means. Only a complete search without an error is a pass, and only the
//! error that was expected is a failure of the right kind.

use super::table::Expect;

/// Words that say that a part of the states was not looked at.
const INCOMPLETE: &[&str] = &[
    "Search not completed",
    "max search depth too small",
    "MEMLIM",
    "out of memory",
    "aborting",
    "hash-table is full",
];

/// The number of states that were stored, or what is wrong.
pub fn judge(report: &str, expect: &Expect) -> Result<u64, String> {
    let number = |text: &str| text.trim().parse::<f64>().ok().map(|n| n as u64);
    let stored = report.lines().find_map(|line| line.split_once(" states, stored"));
    let stored = stored.and_then(|(before, _)| number(before));
    let errors = report.lines().find_map(|line| line.split_once("errors: "));
    let errors = errors.and_then(|(_, after)| number(after));
    let (Some(stored), Some(errors)) = (stored, errors) else {
        return Err(format!("the checker said nothing that counts:\n{report}"));
    };
    let error = report.lines().find_map(|line| line.strip_prefix("pan:1: "));
    match (expect, errors, error) {
        (Expect::Pass, 0, None) => match INCOMPLETE.iter().find(|word| report.contains(**word)) {
            Some(word) => Err(format!("the search is not complete: {word}")),
            None => Ok(stored),
        },
        (Expect::Pass, _, error) => Err(format!("it must pass, but: {}", error.unwrap_or(report))),
        (Expect::Fail(what), 1, Some(error)) => {
            // spin's words for it, and then where: "assertion violated  !(lost) (at depth 9)".
            let found = error.split(" (at depth").next().unwrap_or(error);
            let found = found.strip_prefix("assertion violated").unwrap_or(found).trim();
            if found == what {
                Ok(stored)
            } else {
                Err(format!("it must fail with {what}, but fails with: {error}"))
            }
        }
        (Expect::Fail(what), ..) => {
            Err(format!("it must fail with {what}, but no error was found in {stored} states"))
        }
    }
}

#[test]
fn only_a_complete_search_passes_and_only_the_right_error_fails() {
    let said = |first: &str, errors: u8| {
        format!(
            "{first}\nState-vector 44 byte, depth reached 9, errors: {errors}\n      873 states, stored\n"
        )
    };
    let fail = Expect::Fail("!(lost)".to_owned());
    assert_eq!(judge(&said("", 0), &Expect::Pass), Ok(873));
    for word in INCOMPLETE {
        judge(&said(word, 0), &Expect::Pass).unwrap_err();
    }
    let lost = said("pan:1: assertion violated  !(lost) (at depth 9)", 1);
    assert_eq!(judge(&lost, &fail), Ok(873));
    judge(&lost, &Expect::Pass).unwrap_err();
    judge(&said("", 0), &fail).unwrap_err();
    judge(&said("pan:1: invalid end state (at depth 9)", 1), &fail).unwrap_err();
    judge(&said("pan:1: assertion violated !(lost2) (at depth 9)", 1), &fail).unwrap_err();
    judge("error: proctype 'worker' state 62, inherits 2 'else' stmnts", &fail).unwrap_err();
    judge("", &Expect::Pass).unwrap_err();
    let cycle = Expect::Fail("acceptance cycle".to_owned());
    assert_eq!(judge(&said("pan:1: acceptance cycle (at depth 9)", 1), &cycle), Ok(873));
}
