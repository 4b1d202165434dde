//! Commit objects, byte by byte. They are written as objects and not with `git commit-tree`: that
//! one takes the author from the environment and changes him (it strips letters from his name,
//! refuses an empty one), takes the encoding from the configuration, and knows no further headers.
//! So nothing has to be told to leave out hooks and signatures either.

use crate::error::Result;
use crate::git::Git;

/// A commit.
pub struct Commit {
    /// Its tree.
    pub tree: String,
    /// Its parents.
    pub parents: Vec<String>,
    /// `NAME <EMAIL> SECONDS ZONE`, in the encoding of the commit.
    pub author: Vec<u8>,
    /// The same of who made this object.
    pub committer: Vec<u8>,
    /// Other headers: whole lines, with those that continue them.
    pub further: Vec<Vec<u8>>,
    /// The message.
    pub message: Vec<u8>,
}

impl Commit {
    /// Reads one. Signatures are left out: they are of another object.
    pub fn read(git: &Git, commit: &str) -> Result<Commit> {
        let bytes = git.must("read a commit", &["cat-file", "commit", commit])?.stdout;
        Ok(Commit::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Commit {
        let end = bytes.windows(2).position(|two| two == b"\n\n");
        let (head, message) = match end {
            Some(end) => (&bytes[..end], &bytes[end + 2..]),
            None => (bytes, &[][..]),
        };
        let mut headers: Vec<Vec<u8>> = Vec::new();
        for line in head.split(|&b| b == b'\n') {
            match headers.last_mut() {
                Some(last) if line.starts_with(b" ") => {
                    last.push(b'\n');
                    last.extend(line);
                }
                _ => headers.push(line.to_vec()),
            }
        }
        let all = |name: &str| -> Vec<Vec<u8>> {
            let values = headers.iter().filter_map(|h| h.strip_prefix(name.as_bytes()));
            values.map(<[u8]>::to_vec).collect()
        };
        let first = |name: &str| all(name).into_iter().next().unwrap_or_default();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let ours = ["tree ", "parent ", "author ", "committer ", "gpgsig", "mergetag "];
        let is_ours = |h: &&Vec<u8>| !ours.iter().any(|name| h.starts_with(name.as_bytes()));
        Commit {
            tree: text(first("tree ")),
            parents: all("parent ").into_iter().map(text).collect(),
            author: first("author "),
            committer: first("committer "),
            further: headers.iter().filter(is_ours).cloned().collect(),
            message: message.to_vec(),
        }
    }

    /// Writes it; its name.
    ///
    /// # Errors
    /// git refuses an object that is none, such as one with an author without address.
    pub fn write(&self, git: &Git) -> Result<String> {
        let mut bytes = format!("tree {}\n", self.tree).into_bytes();
        for parent in &self.parents {
            bytes.extend(format!("parent {parent}\n").as_bytes());
        }
        bytes.extend([b"author ", &self.author[..], b"\ncommitter ", &self.committer].concat());
        for header in &self.further {
            bytes.extend([b"\n", &header[..]].concat());
        }
        bytes.extend([b"\n\n", &self.message[..]].concat());
        let output = git.feed(&["hash-object", "-t", "commit", "-w", "--stdin"], bytes)?;
        if output.ok() {
            return Ok(output.text().trim().to_owned());
        }
        Err(git.failed("write a commit", &output))
    }
}

/// Who commits, and now, as git writes it.
///
/// # Errors
/// A name without a letter.
pub fn committer(git: &Git) -> Result<Vec<u8>> {
    let output = git.must("find out who commits", &["var", "GIT_COMMITTER_IDENT"])?;
    Ok(output.stdout.trim_ascii_end().to_vec())
}

/// A text without line ends and other control characters.
pub fn one_line(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_end_matches(':').to_owned()
}

/// Lines `NAME: VALUE` at the end of a message. Not with `git interpret-trailers`, which does what
/// the user's configuration says too, also running commands.
pub struct Trailers(Vec<(String, String)>);

impl Trailers {
    /// Those without a value are left out.
    pub fn new(all: &[(&str, &str)]) -> Trailers {
        let all = all.iter().map(|(name, value)| ((*name).to_owned(), one_line(value)));
        Trailers(all.filter(|(_, value)| !value.is_empty()).collect())
    }

    /// The message with each of them once: a name that is there already stays as it is.
    pub fn added_to(&self, message: &[u8]) -> Vec<u8> {
        let mut text = message.trim_ascii_end().to_vec();
        let last: Vec<&[u8]> = last_paragraph(&text);
        let has = |name: &str| {
            last.iter()
                .any(|line| name_of(line).is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes())))
        };
        let missing: Vec<&(String, String)> = self.0.iter().filter(|(n, _)| !has(n)).collect();
        let is_block = !last.is_empty();
        if !missing.is_empty() && !is_block {
            // The first line is the subject, also where there is none.
            text.extend(if text.is_empty() { &b"\n"[..] } else { b"\n\n" });
        } else if is_block {
            text.push(b'\n');
        }
        for (name, value) in &missing {
            text.extend(format!("{name}: {value}\n").as_bytes());
        }
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text
    }
}

