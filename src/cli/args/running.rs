//! `coord run` and `coord map`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

/// What `run` and `map` have in common: the command, and where its arguments come from.
#[derive(Debug, Args)]
pub struct Jobs {
    /// What stands for the argument in place of {}, as the -I of xargs
    #[arg(short = 'I', long, value_name = "TEXT")]
    pub replace: Option<String>,
    /// Read arguments from a file, a line each (repeatable; - is standard input)
    #[arg(short = 'a', long = "arg-file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Arguments end with a NUL, not with a line
    #[arg(short = '0', long)]
    pub null: bool,
    /// Split each line into columns {1} {2} … at this text
    #[arg(long, value_name = "TEXT")]
    pub colsep: Option<String>,
    /// Lines are comma-separated values
    #[arg(long, conflicts_with = "colsep")]
    pub csv: bool,
    /// The first line names the columns: {name}
    #[arg(long)]
    pub header: bool,
    /// So many lines for one job, as {1} {2} … (the -n of xargs)
    #[arg(short = 'N', long, alias = "max-replace-args", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_args: Option<u32>,
    /// As many arguments as fit for one job
    #[arg(short = 'X', long)]
    pub xargs: bool,
    /// Leave out empty lines (with an empty list nothing is run in any case)
    #[arg(short = 'r', long)]
    pub no_run_if_empty: bool,
    /// The command is a line for `sh -c`
    #[arg(long)]
    pub sh: bool,
    /// How often a job that fails is tried, the first time included
    #[arg(long, alias = "retries", value_name = "N", default_value = "1",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub attempts: u32,
    /// The longest that a job may run
    #[arg(long, alias = "limit", value_name = "DURATION")]
    pub timeout: Option<String>,
    /// Print the commands and run nothing
    #[arg(long, alias = "dryrun")]
    pub dry_run: bool,
    /// The command, with placeholders: {} {.} {/} {//} {/.} {#} {%} {1} {name}; then `::: ARG…`,
    /// `:::: FILE…`, or lines on standard input
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    pub words: Vec<OsString>,
}

