//! From the words of `coord run` and `coord map` to a list of jobs.

use std::path::PathBuf;

use serde_json::json;

use crate::error::{Cannot, Error, Result};
use crate::jobs::Format;
use crate::jobs::groups::{BYTES_MAX, Grouping, Groups};
use crate::jobs::joblog::shown;
use crate::jobs::rows::{Given, Rows};
use crate::jobs::source::{Origin, SourceArg, split};
use crate::jobs::template::{Command, Job, Template};
use crate::plan::units::duration_ms;
use crate::program::front::feed::Input;
use crate::queue::ids::stable_hash;
use crate::queue::record::{Array, Spec};
use crate::sys::escaped::escape_os;

use super::args::Jobs;
use super::{habits, options, output};

/// Attempts to end an array, of which each costs one only if the process dies that makes it.
const CLOSINGS_MAX: u32 = 1000;

/// A list of jobs that was asked for.
pub struct Listed {
    /// What the jobs have in common.
    pub command: Command,
    /// Where their arguments come from.
    pub input: Box<dyn Input>,
    /// Where they run.
    pub cwd: PathBuf,
    /// The queue that jobs reach, where that is not the one that they lie in.
    pub queue: Option<String>,
    /// What to say where the list turns out to be empty.
    pub doubt: Option<String>,
    /// How many values a row has, of which a job may have several.
    pub columns: usize,
    tries: u32,
    timeout_ms: Option<u64>,
    keep_children: bool,
    identity: String,
}

/// Reads the words of `coord VERB` and opens the input. `jobs`: how many will run at once.
pub fn read(verb: &str, args: &Jobs, jobs: usize) -> Result<Listed> {
    let words = args.words.iter().cloned().map(escape_os);
    let (mut argv, mut sources) = split(words.collect());
    if let Some(text) = &args.replace {
        argv = replaced(argv, text)?;
    }
    habits::no_foreign_braces(&argv)?;
    if let Some(word) = options::behind(&argv) {
        output::warn(&options::belongs_to_the_command(verb, word));
    }
    let stdin = sources.is_empty() && args.files.is_empty();
    let behind = options::input_behind(&argv).filter(|_| stdin);
    let doubt = behind.map(|word| options::belongs_to_the_command(verb, word));
    let files = args.files.iter().map(|path| Origin::File(path.clone()));
    sources.splice(0..0, files.map(|origin| SourceArg { origin, linked: false }));
    let format = Format {
        null: args.null,
        colsep: args.colsep.clone(),
        csv: args.csv,
        header: args.header,
        skip_empty: args.no_run_if_empty,
    };
    let rows = Rows::open(&sources, &format)?;
    if rows.from_terminal() && argv.is_empty() {
        return Err(Error::usage("what is to be run?")
            .hint(format!("coord {verb} COMMAND ::: ARG…; coord {verb} --help has examples")));
    }
    if rows.from_terminal() {
        doubt.iter().for_each(|doubt| output::warn(doubt));
        output::note("reading arguments from the terminal, a line each (end: Ctrl-D)");
    }
    let names = rows.names().to_vec();
    // Without rows that are put together, a job has one, however many columns that has.
    let columns = match args.xargs || args.max_args.is_some() {
        true => names.len().max(sources.len()).max(1),
        false => usize::MAX,
    };
    // Several lines of one job go to one placeholder as well.
    let many = args.xargs || args.max_args.is_some_and(|n| n > 1);
    let command = Command { argv, sh: args.sh, many, names };
    let template = Template::new(&command)?;
    if let Some(shell) = template.shell_of_script() {
        output::warn(&format!(
            "an argument is put into the script of `{shell} -c` as it is, and what is in it may be run; \
             write {shell} -c '… \"$1\" …' _ {{}}, or --sh '…'"
        ));
    }
    let cwd = std::env::current_dir().cannot("find the current directory", ".".as_ref())?;
    let timeout_ms = args.timeout.as_deref().map(duration_ms).transpose().map_err(Error::usage)?;
    let files: Vec<String> = sources.iter().map(|source| format!("{source:?}")).collect();
    let cwd_text = escape_os(cwd.clone().into());
    let identity =
        json!([cwd_text, command, files, format!("{format:?}"), args.max_args]).to_string();
    let grouping = Grouping {
        max_args: args.max_args.map(|n| usize::try_from(n).unwrap_or(usize::MAX)),
        many,
        max_bytes: BYTES_MAX,
        jobs,
    };
    let input = Box::new(Groups::new(rows, grouping, template.weight()));
    Ok(Listed {
        command,
        input,
        cwd,
        queue: None,
        doubt,
        columns,
        tries: args.attempts,
        timeout_ms,
        keep_children: false,
        identity,
    })
}

