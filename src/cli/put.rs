//! `init`, `add`: setting up, and putting work in.

use std::io::Read;
use std::path::Path;

use serde_json::json;

use crate::config;
use crate::error::{Cannot, Error, Exit, Result};
use crate::git::repository::Found;
use crate::plan::suggest;
use crate::plan::units::duration_ms;
use crate::program::fleet;
use crate::queue::init as queue_init;
use crate::queue::record::{Backoff, CardKind, OnDepDead, Spec};
use crate::queue::submit::{Submitted, submit};
use crate::queue::{Queue, archive, evaluate, identity, reserve};
use crate::run::site::{agree, open_queue, read_config, repository_of};
use crate::sys::clock::{parse_rfc3339, rfc3339};
use crate::sys::fs::{Fs, RealFs};
use crate::sys::host::Platform;

use super::Answer;
use super::args::{Add, Cli, Init};
use super::{needs, output, owner, place};

/// `coord init`.
pub fn init(cli: &Cli, args: &Init) -> Answer {
    let here = std::env::current_dir().cannot("find the current directory", Path::new("."))?;
    let root = match (&cli.dir, std::env::var_os("COORD_DIR")) {
        (Some(dir), _) => here.join(dir),
        (None, Some(dir)) if !dir.is_empty() => here.join(dir),
        _ => here.join(".coord"),
    };
    let root = std::path::absolute(&root).cannot("find the directory", &root)?;
    // The parent of a queue called .coord is the project; --dir may name either.
    let named = crate::sys::fs::name_of(&root);
    let root = if cli.dir.is_some() && named != ".coord" && RealFs.exists(&root.join(".coord")) {
        root.join(".coord")
    } else {
        root
    };
    owner::act_where_it_is_made(&root)?;
    let there = RealFs.exists(&root.join("layout.json"));
    if args.adopt {
        return adopt(cli, &root);
    }
    let before = if there { Some(Queue::open(&root, Platform::real())?.durability) } else { None };
    let project = root.parent().unwrap_or(&root).to_owned();
    let durability = read_config(&project)?.queue.durability;
    let queue = queue_init::init_as(&root, Platform::real(), durability)?;
    reserve::make(&queue)?;
    let toml = project.join("coord.toml");
    if !RealFs.exists(&toml) {
        queue.replace(&toml, configuration(args).as_bytes())?;
    } else if args.agent.is_some() || args.workers.is_some() || args.no_git {
        return Err(
            Error::new(Exit::Conflict, "coord.toml is there already: change it there").at(&toml)
        );
    }
    read_config(&project)?;
    if cli.json {
        output::document(&json!({
            "schema": "coord.init/1", "dir": root, "new": !there,
            "durability": queue.durability.word(),
        }));
        return Ok(None);
    }
    if before.is_some_and(|before| before != queue.durability) {
        output::note(&format!("durability changed: {}", queue.durability.word()));
    }
    let state = if there { "there already" } else { "made" };
    output::note(&format!("queue {state}: {}", root.display()));
    let config = read_config(&project)?;
    place::name_passed(&project, &config);
    place::name_copy(&queue)?;
    match repository_of(&project, &config) {
        Found::Usable(_) => {}
        Found::Nothing => output::note("no git repository here: tasks run in this directory"),
        Found::Unusable { why, hint } => {
            output::warn(&format!("{why}: before coord start: {hint}"))
        }
    }
    output::note("next:\n  coord add -- make test\n  coord start -n 3\n  coord status");
    Ok(None)
}

/// `coord init --adopt`.
fn adopt(cli: &Cli, root: &Path) -> Answer {
    let (queue, back) = identity::adopt(&open_queue(root)?)?;
    if cli.json {
        output::document(&json!({
            "schema": "coord.init/1", "dir": root, "new": false, "adopted": true,
            "durability": queue.durability.word(), "handed_back": back,
        }));
        return Ok(None);
    }
    output::note(&format!("queue adopted: {}", root.display()));
    if !back.is_empty() {
        let what = output::cut(&back.join(" "), 200);
        output::note(&format!("handed back, as what runs them runs in the original: {what}"));
    }
    Ok(None)
}

