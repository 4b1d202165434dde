//! From the text of `coord.toml` to a `Config`, table by table.

use super::placeholder::check;
use super::*;

impl Config {
    /// Reads the text of a `coord.toml`; `file` is its name in messages. What it does not say has
    /// its default.
    ///
    /// # Errors
    /// `Usage`, with place, line and a mark under the word: what is not TOML, an unknown key, a
    /// wrong type, a value that is not possible.
    pub fn parse(text: &str, file: &str) -> Result<Config> {
        // Editors of another system begin a file with this mark; every place is counted after it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let source = Source::new(text, file);
        let document = DeTable::parse(text).map_err(|e| source.syntax(&e))?;
        let top = source.table("", Some(document.get_ref()));
        let mut config = Config::default();
        version(&source, &top);
        config.queue.read(&top.table("queue", "[queue]"));
        config.workers.read(&top.table("workers", "[workers]"));
        config.lease.read(&source, &top.table("lease", "[lease]"));
        config.retry.read(&source, &top.table("retry", "[retry]"));
        config.limits.read(&top.table("limits", "[limits]"));
        config.git.read(&source, &top.table("git", "[git]"));
        config.worktree.read(&source, &top.table("worktree", "[worktree]"));
        config.merge.read(&source, &top.table("merge", "[merge]"));
        config.scopes.read(&source, &top.table("scopes", "[scopes]"));
        config.gc.read(&top.table("gc", "[gc]"));
        config.read_agents(&source, &top);
        config.read_env(&source, &top.table("env", "[env]"));
        source.first_problem().map_or(Ok(config), Err)
    }

    fn read_agents(&mut self, source: &Source<'_>, top: &Table<'_>) {
        let agents = top.table("agents", "[agents.NAME]");
        for (name, span, value) in agents.entries() {
            if !is_role(name) {
                let label = "use a-z, 0-9, `_` and `-`, a letter or digit first";
                source.complain(span.clone(), format!("`{name}` cannot name an agent"), label);
            }
            let agent = agents.table(name, &format!("[agents.{name}]"));
            agent.only(&["command"], &[("cmd", "command"), ("argv", "command")]);
            let Some(words) = agent.strings("command", "sh\", \"-c\", \"{prompt}") else {
                if value.get_ref().is_table() && agent.span("command").is_none() {
                    let label = "add command = [\"…\", \"{prompt}\"]";
                    source.complain(span, format!("agent `{name}` has no command"), label);
                }
                continue;
            };
            if words.first().is_none_or(|(program, _)| program.is_empty()) {
                let span = agent.span("command").unwrap_or(span);
                source.complain(span, "the command has no program", "write its name first");
            }
            for (word, span) in &words {
                placeholders(source, word, span.clone(), &AGENT_PLACEHOLDERS);
            }
            let command = words.iter().map(|(word, _)| (*word).to_owned()).collect();
            self.agents.insert(name.to_owned(), Agent { command });
        }
        let workers = top.table("workers", "[workers]");
        // A value of another type was complained of where the table was read.
        let Some(span) = workers.span("agent") else { return };
        let name = self.workers.agent.as_str();
        if !name.is_empty() && !self.agents.contains_key(name) {
            let label = nearest(name, self.agents.keys().map(String::as_str)).map_or_else(
                || format!("add a table [agents.{name}] with its command"),
                |near| format!("did you mean `{near}`?"),
            );
            source.complain(span, format!("there is no agent `{name}`"), label);
        }
    }

    fn read_env(&mut self, source: &Source<'_>, table: &Table<'_>) {
        for (name, span, value) in table.entries() {
            if !is_env_name(name) {
                let label = "letters, digits and `_` are possible, no digit first";
                source.complain(span, format!("`{name}` cannot be set in an environment"), label);
            }
            match value.get_ref().as_str() {
                Some(text) if text.contains('\0') => {
                    source.complain(value.span(), "the value has a NUL character", "leave it out");
                }
                Some(text) => {
                    self.env.insert(name.to_owned(), text.to_owned());
                }
                None => table.wrong_type(name, value, "write a string, such as \"1\""),
            }
        }
    }
}

fn version(source: &Source<'_>, top: &Table<'_>) {
    const TABLES: [&str; 13] = [
        "version", "queue", "workers", "lease", "retry", "limits", "git", "worktree", "merge",
        "scopes", "gc", "agents", "env",
    ];
    for (key, span, _) in top.entries() {
        if LATER.contains(&key) {
            let what = format!("[{key}] is not available in this version");
            source.complain(span, what, "leave it out");
        } else if !TABLES.contains(&key) {
            let label = nearest(key, TABLES).map_or_else(
                || format!("known: {}", TABLES.join(", ")),
                |near| format!("did you mean `{near}`?"),
            );
            source.complain(span, format!("unknown key `{key}`"), label);
        }
    }
    if let Some(number) = top.number("version", 0..=u32::MAX)
        && number != 1
        && let Some(span) = top.span("version")
    {
        let what = format!("version {number} is not known to this program");
        source.complain(span, what, "write version = 1, or use a newer coord");
    }
}

