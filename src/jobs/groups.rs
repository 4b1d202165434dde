//! Several rows in one job: `-N`, and `-X` with as many as a command line takes.

use std::collections::VecDeque;

use super::rows::{Given, Rows, concat};
use super::template::Weight;
use crate::error::Result;
use crate::sys::escaped::length;

/// How long a command line may get, in bytes: what GNU parallel and xargs keep to. Each system
/// takes more, but a script for `sh -c` can have no more on Linux.
pub const BYTES_MAX: usize = 128 * 1024 - 1;

/// How many rows a job gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grouping {
    /// At most so many rows; 0: a job for each row, without its values. `None`: as many as fit with
    /// `many`, else one.
    pub max_args: Option<usize>,
    /// Whether there may be more than one (`-X`).
    pub many: bool,
    /// How long a job's command may get, in bytes; see [`BYTES_MAX`].
    pub max_bytes: usize,
    /// How many jobs run at a time. What is left at the end of the input is spread over so many
    /// jobs, so that all have work; 1: it is not spread.
    pub jobs: usize,
}

/// The values of one job after the other. After an error there are none.
#[derive(Debug)]
pub struct Groups {
    rows: Rows,
    grouping: Grouping,
    weight: Weight,
    /// A row that did not fit into the last job.
    held: Option<Given>,
    /// The last jobs, when the input has ended.
    last: VecDeque<Given>,
    ended: bool,
}

impl Groups {
    /// The rows in groups. `weight` is of the template that will expand them.
    pub fn new(rows: Rows, grouping: Grouping, weight: Weight) -> Groups {
        Groups { rows, grouping, weight, held: None, last: VecDeque::new(), ended: false }
    }

    /// As [`Rows::would_block`]. With `-X`, a job is there only when it is full or the input has
    /// ended, so the next one may have to be waited for although it says no.
    pub fn would_block(&self) -> bool {
        !self.ended && self.held.is_none() && self.last.is_empty() && self.rows.would_block()
    }

    /// The rows behind this.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The next row; one with a value that no command can have is wrong.
    fn next_row(&mut self) -> Result<Option<Given>> {
        let longest = self.weight.longest;
        let fitting = |row: Vec<String>| match row.iter().map(|v| length(v)).find(|n| *n > longest)
        {
            Some(bytes) => Err(format!(
                "an argument has {bytes} bytes, and the system takes {longest} (put long texts into files)"
            )),
            None => Ok(row),
        };
        Ok(self.rows.next().transpose()?.map(|row| row.and_then(fitting)))
    }

    fn next_group(&mut self) -> Result<Option<Given>> {
        let Grouping { max_args, many, max_bytes, jobs } = self.grouping;
        let most = match max_args {
            Some(0) => return Ok(self.next_row()?.map(|row| row.map(|_| Vec::new()))),
            Some(most) => most,
            None if many => usize::MAX,
            None => 1,
        };
        if most == 1 {
            return self.next_row();
        }
        if let Some(group) = self.last.pop_front() {
            return Ok(Some(group));
        }
        let mut group: Vec<Given> = Vec::new();
        let mut bytes = self.weight.fixed;
        while group.len() < most {
            let row = match self.held.take() {
                Some(row) => row,
                None => match self.next_row()? {
                    Some(row) => row,
                    None => {
                        self.spread(group, jobs);
                        return Ok(self.last.pop_front());
                    }
                },
            };
            // Where the number of rows is given, their places count: with a wrong one among them the
            // job cannot be. Else the wrong one is a job of its own, and the others go on.
            let alone = row.is_err() && max_args.is_none();
            let values = row.iter().flatten();
            let more: usize = values.map(|value| self.weight.of(value)).sum();
            // A row that is too long for any job goes alone: whoever expands it has the message.
            if !group.is_empty() && (alone || bytes.saturating_add(more) > max_bytes) {
                self.held = Some(row);
                break;
            }
            bytes = bytes.saturating_add(more);
            group.push(row);
            if alone {
                break;
            }
        }
        Ok(Some(concat(&group)))
    }