/// The coord.toml that `init` writes: comments, and what was asked for.
fn configuration(args: &Init) -> String {
    let mut text = config::TEMPLATE.to_owned();
    let quoted = |s: &str| toml::Value::String(s.to_owned()).to_string();
    let mut workers = Vec::new();
    if let Some(count) = args.workers {
        workers.push(format!("count = {count}"));
    }
    let mut agent_table = String::new();
    if let Some(agent) = &args.agent {
        if agent.contains([' ', '/', '.']) {
            let words = shlex::split(agent).unwrap_or_else(|| vec![agent.clone()]);
            let words: Vec<String> = words.iter().map(|w| quoted(w)).collect();
            agent_table = format!("\n[agents.own]\ncommand = [{}]\n", words.join(", "));
            workers.push("agent = \"own\"".to_owned());
        } else {
            workers.push(format!("agent = {}", quoted(agent)));
        }
    }
    if !workers.is_empty() {
        text.push_str(&format!("\n[workers]\n{}\n", workers.join("\n")));
    }
    text.push_str(&agent_table);
    if args.no_git {
        text.push_str("\n[worktree]\nisolation = \"none\"\n");
    }
    text
}

/// `coord add`.
pub fn add(cli: &Cli, args: &Add) -> Answer {
    let dir = place::find(cli)?;
    let queue = open_queue(&dir)?;
    let config = read_config(dir.parent().unwrap_or(&dir))?;
    agree(&queue, &config)?;
    if args.title.is_none() && args.argv.is_empty() && args.sh.is_none() && args.prompt.is_none() {
        return Err(Error::usage("what is to be done? give a title, or a command after --")
            .hint("coord add -- make test"));
    }
    let spec = spec_of(&queue, &config, args)?;
    let submitted =
        place::with_proc(&queue, |me| submit(&queue, me, args.id.as_deref(), spec.clone()))?;
    for on in unknown(&queue, &spec) {
        output::warn(&format!("there is no task {on} yet: {} waits for it", submitted.id()));
    }
    if !spec.role.is_empty() || !spec.needs.is_empty() {
        let members = fleet::members(&queue);
        let workers: Vec<&fleet::Member> =
            members.iter().filter(|m| m.kind == CardKind::Worker && m.lives()).collect();
        if let Some((kind, name)) = needs::lack(None, &workers, &spec) {
            let helps = needs::what_helps(kind, &name);
            output::warn(&format!("no worker has {kind} {name}: {helps}"));
        }
    }
    report(cli, &submitted);
    Ok(None)
}

fn report(cli: &Cli, submitted: &Submitted) {
    if cli.json {
        let new = matches!(submitted, Submitted::New(_));
        output::document(&json!({ "schema": "coord.add/1", "id": submitted.id(), "new": new }));
    } else {
        output::line(submitted.id());
    }
}

/// What a task comes after that is not there yet.
pub(super) fn unknown(queue: &Queue, spec: &Spec) -> Vec<String> {
    let ids = spec.after.iter().map(|entry| evaluate::dependency(entry).0.to_owned());
    ids.filter(|id| !is_known(queue, id)).collect()
}

pub(super) fn is_known(queue: &Queue, id: &str) -> bool {
    queue.fs.exists(&queue.layout.task(id).join("spec.json")) || archive::holds(queue, id)
}

