//! The options of `coord run` and `coord map`, which end where the command begins, as those of `xargs`
//! do: what stands behind it belongs to the command, whatever it looks like.
//!
//! They are read here before clap sees them, since clap takes an unknown option for the command, and
//! does not take `-kj2` apart where a word of the command may begin with a hyphen.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::error::Error;
use crate::plan::suggest;

use super::args::Cli;
use super::habits;

/// The same words with each option for itself, as `--name=value`, and a `--` before the command.
///
/// # Errors
/// An option that there is not, with what to use instead.
pub fn separate(
    verb: &str,
    options: &Command,
    mut words: impl Iterator<Item = OsString>,
) -> Result<Vec<OsString>, Error> {
    let mut read: Vec<OsString> = Vec::new();
    // By which letters the number of workers was given.
    let mut counts = String::new();
    while let Some(word) = words.next() {
        let bytes = word.as_bytes();
        if bytes == b"--" {
            end(&mut read, None, words.by_ref());
            break;
        }
        if bytes.len() < 2 || bytes[0] != b'-' {
            end(&mut read, Some(word), words.by_ref());
            break;
        }
        if let Some(long) = bytes.strip_prefix(b"--") {
            let name = long.split(|byte| *byte == b'=').next().unwrap_or_default();
            let of = by_long(options, name).ok_or_else(|| unknown(verb, options, &word))?;
            let value = long.get(name.len() + 1..).map(OsStr::from_bytes);
            push(&mut read, of, value.map(OsStr::to_owned), &mut words);
            continue;
        }
        let mut rest = &bytes[1..];
        while let [letter, more @ ..] = rest {
            let letter = char::from(*letter);
            let of =
                by_letter(options, letter).ok_or_else(|| unknown_letter(verb, letter, &word))?;
            if of.get_long() == Some("workers") {
                counts.push(letter);
            }
            if !takes_value(of) {
                push(&mut read, of, None, &mut words);
                rest = more;
                continue;
            }
            let value = more.strip_prefix(b"=").unwrap_or(more);
            let value = (!more.is_empty()).then(|| OsString::from_vec(value.to_vec()));
            push(&mut read, of, value, &mut words);
            break;
        }
    }
    if counts.contains('n') && counts.contains(['j', 'P']) {
        return Err(Error::usage("-n is the number of jobs that run at once, and was given twice")
            .hint(
                "how many lines go into one job, the -n of xargs, is -N here: coord run -N 1 -P 4",
            ));
    }
    Ok(read)
}

/// The rest is the command.
fn end(read: &mut Vec<OsString>, first: Option<OsString>, rest: impl Iterator<Item = OsString>) {
    read.push("--".into());
    read.extend(first);
    read.extend(rest);
}

fn takes_value(option: &Arg) -> bool {
    matches!(option.get_action(), ArgAction::Set | ArgAction::Append)
}

fn by_long<'a>(options: &'a Command, name: &[u8]) -> Option<&'a Arg> {
    let is = |option: &&Arg| {
        let all =
            option.get_long().into_iter().chain(option.get_all_aliases().into_iter().flatten());
        all.into_iter().any(|long| long.as_bytes() == name)
    };
    options.get_arguments().find(is)
}

fn by_letter(options: &Command, letter: char) -> Option<&Arg> {
    let is = |option: &&Arg| {
        let others = option.get_all_short_aliases().into_iter().flatten();
        option.get_short().into_iter().chain(others).any(|short| short == letter)
    };
    options.get_arguments().find(is)
}

fn push(
    read: &mut Vec<OsString>,
    option: &Arg,
    value: Option<OsString>,
    rest: &mut impl Iterator<Item = OsString>,
) {
    let Some(long) = option.get_long() else { return };
    let mut word = OsString::from(format!("--{long}"));
    // A flag with a value, and an option without one, are for clap to refuse.
    let value = if takes_value(option) { value.or_else(|| rest.next()) } else { value };
    if let Some(value) = value {
        word.push("=");
        word.push(value);
    }
    read.push(word);
}

/// An option that there is not.
fn unknown(verb: &str, options: &Command, word: &OsStr) -> Error {
    let word = word.to_string_lossy();
    let name = word.split('=').next().unwrap_or_default();
    let error = no_such(verb, name);
    if let Some(instead) = habits::instead_of(name) {
        return error.hint(instead);
    }
    let longs = options.get_arguments().filter_map(Arg::get_long);
    let longs: Vec<String> = longs.map(|long| format!("--{long}")).collect();
    match suggest::nearest(name, longs.iter().map(String::as_str)) {
        Some(near) => {
            error.hint(format!("did you mean {near}? a command that begins so: ./{word}"))
        }
        None => other(error, verb, name, &word),
    }
}