impl Queue {
    fn read(&mut self, table: &Table<'_>) {
        table.only(&["durability", "ageing"], &[("aging", "ageing"), ("sync", "durability")]);
        set(&mut self.durability, table.choice("durability", &Durability::WORDS));
        set(&mut self.ageing, table.number("ageing", 0..=1_000_000));
    }
}

impl Workers {
    fn read(&mut self, table: &Table<'_>) {
        let known = ["count", "agent", "on_term", "rescan", "grace"];
        table.only(&known, &[("number", "count"), ("n", "count"), ("poll", "rescan")]);
        set(&mut self.count, table.number("count", 1..=10_000));
        set(&mut self.agent, table.string("agent", "shell").map(|(name, _)| name.to_owned()));
        let choices = [("requeue", OnTerm::Requeue), ("finish", OnTerm::Finish)];
        set(&mut self.on_term, table.choice("on_term", &choices));
        set(&mut self.rescan_ms, table.duration("rescan", 1));
        set(&mut self.grace_ms, table.duration("grace", 0));
    }
}

impl Lease {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let meant = [("ttl", "expire"), ("timeout", "expire"), ("beat", "heartbeat")];
        table.only(&["expire", "heartbeat"], &meant);
        let heartbeat = table.duration("heartbeat", 1);
        if let Some(expire) = table.duration("expire", 4) {
            self.expire_ms = expire;
            // Who sets the one alone shall not be told to set the other.
            self.heartbeat_ms = expire / 4;
        }
        set(&mut self.heartbeat_ms, heartbeat);
        if heartbeat.is_some()
            && self.heartbeat_ms > self.expire_ms / 3
            && let Some(span) = table.span("heartbeat")
        {
            let most = crate::plan::units::human_duration(self.expire_ms / 3);
            let label = format!("at most {most}, a third of expire, so that two may be late");
            source.complain(span, "`heartbeat` in [lease] is too long", label);
        }
    }
}

impl Retry {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let meant = [("retries", "attempts"), ("max_attempts", "attempts"), ("delay", "backoff")];
        table.only(&["attempts", "backoff", "factor", "max"], &meant);
        set(&mut self.attempts, table.number("attempts", 1..=1000));
        set(&mut self.backoff_ms, table.duration("backoff", 0));
        set(&mut self.factor, table.float("factor", 1.0..=100.0));
        set(&mut self.max_ms, table.duration("max", 0));
        if self.backoff_ms > self.max_ms
            && let Some(span) = table.span("max").or_else(|| table.span("backoff"))
        {
            let label = "make `max` at least as long as `backoff`";
            source.complain(span, "`backoff` in [retry] is longer than `max`", label);
        }
    }
}

impl Limits {
    fn read(&mut self, table: &Table<'_>) {
        let meant = [("time", "timeout"), ("disk", "disk_free"), ("memory", "memory_free")];
        table.only(&["timeout", "disk_free", "memory_free"], &meant);
        self.timeout_ms = table.duration("timeout", 1);
        self.disk_free_bytes = table.size("disk_free");
        set(&mut self.memory_free_bytes, table.size("memory_free"));
    }
}

impl Gc {
    fn read(&mut self, table: &Table<'_>) {
        table.only(&["archive_after"], &[("after", "archive_after"), ("keep", "archive_after")]);
        self.archive_after_ms = table.duration("archive_after", 1);
    }
}

impl Git {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let known = ["base", "identity", "commit", "timeout"];
        let meant = [("branch", "base"), ("author", "identity"), ("limit", "timeout")];
        table.only(&known, &meant);
        set(&mut self.timeout_ms, table.duration("timeout", 1000));
        set(&mut self.base, table.string("base", "main").map(|(base, _)| base.to_owned()));
        if self.base.starts_with('-')
            && let Some(span) = table.span("base")
        {
            source.complain(span, "`base` in [git] begins with `-`", "name a branch or a commit");
        }
        let choices =
            [("agent", CommitBy::Agent), ("worker", CommitBy::Worker), ("none", CommitBy::None)];
        set(&mut self.commit, table.choice("commit", &choices));
        let identity = table.table("identity", "identity = { name = \"…\", email = \"…\" }");
        identity.only(&["name", "email"], &[("mail", "email"), ("user", "name")]);
        for (key, field) in [("name", &mut self.identity_name), ("email", &mut self.identity_email)]
        {
            let Some((text, span)) = identity.string(key, "coord {worker}") else { continue };
            if text.trim().is_empty() || text.contains(['<', '>', '\n', '\0']) {
                let label = "one line without < and >, and not empty";
                source.complain(span.clone(), format!("git cannot use this {key}"), label);
            }
            placeholders(source, text, span, &["worker"]);
            *field = text.to_owned();
        }
    }
}

