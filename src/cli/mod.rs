//! What people type: arguments in, text or JSON out. No decision is taken here.

pub mod args;
pub mod arrays;
pub mod chaos;
pub mod compare;
pub mod decide;
pub mod doctor;
pub mod eventlines;
mod follow;
pub mod fsck;
pub mod gc;
pub mod habits;
pub mod help;
pub mod import;
pub mod inside;
pub mod joblist;
pub mod joblogs;
pub mod lastlines;
pub mod listing;
pub mod look;
pub mod map;
pub mod merge;
pub mod needs;
pub mod options;
pub mod output;
pub mod owner;
pub mod place;
pub mod program;
pub mod put;
pub mod run;
pub mod runs;
pub mod scope;
pub mod serve;
pub mod stop;
pub mod why;
pub mod worktree;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Command, CommandFactory, FromArgMatches};

use crate::error::{Error, Exit};
use crate::jobs::exit;
use args::{Cli, Verb};

/// How a verb ended when nothing went wrong: with 0, or with an answer that is "no".
pub type Answer = crate::error::Result<Option<Exit>>;

/// `coord`.
pub fn main() -> ExitCode {
    if let Some(code) = crate::sys::gate::serve() {
        return code;
    }
    let cli = match read(std::env::args_os().collect()) {
        Ok(cli) => cli,
        Err(Refused::Clap(e)) => return usage(&e),
        Err(Refused::Option(e)) => {
            output::error(&e, std::env::args_os().any(|word| word == "--json"));
            return failure(&e);
        }
    };
    output::log_for_people(cli.verbose);
    if let Some(refused) = no_json(&cli) {
        output::error(&refused, true);
        return failure(&refused);
    }
    let answer = match &cli.verb {
        // Its exit status is that of its jobs.
        Some(verb @ Verb::Run(args)) => {
            owner::settle(&cli, verb).and_then(|()| run::run(&cli, args))
        }
        Some(verb) => dispatch(&cli).map(|answer| {
            if let (true, Some(schema)) = (cli.json, told_by_its_schema(verb)) {
                output::document(&serde_json::json!({ "schema": schema }));
            }
            answer.map_or(0, |exit| exit as u8)
        }),
        None => dispatch(&cli).map(|answer| answer.map_or(0, |exit| exit as u8)),
    };
    // What could not be printed is not there, whatever else went well.
    let answer = answer.and_then(|status| output::fault().map_or(Ok(status), Err));
    match answer {
        Ok(status) => ExitCode::from(status),
        Err(e) => {
            output::error(&e, cli.json);
            failure(&e)
        }
    }
}

/// What has no JSON: it prints what others print, or is for a terminal.
fn no_json(cli: &Cli) -> Option<crate::error::Error> {
    let (verb, instead) = match cli.verb.as_ref().filter(|_| cli.json)? {
        Verb::Run(_) => {
            ("run", "coord runs --json says what has become of it, and --joblog of each job")
        }
        Verb::Logs(_) => ("logs", "it prints what the task printed, as it is; coord show --json"),
        Verb::Shell(_) => ("shell", "coord worktree path --json says where the attempt ran"),
        Verb::Checkout(_) => ("checkout", "coord show --json names the branch"),
        _ => return None,
    };
    let what = format!("coord {verb} has no --json");
    Some(crate::error::Error::usage(what).hint(instead))
}

/// The document of a verb that has nothing to say but that it was done.
fn told_by_its_schema(verb: &Verb) -> Option<&'static str> {
    Some(match verb {
        Verb::Pause => "coord.pause/1",
        Verb::Resume => "coord.resume/1",
        Verb::Scale(_) => "coord.scale/1",
        Verb::Stop(_) => "coord.stop/1",
        Verb::Progress(_) => "coord.progress/1",
        _ => return None,
    })
}

/// Reads a command line. That of a verb which is there is read as if there were no other, since clap
/// gives each of the forty its own copy of the global options: a sixth of the instructions of `coord add`.
/// What cannot be read so is read with all of them, and they say what is wrong.
fn read(mut words: Vec<OsString>) -> Result<Cli, Refused> {
    let all = Cli::command();
    let verb = verb_of(words.iter().skip(1)).map(str::to_owned);
    if let Some(verb @ ("run" | "map")) = verb.as_deref() {
        words = separate(&all, verb, words).map_err(Refused::Option)?;
    }
    let verb = verb.and_then(|verb| all.find_subcommand(verb));
    if let Some(verb) = verb {
        let only = Command::new("coord").args(all.get_arguments()).subcommand(verb);
        let matches = only.try_get_matches_from(&words);
        if let Ok(cli) = matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
            return Ok(cli);
        }
    }
    let all = help::for_people(all);
    let mut matches = all.clone().try_get_matches_from(words).map_err(Refused::Clap)?;
    Cli::from_arg_matches_mut(&mut matches).map_err(|e| Refused::Clap(e.format(&mut { all })))
}

/// Why a command line cannot be read.
#[derive(Debug)]
enum Refused {
    Clap(clap::Error),
    /// An option before the command of `run` or `map`.
    Option(crate::error::Error),
}

/// The words with the options before the command taken apart.
fn separate(
    all: &Command,
    verb: &str,
    words: Vec<OsString>,
) -> crate::error::Result<Vec<OsString>> {
    let Some(of) = all.find_subcommand(verb) else { return Ok(words) };
    let mut only = Command::new("coord").args(all.get_arguments()).subcommand(of);
    only.build();
    let Some(options) = only.find_subcommand(verb) else { return Ok(words) };
    let mut words = words.into_iter();
    let mut read: Vec<OsString> = Vec::new();
    for word in words.by_ref() {
        let is_verb = word == verb
            && !read.is_empty()
            && read.last().is_none_or(|last| last != "-C" && last != "--dir");
        read.push(word);
        if is_verb {
            break;
        }
    }
    read.extend(options::separate(verb, options, words)?);
    Ok(read)
}

