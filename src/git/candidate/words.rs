//! A conflict in words, for people and agents: what git says, and the places with their markers.

use crate::error::Result;
use crate::git::Git;

use super::merging::Conflicted;
use super::{Change, Put, Site};

/// Files that are shown.
const FILES_MAX: usize = 20;
/// Lines of files that are shown, in all.
const LINES_MAX: usize = 200;
/// Characters of a line that are shown.
const COLUMNS_MAX: usize = 300;
/// Messages of git that are shown.
const MESSAGES_MAX: usize = 50;
/// Bytes of a file that is looked into.
const BYTES_MAX: u64 = 1 << 20;

/// Which commit of a change it was.
pub struct Place<'a> {
    /// Its number, from 1.
    pub number: usize,
    /// Of how many.
    pub of: usize,
    /// It.
    pub commit: &'a str,
}

/// For two histories without a common commit.
pub fn unrelated(change: &Change, onto: &str) -> String {
    format!(
        "{} attempt {} ({}) has no commit in common with {}: its history is another one, or this \
         repository is a shallow clone that does not reach back far enough\n",
        change.id,
        change.n,
        short(&change.commit),
        short(onto),
    )
}

/// The whole answer to a failed merge of `site`'s change with `head`.
pub fn conflict(site: &Site, head: &str, place: Option<&Place>, found: &Conflicted) -> Result<Put> {
    let who = format!("{} attempt {}", site.change.id, site.change.n);
    let names = found.names();
    let theirs = place.map_or(site.tip, |place| place.commit);
    let mut text = format!(
        "{who} ({}) conflicts with the target ({}) in {}\n",
        short(site.tip),
        short(site.onto),
        if names.len() == 1 { "1 file".to_owned() } else { format!("{} files", names.len()) },
    );
    if let Some(place) = place {
        let (number, of, commit) = (place.number, place.of, short(place.commit));
        text.push_str(&format!("when its commit {number} of {of} ({commit}) is replayed\n"));
    }
    text.push('\n');
    for said in found.said.iter().take(MESSAGES_MAX) {
        text.push_str(&format!("{said}\n"));
    }
    if let Some(more @ 1..) = found.said.len().checked_sub(MESSAGES_MAX) {
        text.push_str(&format!("and {more} more\n"));
    }
    text.push_str(&places(site.git, found)?);
    // git names both sides by their commits, in the markers too.
    let text = text.replace(head, "target").replace(theirs, &who);
    Ok(Put::Conflict { paths: names, text })
}

fn short(commit: &str) -> &str {
    commit.get(..12).unwrap_or(commit)
}

/// The places of all files, within the limits.
fn places(git: &Git, found: &Conflicted) -> Result<String> {
    let shown = &found.paths[..found.paths.len().min(FILES_MAX)];
    let mut text = String::new();
    let mut left = LINES_MAX;
    for (path, content) in shown.iter().zip(contents(git, &found.tree, shown)?) {
        let Some(content) = content else { continue };
        let name = String::from_utf8_lossy(path).into_owned();
        for (first, lines) in hunks(&String::from_utf8_lossy(&content)) {
            if left == 0 {
                text.push_str("\nand more, which is not shown\n");
                return Ok(text);
            }
            text.push_str(&format!("\n{name}, line {first}:\n"));
            for line in lines.iter().take(left) {
                text.extend(line.chars().take(COLUMNS_MAX));
                text.push('\n');
            }
            if lines.len() > left {
                text.push_str("(cut)\n");
            }
            left -= lines.len().min(left);
        }
    }
    if let Some(more @ 1..) = found.paths.len().checked_sub(FILES_MAX) {
        text.push_str(&format!("\nand {more} more files\n"));
    }
    Ok(text)
}

/// The files of a tree; `None` for what is absent, no file, too long, or not text.
fn contents(git: &Git, tree: &str, paths: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
    let asked: Vec<Vec<u8>> =
        paths.iter().map(|path| [tree.as_bytes(), b":", path].concat()).collect();
    let input = asked.iter().flat_map(|a| [&a[..], b"\0"].concat()).collect();
    let args = ["cat-file", "-z", "--batch-check=%(objectname) %(objecttype) %(objectsize)"];
    let output = git.feed(&args, input)?;
    let mut rest = &output.stdout[..];
    let mut contents = Vec::new();
    for asked in &asked {
        // What is missing is repeated, and may have line ends in its name.
        let missing = [&asked[..], b" missing\n"].concat();
        if let Some(after) = rest.strip_prefix(&missing[..]) {
            rest = after;
            contents.push(None);
            continue;
        }
        let end = rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        rest = rest.get(end + 1..).unwrap_or_default();
        let mut words = line.split(' ');
        let (object, kind) = (words.next().unwrap_or_default(), words.next());
        let size: u64 = words.next().and_then(|size| size.parse().ok()).unwrap_or(u64::MAX);
        if kind != Some("blob") || size > BYTES_MAX {
            contents.push(None);
            continue;
        }
        let content = git.must("read a file", &["cat-file", "blob", object])?.stdout;
        contents.push((!content.contains(&0)).then_some(content));
    }
    Ok(contents)
}

/// The conflicts of a file: the number of the first line, and the lines with their markers.
fn hunks(content: &str) -> Vec<(usize, Vec<&str>)> {
    let mut hunks = Vec::new();
    let mut open: Option<(usize, Vec<&str>, usize)> = None;
    for (number, line) in content.lines().enumerate() {
        match &mut open {
            None => {
                let length = marker(line, '<');
                // The attribute conflict-marker-size makes them longer.
                if length >= 7 {
                    open = Some((length, vec![line], number + 1));
                }
            }
            Some((length, lines, _)) => {
                lines.push(line);
                // Conflicts between several common pasts are inside, with longer markers.
                if marker(line, '>') == *length {
                    let (_, lines, first) = open.take().unwrap_or_default();
                    hunks.push((first, lines));
                }
            }
        }
    }
    hunks
}

/// The length of the marker that a line begins with.
fn marker(line: &str, sign: char) -> usize {
    let length = line.chars().take_while(|c| *c == sign).count();
    if line[length..].starts_with(' ') { length } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hunks_with_markers_of_any_length() {
        let text = "a\n<<<<<<< x\n1\n||||||| b\n<<<<<<<<< y\n>>>>>>>>> z\n=======\n2\n>>>>>>> q\nb\n\
                    <<<<<<< again\n>>>>>>> q\n<<<<<<<\n";
        let found = hunks(text);
        let firsts: Vec<usize> = found.iter().map(|(first, _)| *first).collect();
        assert_eq!(firsts, [2, 11]);
        assert_eq!(found[0].1.len(), 8);
        let long = hunks("<<<<<<<<<< x\n>>>>>>> no\n>>>>>>>>>> y\n");
        assert_eq!(long[0].1.len(), 3);
        assert!(hunks("<<<<<< six\n>>>>>> six\n").is_empty());
    }
}