/// The command with `{}` where `text` stands, as `xargs -I` has it.
fn replaced(argv: Vec<String>, text: &str) -> Result<Vec<String>> {
    if text == "{}" {
        return Ok(argv);
    }
    if text.is_empty() || !argv.iter().any(|word| word.contains(text)) {
        return Err(Error::usage(format!("-I {text}: it stands nowhere in the command"))
            .hint("without -I, {} stands for the argument"));
    }
    if argv.iter().any(|word| word.contains("{}")) {
        return Err(Error::usage(format!("the command has {{}} as well as {text} of -I"))
            .hint("leave out -I, and write {} for the argument"));
    }
    Ok(argv.iter().map(|word| word.replace(text, "{}")).collect())
}

impl Listed {
    /// What a job has started goes on when its command has exited. A run with this is another one.
    pub fn keep_children(&mut self) {
        self.keep_children = true;
        self.identity.push_str(" --keep-children");
    }

    /// A name for the run of this command in this directory: for people, and different for others.
    pub fn name(&self) -> String {
        let word = self.command.argv.first().map_or("lines", String::as_str);
        let word = word.split_whitespace().next().unwrap_or("lines");
        let word = word.rsplit('/').next().unwrap_or(word);
        let plain: String =
            word.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '_').take(20).collect();
        let word = if plain.is_empty() { "run".to_owned() } else { plain };
        format!("{word}-{:08x}", stable_hash(self.identity.as_bytes()))
    }

    /// The task that stands for the list.
    pub fn spec(&self, title: &str) -> Result<Spec> {
        let text = match self.command.argv.as_slice() {
            [] => title.to_owned(),
            [line] => line.clone(),
            words => shown(words),
        };
        let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut spec = Spec::new(&output::cut(&plain, 200));
        spec.max_attempts = CLOSINGS_MAX;
        spec.time_limit_s = self.timeout_ms.map(|ms| ms as f64 / 1000.0);
        spec.array = Some(Array {
            command: self.command.argv.clone(),
            sh: self.command.sh,
            many: self.command.many,
            names: self.command.names.clone(),
            tries: self.tries,
            cwd: escape_os(self.cwd.clone().into()),
            queue: self.queue.clone(),
            keep_children: self.keep_children,
        });
        Ok(spec)
    }
}

/// `--dry-run`: the commands, a line each.
pub fn print(mut listed: Listed) -> Result<()> {
    let template = Template::new(&listed.command)?;
    let mut seq = 0;
    while let Some(given) = listed.input.next()? {
        seq += 1;
        let expanded = given.and_then(|args| {
            let job = Job { seq, slot: 1, args };
            template.expand(&job).map_err(|e| e.one_line())
        });
        match expanded {
            Ok(argv) => output::name(&shown(&argv)),
            Err(why) => output::warn(&format!("job {seq} would fail: {why}")),
        }
    }
    Ok(())
}

impl Input for Groups {
    fn next(&mut self) -> Result<Option<Given>> {
        Iterator::next(self).transpose()
    }
    fn would_block(&self) -> bool {
        Groups::would_block(self)
    }
}
