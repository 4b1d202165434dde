//! `--joblog`: the log of jobs in the format of GNU parallel, so that its readers read it.
//!
//! Nine columns with a tab between them: number of the job, host (`:` is this one), start in seconds
//! since 1970 and run time in seconds (three decimals, the run time ten wide), bytes sent to the job
//! (0: nothing is copied anywhere), bytes that it wrote to standard output, exit status (-1: killed
//! by its runner), signal, command. A new line in the command is written as a NUL, as GNU parallel
//! does, so that each job has one line.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::sys::escaped::{has_escapes, unescape};

/// The first line.
pub const HEADER: &str =
    "Seq\tHost\tStarttime\tJobRuntime\tSend\tReceive\tExitval\tSignal\tCommand\n";

/// A job that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Its number, from 1.
    pub seq: u64,
    /// Where it ran; `:` for this host.
    pub host: String,
    /// When it began, seconds since 1970.
    pub started_s: f64,
    /// How long it ran, seconds.
    pub runtime_s: f64,
    /// How many bytes it wrote to standard output.
    pub receive: u64,
    /// What it exited with; 0 where a signal ended it; -1 where its runner killed it.
    pub exit: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
    /// The command, as [`shown`] has it.
    pub command: String,
}

/// Appends the line of a job, with its end.
pub fn push_line(out: &mut String, job: &Finished) {
    let Finished { seq, host, started_s, runtime_s, receive, exit, signal, command } = job;
    // Writing to a string cannot fail.
    let _written = write!(
        out,
        "{seq}\t{host}\t{started_s:.3}\t{runtime_s:>10.3}\t0\t{receive}\t{exit}\t{signal}\t"
    );
    out.extend(command.chars().map(|c| if c == '\n' { '\0' } else { c }));
    out.push('\n');
}

/// A command as a shell would take it; a script that a shell runs is shown as it is. Bytes that are not
/// UTF-8 stand as `$'\xff'`, which bash, zsh and others read back, as they do the rest.
pub fn shown(argv: &[String]) -> String {
    if argv.iter().any(|word| has_escapes(word)) {
        return argv.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
    }
    if let [sh, c, script] = argv
        && sh == "sh"
        && c == "-c"
    {
        return script.clone();
    }
    // It only fails for words with a NUL, which no command has.
    shlex::try_join(argv.iter().map(String::as_str)).unwrap_or_else(|_| argv.join(" "))
}

fn quoted(word: &str) -> String {
    if !has_escapes(word) {
        return shlex::try_quote(word).map_or_else(|_| word.to_owned(), Cow::into_owned);
    }
    let mut text = "$'".to_owned();
    for chunk in unescape(word).utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\'' | '\\' => text.extend(['\\', c]),
                c if c.is_control() => text.extend(bytes_of(c)),
                c => text.push(c),
            }
        }
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}")));
    }
    text.push('\'');
    text
}

fn bytes_of(c: char) -> impl Iterator<Item = String> {
    c.to_string().into_bytes().into_iter().map(|byte| format!("\\x{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_can_be_read_back() {
        let argv = ["cat", "a b", "it's\\\u{10FEFF}é\n1"].map(str::to_owned);
        assert_eq!(shown(&argv), "cat 'a b' $'it\\'s\\\\\\xffé\\x0a1'");
        let argv = ["sh", "-c", "cat '\u{10FEFF}'"].map(str::to_owned);
        assert_eq!(shown(&argv), "sh -c $'cat \\'\\xff\\''");
    }

    /// Lines of GNU parallel 20221122, and what they were for.
    #[test]
    fn byte_by_byte() {
        for (seq, started_s, runtime_s, receive, exit, signal, argv, line) in [
            (
                1,
                1_795_295_905.023,
                0.0,
                0,
                3,
                0,
                &["sh", "-c", "exit 3"][..],
                "1\t:\t1795295905.023\t     0.000\t0\t0\t3\t0\texit 3\n",
            ),
            (
                4,
                1_795_295_905.06,
                1.217,
                0,
                0,
                0,
                &["sleep", "1.2"],
                "4\t:\t1795295905.060\t     1.217\t0\t0\t0\t0\tsleep 1.2\n",
            ),
            (
                3,
                1_795_295_905.046,
                0.013,
                0,
                0,
                9,
                &["sh", "-c", "kill -9 $$"],
                "3\t:\t1795295905.046\t     0.013\t0\t0\t0\t9\tkill -9 $$\n",
            ),
            (
                1,
                1_795_295_907.319,
                1.811,
                0,
                -1,
                15,
                &["sleep", "5"],
                "1\t:\t1795295907.319\t     1.811\t0\t0\t-1\t15\tsleep 5\n",
            ),
            (
                1,
                1_795_295_906.803,
                0.0,
                9,
                0,
                0,
                &["argp", "a b", "x"],
                "1\t:\t1795295906.803\t     0.000\t0\t9\t0\t0\targp 'a b' x\n",
            ),
            (
                1,
                1_795_296_924.431,
                0.052,
                6,
                0,
                0,
                &["argp", "x\ny"],
                "1\t:\t1795296924.431\t     0.052\t0\t6\t0\t0\targp 'x\0y'\n",
            ),
        ] {
            let argv: Vec<String> = argv.iter().map(|word| (*word).to_owned()).collect();
            let (host, command) = (":".to_owned(), shown(&argv));
            let job = Finished { seq, host, started_s, runtime_s, receive, exit, signal, command };
            let mut out = String::new();
            push_line(&mut out, &job);
            assert_eq!(out, line);
        }
        assert_eq!(HEADER.split('\t').count(), 9);
    }
}