fn unknown_letter(verb: &str, letter: char, word: &OsStr) -> Error {
    let name = format!("-{letter}");
    let error = no_such(verb, &name);
    match habits::instead_of(&name) {
        Some(instead) => error.hint(instead),
        None => other(error, verb, &name, &word.to_string_lossy()),
    }
}

fn no_such(verb: &str, name: &str) -> Error {
    Error::usage(format!("coord {verb} has no option {name}"))
}

fn other(error: Error, verb: &str, name: &str, word: &str) -> Error {
    let run = verb == "map"
        && Cli::command().find_subcommand("run").is_some_and(|run| {
            let mut run = run.clone();
            run.build();
            let bytes = name.as_bytes();
            match bytes.strip_prefix(b"--") {
                Some(long) => by_long(&run, long).is_some(),
                None => by_letter(&run, char::from(*bytes.last().unwrap_or(&b'-'))).is_some(),
            }
        });
    match run {
        true => {
            error.hint(format!("{name} is of coord run, which runs the jobs here and shows them"))
        }
        false => error.hint(format!("coord {verb} --help; a command that begins so: ./{word}")),
    }
}

/// Options of `coord run` that hardly any other program has.
const OURS: &[&str] = &[
    "--arg-file",
    "--colsep",
    "--durability",
    "--eta",
    "--halt",
    "--joblog",
    "--keep-order",
    "--line-buffer",
    "--max-args",
    "--no-run-if-empty",
    "--results",
    "--retry-failed",
];

/// Options that say where the arguments come from, or how they are written down.
const OF_INPUT: &[&str] = &["-a", "--arg-file", "-0", "--null", "--colsep", "--csv", "--header"];

/// A word behind the command that was hardly meant for it.
pub fn behind(command: &[String]) -> Option<&str> {
    one_of(command, OURS)
}

/// One that other programs know too, but would name the input: worth a word where standard input is
/// read in its place and has nothing.
pub fn input_behind(command: &[String]) -> Option<&str> {
    one_of(command, OF_INPUT)
}

fn one_of<'a>(command: &'a [String], names: &[&str]) -> Option<&'a str> {
    let is = |word: &&String| names.contains(&word.split('=').next().unwrap_or_default());
    command.iter().skip(1).find(is).map(String::as_str)
}

/// What is said of such a word.
pub fn belongs_to_the_command(verb: &str, word: &str) -> String {
    format!(
        "{word} stands behind the command and belongs to it; what is meant for coord comes before: \
         coord {verb} {word} … COMMAND"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<String, Error> {
        let mut all = Cli::command();
        all.build();
        let run = all.find_subcommand("run").unwrap();
        let words = separate("run", run, line.split(' ').map(OsString::from))?;
        Ok(words.join(OsStr::new(" ")).into_string().unwrap())
    }

    #[test]
    fn each_option_is_taken_for_itself() {
        for (line, means) in [
            ("-j2 echo -k", "--workers=2 -- echo -k"),
            ("-kj1 -N2 p", "--keep-order --workers=1 --max-args=2 -- p"),
            ("-0kn 4 p -x", "--null --keep-order --workers=4 -- p -x"),
            ("-P2 --jobs=3 --jobs 4 p", "--workers=2 --workers=3 --workers=4 -- p"),
            ("-P=3 -j-1 p", "--workers=3 --workers=-1 -- p"),
            ("-I{} -a - p", "--replace={} --arg-file=- -- p"),
            ("--csv --colsep , p", "--csv --colsep=, -- p"),
            ("-k -- -k", "--keep-order -- -k"),
            ("-C q --json p", "--dir=q --json -- p"),
            ("-", "-- -"),
            (":::", "-- :::"),
        ] {
            assert_eq!(read(line).unwrap(), means, "{line}");
        }
    }

    #[test]
    fn what_there_is_not_is_told_in_a_line() {
        for (line, says) in [
            ("--link p", ":::+"),
            ("-d, p", "tr ','"),
            ("-kt p", "--dry-run"),
            ("--taag p", "did you mean --tag?"),
            ("--whatever p", "coord run --help"),
            ("-y p", "coord run --help"),
        ] {
            assert!(read(line).unwrap_err().hint.unwrap().contains(says), "{line}");
        }
        let both = read("-n1 -P4 p").unwrap_err();
        assert!(both.hint.unwrap().contains("is -N here"));
    }

    #[test]
    fn words_behind_the_command_that_look_like_ours() {
        let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(behind(&words("p --joblog=x y")), Some("--joblog=x"));
        assert_eq!(behind(&words("--joblog -a list")), None);
        assert_eq!(input_behind(&words("p -a list")), Some("-a"));
        assert_eq!(input_behind(&words("p -n 3 --timeout 4")), None);
    }
}
