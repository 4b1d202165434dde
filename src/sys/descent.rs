//! The processes that descend from one: found by their parents in `/proc`, and ended together.
//!
//! A process group is not enough, since hooks of git start what they like in sessions of their own. Who
//! loses its parent is no longer seen as a descendant, so each look adds to what was seen before.

use std::collections::BTreeMap;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use super::alive::{self, proc_stat};

/// A process and what descends from it, as far as it was seen: number and time of its start.
#[derive(Debug)]
pub struct Tree {
    root: i32,
    seen: BTreeMap<i32, u64>,
}

impl Tree {
    /// The tree of a process.
    pub fn of(root: i32) -> Tree {
        let seen = proc_stat(root).map(|stat| (root, stat.start)).into_iter().collect();
        let mut tree = Tree { root, seen };
        tree.look();
        tree
    }

    /// Looks for further ones. Whether there were any.
    pub fn look(&mut self) -> bool {
        let all = alive::all();
        let before = self.seen.len();
        loop {
            let known = self.seen.len();
            for (pid, stat) in &all {
                // The same number at another time is another process.
                let parent = all.get(&stat.parent).map(|parent| parent.start);
                if parent.is_some() && self.seen.get(&stat.parent).copied() == parent {
                    self.seen.insert(*pid, stat.start);
                }
            }
            if self.seen.len() == known {
                return known > before;
            }
        }
    }

    /// Whether it has this process.
    pub fn has(&self, pid: i32) -> bool {
        self.seen.contains_key(&pid)
    }

    /// Asks the root to end, with its process group if it leads one.
    pub fn ask_to_end(&self, leads: bool) {
        let root = Pid::from_raw(self.root);
        // Gone already, at worst.
        let _ = if leads { killpg(root, Signal::SIGTERM) } else { kill(root, Signal::SIGTERM) };
        // One that was stopped hears nothing.
        let _ = if leads { killpg(root, Signal::SIGCONT) } else { kill(root, Signal::SIGCONT) };
    }
}

/// Kills a tree, again and again until nothing new is seen: a process may fork behind a look.
pub fn kill_tree(tree: &mut Tree, leads: bool) {
    loop {
        if leads {
            let _ = killpg(Pid::from_raw(tree.root), Signal::SIGKILL);
        }
        for (pid, start) in &tree.seen {
            // The number may be another process's by now.
            if let Some(process) = alive::open(*pid, *start) {
                process.kill();
            }
        }
        if !tree.look() {
            return;
        }
    }
}