/// The lines of the last paragraph if it is one of trailers only, and not the subject.
fn last_paragraph(text: &[u8]) -> Vec<&[u8]> {
    let lines: Vec<&[u8]> = text.split(|&b| b == b'\n').collect();
    let blank = lines.iter().rposition(|line| line.trim_ascii().is_empty());
    let Some(blank) = blank else { return Vec::new() };
    let last = lines[blank + 1..].to_vec();
    let starts = last.first().is_some_and(|line| name_of(line).is_some());
    let continues = |line: &&[u8]| line.starts_with(b" ") || line.starts_with(b"\t");
    let all = last.iter().all(|line| continues(line) || name_of(line).is_some());
    if starts && all { last } else { Vec::new() }
}

/// The name of a line `NAME: VALUE`.
fn name_of(line: &[u8]) -> Option<&[u8]> {
    let colon = line.iter().position(|&b| b == b':')?;
    let name = &line[..colon];
    let fits = !name.is_empty() && name.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    fits.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn added(message: &str) -> String {
        let trailers = Trailers::new(&[("Coord-Task", "W-1"), ("Coord-Worker", "w\n2"), ("X", "")]);
        String::from_utf8(trailers.added_to(message.as_bytes())).unwrap()
    }

    #[test]
    fn trailers_are_added_once() {
        let block = "Coord-Task: W-1\nCoord-Worker: w 2\n";
        assert_eq!(added("subject"), format!("subject\n\n{block}"));
        assert_eq!(added("s\n\nbody\nmore\n\n"), format!("s\n\nbody\nmore\n\n{block}"));
        assert_eq!(added("s\n\nFixes: 3\n  and 4\n"), format!("s\n\nFixes: 3\n  and 4\n{block}"));
        // A subject with a colon is no trailer.
        assert_eq!(added("fix: it\n"), format!("fix: it\n\n{block}"));
        assert_eq!(added(""), format!("\n{block}"));
        assert_eq!(added("s\n\ncoord-task: W-9\n"), "s\n\ncoord-task: W-9\nCoord-Worker: w 2\n");
        for message in ["subject", "", "s\n\nbody", "s\n\nFixes: 3", "- s"] {
            assert_eq!(added(&added(message)), added(message), "{message:?}");
        }
    }

    #[test]
    fn headers_are_kept_but_for_signatures() {
        let bytes = b"tree T\nparent P\nauthor \xe9 <a> 1 +0000\ncommitter c <c> 2 +0000\n\
            gpgsig -----BEGIN\n \n abc\n -----END\nencoding ISO-8859-1\nchange-id x\n y\n\nm\xe9\n\nb";
        let commit = Commit::parse(bytes);
        assert_eq!((commit.tree.as_str(), commit.parents.as_slice()), ("T", &["P".to_owned()][..]));
        assert_eq!(commit.author, b"\xe9 <a> 1 +0000");
        let further = [b"encoding ISO-8859-1".to_vec(), b"change-id x\n y".to_vec()];
        assert_eq!(commit.further, further);
        assert_eq!(commit.message, b"m\xe9\n\nb");
        assert_eq!(Commit::parse(b"tree T\nauthor a\n\n").message, b"");
    }
}
