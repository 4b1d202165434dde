//! I21: what is in the archive is over, and stays.

use crate::disk::Disk;
use crate::platform::{Call, Op};
use crate::registers::Tasks;

use super::{Broken, Checker};

impl Checker {
    /// A change below `archive/`; `parts` is what follows.
    pub(super) fn in_archive(
        &mut self,
        disk: &Disk,
        op: &Op,
        from: &[&str],
        parts: &[&str],
    ) -> Broken {
        match (op.call, parts) {
            (Call::Rename, ["done" | "dead", _, task]) => self.moved(disk, task),
            (Call::Rename, ["trash", _]) => {
                let [_, _, _, task] = from else { return Err(format!("I22: {op}")) };
                let tasks = Tasks::read(disk, &mut self.parsed);
                if tasks.is_buried(task) {
                    return Ok(());
                }
                Err(format!("I21: {task} is deleted, and has no tombstone"))
            }
            (Call::Link, _) => Err(format!("I21: {op}")),
            (Call::Unlink, [lot, ..]) if *lot != "trash" => Err(format!("I1: {op} in the archive")),
            _ => Ok(()),
        }
    }

    /// What is moved away is over for ever, or was made by somebody who wanted the id again.
    fn moved(&mut self, disk: &Disk, id: &str) -> Broken {
        let tasks = Tasks::read(disk, &mut self.parsed);
        self.archived.insert(id.to_owned());
        match tasks.get(id) {
            Some(_) if tasks.is_over(id) => Ok(()),
            Some(_) => Err(format!("I21: {id} was archived, and is not over")),
            None => Ok(()),
        }
    }
}