impl Worktree {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let known = ["isolation", "root", "keep", "copy", "link", "setup"];
        let meant = [
            ("dir", "root"),
            ("path", "root"),
            ("cache", "keep"),
            ("files", "copy"),
            ("symlink", "link"),
            ("script", "setup"),
        ];
        table.only(&known, &meant);
        let choices = [
            ("worktree", Isolation::Worktree),
            ("clone", Isolation::Clone),
            ("none", Isolation::None),
        ];
        let isolation = table.choice("isolation", &choices);
        self.isolation_named = isolation.is_some();
        set(&mut self.isolation, isolation);
        if let Some((root, span)) = table.string("root", POOL) {
            if root.trim().is_empty() || root.contains('\0') {
                let label = "write a directory, such as \"../{repo}.coord\"";
                source.complain(span.clone(), "`root` in [worktree] is empty", label);
            }
            placeholders(source, root, span, &["repo"]);
            self.root = root.to_owned();
        }
        for (key, field) in
            [("keep", &mut self.keep), ("copy", &mut self.copy), ("link", &mut self.link)]
        {
            set(field, paths(source, table, key));
        }
        if let Some((setup, span)) = table.string("setup", "pnpm i") {
            if setup.contains('\0') {
                source.complain(span, "`setup` in [worktree] has a NUL character", "leave it out");
            }
            self.setup = setup.to_owned();
        }
    }
}

impl Merge {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let known = [
            "enabled",
            "into",
            "strategy",
            "check",
            "check_timeout",
            "batch",
            "max_bounces",
            "on_bounce",
            "push",
        ];
        let meant = [
            ("target", "into"),
            ("branch", "into"),
            ("method", "strategy"),
            ("command", "check"),
            ("test", "check"),
            ("timeout", "check_timeout"),
            ("bounces", "max_bounces"),
            ("on_conflict", "on_bounce"),
            ("remote", "push"),
        ];
        table.only(&known, &meant);
        set(&mut self.enabled, table.boolean("enabled"));
        let choices =
            [("merge", MergeBy::Merge), ("rebase", MergeBy::Rebase), ("squash", MergeBy::Squash)];
        set(&mut self.strategy, table.choice("strategy", &choices));
        for (key, field, example) in [
            ("into", &mut self.into, "main"),
            ("check", &mut self.check, "cargo test"),
            ("push", &mut self.push, "origin"),
        ] {
            let Some((text, span)) = table.string(key, example) else { continue };
            if text.contains('\0') || (key != "check" && text.starts_with('-')) {
                let what = format!("`{key}` in [merge] cannot be `{}`", text.escape_debug());
                source.complain(span, what, format!("write something like \"{example}\""));
            }
            text.clone_into(field);
        }
        self.check_timeout_ms = table.duration("check_timeout", 1);
        set(&mut self.batch, table.number("batch", 1..=1000));
        set(&mut self.max_bounces, table.number("max_bounces", 0..=1000));
        let choices = [("resolve", OnBounce::Resolve), ("again", OnBounce::Again)];
        self.on_bounce = table.choice("on_bounce", &choices);
    }
}

impl Scopes {
    fn read(&mut self, source: &Source<'_>, table: &Table<'_>) {
        let meant = [("on_outside", "outside"), ("common", "shared")];
        table.only(&["outside", "shared"], &meant);
        let choices = [("fail", Outside::Fail), ("warn", Outside::Warn)];
        set(&mut self.outside, table.choice("outside", &choices));
        let Some(paths) = table.strings("shared", "Cargo.lock") else { return };
        for (path, span) in &paths {
            if let Err(what) = crate::plan::scope::normal(path) {
                source.complain(span.clone(), what, "name a file or a directory");
            }
        }
        self.shared = paths.into_iter().map(|(path, _)| path.to_owned()).collect();
    }
}

/// Paths that stay below the directory they count from.
fn paths(source: &Source<'_>, table: &Table<'_>, key: &str) -> Option<Vec<String>> {
    let mut paths = Vec::new();
    for (path, span) in table.strings(key, "target")? {
        let trimmed = path.strip_prefix("./").unwrap_or(path).trim_end_matches('/');
        let plain =
            |part: &str| !matches!(part, "" | "." | ".." | ".git") && !part.contains(['\0', '\n']);
        if !trimmed.split('/').all(plain) {
            let what = format!("`{path}` in `{key}` does not name something below the project");
            source.complain(span, what, "write a path such as \"target\", without `..`");
        }
        paths.push(trimmed.to_owned());
    }
    Some(paths)
}

fn placeholders(source: &Source<'_>, word: &str, span: std::ops::Range<usize>, known: &[&str]) {
    if let Err((what, label)) = check(word, known) {
        source.complain(span, what, label);
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}
