//! What is to become of a thing that nobody of ours has made: it is still there as it was, and `coord fsck`
//! names it. What is excepted, with the rule that says so (queue-layout.md, section 2, *What is not ours*).

use crate::draw::{Content, Thing};
use crate::plant::Planted;

/// The rule by which a thing may be gone, or elsewhere.
pub fn may_go(planted: &Planted) -> Option<&'static str> {
    let name = planted.path.file_name()?.to_string_lossy();
    let is_dir = matches!(planted.thing, Thing::EmptyDir | Thing::FullDir);
    let empty = planted.thing == Thing::EmptyDir;
    let look_alike = planted.look_alike;
    match planted.place {
        "archive/trash" => Some("what lies in the trash is being deleted"),
        "runs/NAME" => Some("a finished run goes with all that is in it"),
        "procs" if name.starts_with(".new-") => Some("a registration that was not finished"),
        "procs/W" | "procs/W/run" if look_alike && !is_dir => {
            Some("a record of the process of which it has the name")
        }
        "scopes" if look_alike && !is_dir => Some("an old version of the table"),
        "ready/ROLE/PP/BUCKET" | "blocked" | "delayed/DUE" | "waiters/D" if !is_dir => {
            Some("a hint that is wrong")
        }
        "stats" | "tasks/V/jobs" if !is_dir && look_alike => Some("a hint that is not true"),
        _ if empty => Some("an empty directory"),
        _ => None,
    }
}

/// The rule by which `fsck` says nothing of a thing that is there.
pub fn passed_over(planted: &Planted) -> Option<&'static str> {
    let name = planted.path.file_name()?.to_string_lossy();
    let is_dir = matches!(planted.thing, Thing::EmptyDir | Thing::FullDir);
    let is_file = planted.is_file();
    let look_alike = planted.look_alike;
    match planted.place {
        "incoming" => Some("incoming/ is anybody's: what cannot be taken is in NEEDS YOU"),
        "runs" if is_dir => Some("below it nothing is judged"),
        "log" | "tasks/T/n.out" | "runs/NAME" | "archive/trash" | "incoming/rejected" => {
            Some("below it nothing is judged")
        }
        "tasks/V" if name.ends_with(".out") && is_dir => Some("outputs of an attempt"),
        _ if name.starts_with('.') => Some("a name with a dot in front is nobody's"),
        _ if planted.thing == Thing::EmptyDir => Some("an empty directory says nothing"),
        _ if is_file && look_alike && !is_record(planted.place) => Some("a file as there are some"),
        _ if planted.thing == Thing::File(Content::Json) && look_alike => Some("a record"),
        _ => None,
    }
}

/// Where what stands in a file is looked at.
fn is_record(place: &str) -> bool {
    matches!(place, "tasks/V" | "tasks/V/jobs/START")
}