    fn spread(&mut self, rows: Vec<Given>, jobs: usize) {
        let each = rows.len().div_ceil(jobs.max(1)).max(1);
        self.last.extend(rows.chunks(each).map(concat));
    }
}

impl Iterator for Groups {
    type Item = Result<Given>;

    fn next(&mut self) -> Option<Result<Given>> {
        if self.ended {
            return None;
        }
        let group = self.next_group().transpose();
        self.ended = !matches!(group, Some(Ok(_)));
        group
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::Format;
    use super::super::source::{Origin, SourceArg};
    use super::*;

    const LIGHT: Weight = Weight { fixed: 10, each: 1, times: 1, quoted: false, longest: 9 };

    fn groups(sources: &[&str], grouping: Grouping) -> Vec<String> {
        let sources: Vec<SourceArg> = sources
            .iter()
            .map(|values| {
                let values = values.split(' ').map(str::to_owned).collect();
                SourceArg { origin: Origin::Values(values), linked: false }
            })
            .collect();
        let rows = Rows::open(&sources, &Format::default()).unwrap();
        let mut groups = Groups::new(rows, grouping, LIGHT);
        let text = |group: Given| group.map_or_else(|why| why, |group| group.join(" "));
        let all = groups.by_ref().map(|group| text(group.unwrap())).collect();
        assert!(groups.next().is_none() && !groups.would_block());
        all
    }

    #[test]
    fn a_wrong_row_undoes_as_little_as_can_be() {
        let one = Grouping { max_args: None, many: false, max_bytes: BYTES_MAX, jobs: 1 };
        let many = Grouping { many: true, ..one };
        let three = Grouping { max_args: Some(3), ..many };
        let wrong = "an argument has 10 bytes, and the system takes 9 (put long texts into files)";
        let values = "a b 0123456789 c d e f";
        for (grouping, jobs) in [
            (one, &["a", "b", wrong, "c", "d", "e", "f"][..]),
            (many, &["a b", wrong, "c d e f"]),
            (three, &[wrong, "c d e", "f"]),
            (Grouping { max_args: Some(0), ..one }, &["", "", wrong, "", "", "", ""]),
        ] {
            assert_eq!(groups(&[values], grouping), jobs, "{grouping:?}");
        }
    }

    /// The jobs are those of GNU parallel 20221122, but for the limit in bytes.
    #[test]
    fn rows_in_jobs() {
        let one = Grouping { max_args: None, many: false, max_bytes: BYTES_MAX, jobs: 1 };
        let many = Grouping { many: true, ..one };
        let ten = "1 2 3 4 5 6 7 8 9 10";
        for (sources, grouping, jobs) in [
            (&["a b"][..], one, &["a", "b"][..]),
            (&["a b"], Grouping { max_args: Some(1), ..many }, &["a", "b"]),
            (&["a b c"], Grouping { max_args: Some(2), ..many }, &["a b", "c"]),
            (
                &["a b", "c d e"],
                Grouping { max_args: Some(2), ..many },
                &["a c a d", "a e b c", "b d b e"],
            ),
            (&["a b"], Grouping { max_args: Some(0), ..one }, &["", ""]),
            (&["a b", "c d"], many, &["a c a d b c b d"]),
            (&[ten], Grouping { jobs: 3, ..many }, &["1 2 3 4", "5 6 7 8", "9 10"]),
            (
                &[ten],
                Grouping { jobs: 3, max_args: Some(4), ..many },
                &["1 2 3 4", "5 6 7 8", "9", "10"],
            ),
            (&[ten], Grouping { max_bytes: 16, ..many }, &["1 2 3", "4 5 6", "7 8 9", "10"]),
            (
                &["long longer longest"],
                Grouping { max_bytes: 3, ..many },
                &["long", "longer", "longest"],
            ),
            (&["1 2 3 4 5"], Grouping { max_bytes: 16, jobs: 2, ..many }, &["1 2 3", "4", "5"]),
        ] {
            assert_eq!(groups(sources, grouping), jobs, "{sources:?} {grouping:?}");
        }
    }
}