/// What stands below the options of `coord run --help`.
const RUN_HELP: &str = "\
Placeholders, in any word of the command:
  {}  the argument      {.}  without its extension     {#}  number of the job
  {/} its last part     {//} its directory             {%}  number of its worker
  {/.} both             {1} {2} {name}  one column     (none: {} is added at the end)

Examples:
  coord run gzip -9 ::: *.log
  coord run -n 8 convert {} {.}.png ::: *.jpg
  find . -name '*.wav' -print0 | coord run -0 'lame {} mp3/{/.}.mp3'
  coord run --sh 'zcat {} | wc -l > {.}.lines' :::: files.txt
  coord run --csv --header -a pages.csv 'fetch {url} -o {name}.html'
  coord run train --seed {1} --rate {2} ::: 1 2 3 ::: 0.1 0.01     (all combinations)
  coord run :::: commands.txt                                       (a command a line)

Stopped by ^C, a crash or a power cut, the same command goes on where it was: jobs that were over do
not run again. From another terminal, or by hand: coord -C DIR work|status|logs|cancel, where DIR is
what --queue says, or .coord/runs/NAME-K.

Exit status: 0 if every job succeeded, 1-100: so many failed, 101: more, 130: interrupted,
141: nobody reads what it shows, 255: it could not be carried out.";

/// What stands below the options of `coord map --help`.
const MAP_HELP: &str = "\
The list becomes one task; coord work, or the workers of coord start, run its jobs.

Examples:
  coord map --id thumbs convert {} -resize 200 {.}.png ::: *.jpg
  coord wait thumbs && coord logs thumbs
  coord add --after thumbs -- make gallery
  coord show thumbs; coord logs thumbs/17; coord retry thumbs

Given again with the same --id after a crash, it goes on where it was. The placeholders are those of
coord run.";

/// How many workers that is: `8`, `150%` of the cores, `+2` more or `-1` fewer than there are.
fn workers(text: &str) -> Result<u32, String> {
    const MOST: u64 = 10_000;
    let cores = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let number = |digits: &str| {
        let digits: u64 =
            digits.parse().map_err(|_| format!("`{text}` is no number of workers"))?;
        Ok::<u64, String>(digits.min(1_000_000))
    };
    let count = if let Some(percent) = text.strip_suffix('%') {
        (number(percent)? * cores).div_ceil(100)
    } else if let Some(more) = text.strip_prefix('+') {
        cores + number(more)?
    } else if let Some(fewer) = text.strip_prefix('-') {
        cores.saturating_sub(number(fewer)?).max(1)
    } else {
        number(text)?
    };
    match count {
        0 => Err("a worker is started for each job that runs at once: say how many, as in -n 64"
            .to_owned()),
        1..=MOST => Ok(u32::try_from(count).unwrap_or(1)),
        _ => Err(format!("more than {MOST} workers")),
    }
}

/// `coord run`.
#[derive(Debug, Args)]
#[command(after_help = RUN_HELP, args_override_self = true)]
pub struct Run {
    /// How many jobs run at once: a number, or 150% of the cores, or so many more (+1) or fewer (-1) than
    /// there are. The -P of xargs; its -n is -N [default: the number of cores]
    #[arg(short = 'n', long = "workers", visible_short_aliases = ['j', 'P'],
          aliases = ["jobs", "max-procs"], value_name = "N", value_parser = workers)]
    pub workers: Option<u32>,
    /// Keep the run in this directory, where others may join it: coord -C DIR work
    #[arg(long, value_name = "DIR")]
    pub queue: Option<PathBuf>,
    /// As root in the project of another user: run everything as that user
    #[arg(long)]
    pub as_owner: bool,
    /// What the end of a job survives: process (kill -9 of anything; the default), accept (a power
    /// loss too), full. A queue that is there keeps what it was made with
    #[arg(long, value_name = "MODE", value_parser = ["process", "accept", "full"])]
    pub durability: Option<String>,
    /// Begin a new run, even where one with the same command is not finished
    #[arg(long, conflicts_with = "retry_failed")]
    pub fresh: bool,
    /// Go on without reading the input again: it was read to its end, and may have changed since
    #[arg(long, conflicts_with_all = ["fresh", "retry_failed"])]
    pub resume: bool,
    /// Run again what failed in the last run with the same command
    #[arg(long)]
    pub retry_failed: bool,
    /// Show the output of jobs in the order of their arguments
    #[arg(short, long)]
    pub keep_order: bool,
    /// Begin each line of output with the job's arguments and a tab
    #[arg(long)]
    pub tag: bool,
    /// Show what jobs print while they run, a line at a time
    #[arg(long, visible_alias = "lb", alias = "linebuffer", conflicts_with = "ungroup")]
    pub line_buffer: bool,
    /// Show what jobs print while they run, as it comes: lines of several jobs may mix
    #[arg(short, long)]
    pub ungroup: bool,
    /// A line for each job in a file, in the format of GNU parallel
    #[arg(long, value_name = "FILE")]
    pub joblog: Option<PathBuf>,
    /// Write the output of each job to files too: below a directory, or with placeholders in the name
    #[arg(long, value_name = "DIR|NAME")]
    pub results: Option<String>,
    /// Stop before all jobs have run: never, now,fail=1, soon,fail=30%, now,success=1, soon,done=10
    #[arg(
        long,
        alias = "halt-on-error",
        value_name = "WHEN",
        default_value = "never",
        allow_hyphen_values = true
    )]
    pub halt: String,
    /// Leave running what a job has started, such as a server for others, when its command has exited
    #[arg(long)]
    pub keep_children: bool,
    /// Show how far it is, and when it will be done (also with --eta) [default: on a terminal]
    #[arg(long, visible_alias = "eta", alias = "progress")]
    pub bar: bool,
    /// The command, and where its arguments come from
    #[command(flatten)]
    pub jobs: Jobs,
}

/// `coord map`.
#[derive(Debug, Args)]
#[command(after_help = MAP_HELP, args_override_self = true)]
pub struct Map {
    /// Its id [default: the next number]
    #[arg(long)]
    pub id: Option<String>,
    /// A line for people [default: the command]
    #[arg(long)]
    pub title: Option<String>,
    /// 0 to 99, smaller first [default: 50]
    #[arg(short, long, value_name = "0-99")]
    pub priority: Option<u8>,
    /// Only after these tasks are done
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    pub after: Vec<String>,
    /// What kind of worker it wants
    #[arg(long)]
    pub role: Option<String>,
    /// The command, and where its arguments come from
    #[command(flatten)]
    pub jobs: Jobs,
}

/// `coord sem`, which is not there.
#[derive(Debug, Args)]
pub struct Sem {
    /// Whatever was given
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub words: Vec<String>,
}