/// The exit status of an error. Of a run, small numbers are jobs that failed.
fn failure(error: &crate::error::Error) -> ExitCode {
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    let is_run = verb_of(words.iter()) == Some("run");
    ExitCode::from(if is_run { exit::OTHER } else { error.exit as u8 })
}

/// The word of a command line that should be its verb.
fn verb_of<'a>(mut words: impl Iterator<Item = &'a OsString>) -> Option<&'a str> {
    while let Some(word) = words.next() {
        match word.to_str() {
            Some("-C" | "--dir") => drop(words.next()),
            Some(option) if option.starts_with('-') => {}
            word => return word,
        }
    }
    None
}

/// What clap says, with its own exit codes (0 for --help, 2 for wrong usage).
fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is no failure of ours.
    match error.use_stderr() {
        // It shows what was typed, which may have come from anywhere.
        true => output::complaint(&error.render().to_string()),
        false => drop(error.print()),
    }
    let words: Vec<OsString> = std::env::args_os().skip(1).collect();
    match u8::try_from(error.exit_code()).unwrap_or(2) {
        0 => ExitCode::SUCCESS,
        // Its small numbers are jobs.
        _ if verb_of(words.iter()) == Some("run") => ExitCode::from(exit::OTHER),
        status => ExitCode::from(status),
    }
}

fn dispatch(cli: &Cli) -> Answer {
    let verb = cli.verb.as_ref().unwrap_or(&Verb::Status(args::Status { count: None }));
    owner::settle(cli, verb)?;
    match verb {
        Verb::Init(a) => put::init(cli, a),
        Verb::Add(a) => put::add(cli, a),
        Verb::Dismiss(a) => needs::dismiss(cli, a),
        Verb::Import(a) => import::import(cli, a),
        Verb::Status(a) => look::status(cli, a),
        Verb::Ls(a) => look::ls(cli, a),
        Verb::Show(a) => look::show(cli, a),
        Verb::Why(a) => why::why(cli, a),
        Verb::Workers => look::workers(cli),
        Verb::Logs(a) => follow::logs(cli, a),
        Verb::Events(a) => follow::events(cli, a),
        Verb::Wait(a) => follow::wait(cli, a),
        Verb::Cancel(a) => decide::cancel(cli, a),
        Verb::Hold(a) => decide::hold(cli, a),
        Verb::Release(a) => decide::release(cli, a),
        Verb::Retry(a) => decide::retry(cli, a),
        Verb::Done(a) => decide::done(cli, a),
        Verb::Fail(a) => decide::fail(cli, a),
        Verb::Run(a) => run::run(cli, a).map(|status| (status != 0).then_some(Exit::No)),
        Verb::Runs => listing::runs(cli),
        Verb::Map(a) => map::map(cli, a),
        Verb::Start(a) => serve::start(cli, a),
        Verb::Stop(a) => stop::stop(cli, a),
        Verb::Scale(a) => serve::scale(cli, a),
        Verb::Pause => serve::pause(cli),
        Verb::Resume => serve::resume(cli),
        Verb::Work(a) => serve::work(cli, a),
        Verb::Context(a) => inside::context(cli, a),
        Verb::Progress(a) => inside::progress(cli, a),
        Verb::Worktree(a) => worktree::worktree(cli, a),
        Verb::Diff(a) => compare::diff(cli, a),
        Verb::Checkout(a) => compare::checkout(cli, a),
        Verb::Shell(a) => compare::shell(cli, a),
        Verb::Merge(a) => merge::merge(cli, a),
        Verb::Mergeq(a) => merge::mergeq(cli, a),
        Verb::Gc(a) => gc::gc(cli, a),
        Verb::Fsck(a) => fsck::fsck(cli, a),
        Verb::Sem(_) => Err(Error::usage("there is no semaphore").hint(habits::SEMAPHORE)),
        Verb::Doctor => doctor::doctor(cli),
        Verb::Chaos(a) => chaos::chaos(cli, a),
        Verb::ChaosHider(a) => chaos::hider(a),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn the_verb_is_found_behind_global_options() {
        let is = |line: &str| verb_of(words(line).iter()) == Some("run");
        assert!(is("run --bad") && is("-C run run -n x") && is("--json --dir x run"));
        assert!(!is("add run") && !is("-C run add") && !is("-v") && !is("map run"));
    }

    #[test]
    fn a_line_means_the_same_whoever_reads_it() {
        for line in [
            "coord",
            "coord --json",
            "coord add x --json -p 3 -- make",
            "coord -C run ps",
            "coord -qC add ls",
            "coord -vv worktree ls",
            "coord worktree gc --dry-run",
            "coord run -n 2 echo {} ::: a b",
        ] {
            let of_all = Cli::command().try_get_matches_from(words(line)).unwrap();
            let of_all = Cli::from_arg_matches(&of_all).unwrap();
            assert_eq!(
                format!("{:?}", read(words(line)).unwrap()),
                format!("{of_all:?}"),
                "{line}"
            );
        }
        for line in ["coord ad x", "coord add --help", "coord add -p x", "coord help", "coord -V"] {
            let of_all =
                help::for_people(Cli::command()).try_get_matches_from(words(line)).unwrap_err();
            let Err(Refused::Clap(e)) = read(words(line)) else { panic!("{line}") };
            assert_eq!(e.to_string(), of_all.to_string(), "{line}");
        }
    }
}