fn spec_of(queue: &Queue, config: &config::Config, args: &Add) -> Result<Spec> {
    let duration = |text: &str| duration_ms(text).map_err(Error::usage);
    let mut spec = Spec::new(&title(args));
    let more = args.retries.map(|n| n.saturating_add(1));
    spec.max_attempts = args.attempts.or(more).unwrap_or(config.retry.attempts);
    spec.priority = args.priority.unwrap_or(50);
    spec.after.clone_from(&args.after);
    spec.on_dep_dead = match args.on_dep_dead.as_str() {
        "cancel" => OnDepDead::Cancel,
        "run" => OnDepDead::Run,
        _ => OnDepDead::Block,
    };
    spec.wave = args.wave;
    spec.role = args.role.clone().unwrap_or_default();
    spec.labels.clone_from(&args.label);
    spec.needs.clone_from(&args.needs);
    let root = queue.layout.root().parent().unwrap_or(queue.layout.root());
    spec.scope = super::scope::resolve(root, &args.scope)?;
    spec.merge_after.clone_from(&args.merge_after);
    spec.adds_deps = args.adds_deps;
    spec.into = args.into.clone().unwrap_or_default();
    let asked = args.merge || args.into.is_some() || args.adds_deps || !spec.merge_after.is_empty();
    spec.merge = !args.no_merge && (asked || config.merge.enabled && !args.manual);
    spec.manual = args.manual;
    spec.hold = args.hold;
    spec.argv.clone_from(&args.argv);
    spec.sh = args.sh.clone().unwrap_or_default();
    spec.prompt = prompt(args.prompt.as_deref())?;
    spec.agent = args.agent.clone().unwrap_or_default();
    spec.cwd = args.cwd.clone().unwrap_or_default();
    if let Some(text) = &args.backoff {
        let base_s = std::time::Duration::from_millis(duration(text)?).as_secs_f64();
        spec.backoff = Some(Backoff { base_s, ..config.retry.backoff() });
    }
    if let Some(text) = &args.timeout {
        let limit = std::time::Duration::from_millis(duration(text)?);
        spec.time_limit_s = Some(limit.as_secs_f64());
    }
    if let Some(text) = &args.not_before {
        spec.not_before = Some(match parse_rfc3339(text) {
            Some(_) => text.clone(),
            None => rfc3339(queue.clock.wall_ms().saturating_add(duration(text)?)),
        });
    }
    for pair in &args.env {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Error::usage(format!("`{pair}` is not NAME=VALUE")));
        };
        spec.env.insert(name.to_owned(), value.into());
    }
    if !spec.agent.is_empty() && !config.agents.contains_key(&spec.agent) {
        return Err(unknown_agent(config, &spec.agent));
    }
    spec.by = person();
    Ok(spec)
}

fn unknown_agent(config: &config::Config, name: &str) -> Error {
    let error = Error::usage(format!("coord.toml has no agent `{name}`"));
    match suggest::nearest(name, config.agents.keys().map(String::as_str)) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("add a table [agents.{name}] with a command")),
    }
}

/// Who submits.
pub(super) fn person() -> String {
    let uid = nix::unistd::getuid();
    // Looked up only where it must be: that reads half a dozen files, or asks a server.
    let known = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let named = ["USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let user = named.or_else(known).unwrap_or_else(|| format!("uid {uid}"));
    match std::env::var("COORD_TOKEN") {
        Ok(token) => format!("{user} in {token}"),
        Err(_) => user,
    }
}

/// A title that nobody gave is the command, on one line.
fn title(args: &Add) -> String {
    let text = match (&args.title, &args.sh, &args.prompt) {
        (Some(title), ..) => return title.clone(),
        (None, Some(sh), _) => sh.clone(),
        (None, None, Some(prompt)) => prompt.lines().next().unwrap_or_default().to_owned(),
        (None, None, None) => {
            shlex::try_join(args.argv.iter().map(String::as_str)).unwrap_or_default()
        }
    };
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    output::cut(&plain, 200)
}

fn prompt(text: Option<&str>) -> Result<String> {
    match text {
        None => Ok(String::new()),
        Some("-") => {
            let mut all = String::new();
            let read = std::io::stdin().read_to_string(&mut all);
            read.cannot("read the prompt from standard input", Path::new("-")).map(|_| all)
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => read_text(Path::new(file)),
            None => Ok(text.to_owned()),
        },
    }
}

/// The refusal of a file of the user's.
pub(super) fn cannot_read(path: &Path, cause: std::io::Error) -> Error {
    let message = format!("cannot read {}", path.display());
    Error { cause: Some(cause), ..Error::new(Exit::NotFound, message) }
}

/// Bytes of a text that is read as a whole: a prompt, a checklist.
const TEXT_MAX: usize = 16 << 20;

pub(super) fn read_text(path: &Path) -> Result<String> {
    let bytes = RealFs.read(path, 0, TEXT_MAX + 1).map_err(|cause| cannot_read(path, cause))?;
    if bytes.len() > TEXT_MAX {
        return Err(Error::usage(format!("{} is longer than 16 MiB", path.display()))
            .hint("tasks of JSON may have any length: coord import FILE.jsonl"));
    }
    String::from_utf8(bytes)
        .map_err(|_| Error::usage(format!("{} is not UTF-8 text", path.display())))
}
