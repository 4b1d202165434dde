//! `COORD_PORT_BASE`: a hundred ports for each worker of a machine, also where several users work.

use std::path::Path;

use nix::unistd::geteuid;

use crate::sys::owner::Owner;

/// Ports that belong to one worker.
const EACH: u32 = 100;
/// The first of them all; below are those of services.
const FIRST: u32 = 20_000;
/// Workers that have ports of their own; then the numbers begin again. There are not more ports.
const WORKERS: u32 = 450;
/// Of these, those of the first user. What is left is for further ones, of whom `USERS` have some of their
/// own: users of one machine mostly have numbers that follow one another.
const OF_THE_FIRST: u32 = 50;
const USERS: u32 = 40;

/// The number among the workers of a machine at which those of this user begin. `first`: the queue, or its
/// pool of worktrees, is this user's.
pub fn begin(first: bool) -> u32 {
    if first { 0 } else { of_user(geteuid().as_raw()) }
}

/// The same where workers share the directory of their project: the queue is the first user's.
pub fn begin_in(queue: &Path) -> u32 {
    begin(Owner::of(queue).map_or(true, |owner| owner.uid == geteuid().as_raw()))
}

fn of_user(uid: u32) -> u32 {
    OF_THE_FIRST + (WORKERS - OF_THE_FIRST) / USERS * (uid % USERS)
}

/// The first port of a worker.
pub fn base(number: u32) -> u32 {
    FIRST + EACH * (number % WORKERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_in_a_row_have_ports_of_their_own() {
        assert_eq!(base(begin(true)), 20_000);
        let of = |uid| base(of_user(uid))..base(of_user(uid)) + 10 * EACH;
        for (a, b) in (1000..1040).flat_map(|a| (1000..a).map(move |b| (a, b))) {
            assert!(of(a).start >= of(b).end || of(b).start >= of(a).end, "{a} and {b}");
        }
        assert!((1000..1040).all(|uid| of(uid).start >= 25_000 && of(uid).end <= 65_000));
    }
}
