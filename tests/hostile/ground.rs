//! A live queue: its programs, tasks that must end well, and tasks of which the registers may be forged.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::chance::Chance;
use crate::places::{self, Ids};
use crate::support::Sandbox;
use crate::verbs::Running;

/// A task that must end well.
struct Good {
    id: String,
    /// What its command writes, a line each.
    lines: usize,
}

/// The queue and what goes on in it.
pub struct Ground {
    /// The queue.
    pub s: Sandbox,
    /// Whose the queue is, where that is not the user of the tests.
    pub user: Option<u32>,
    good: Vec<Good>,
    victims: Vec<String>,
}

const VICTIMS: &str = r#"
coord add -q --id held --hold --sh true
coord add -q --id over --sh 'echo said; true'
coord add -q --id broken --attempts 1 --sh false
coord add -q --id behind --after held --sh true
coord add -q --id hand --manual 'by hand'
coord add -q --id gone --sh true
coord add -q --id buried --sh true
coord map -q --id list --sh '[ {} != 2 ]' ::: 1 2 3 4 5
coord add -q --id held2 --hold --role other --sh true
coord start -n 2
coord wait -q over broken gone buried list --timeout 30s
coord gc gone && coord gc --delete buried
if [ $LONG = yes ]; then
    coord add -q --id later --not-before 1h --sh true
    coord add -q --id runs --sh 'until [ -e ../go ]; do sleep 0.2; done'
fi
coord run -q true ::: a
"#;

impl Ground {
    /// A fresh one. `long`: some tasks wait and run as long as it lives.
    pub fn new(long: bool) -> Ground {
        let mut s = Sandbox::new();
        s.configure("[agents]\n");
        s.configure("");
        for dir in ["said", "ran", "outside", "outside/deep"] {
            fs::create_dir(s.beside(dir)).unwrap();
        }
        for file in ["outside/precious", "outside/deep/file"] {
            fs::write(s.beside(file), "what somebody else wrote\n").unwrap();
        }
        fs::write(s.beside("import.md"), "- [ ] a task of a list (manual)\n").unwrap();
        let user = (nix::unistd::geteuid().is_root() && s.as_plain_user()).then_some(65534);
        s.set("LONG", if long { "yes" } else { "no" });
        let made = s.run("sh", &["-c", VICTIMS]);
        assert!(made.code == 0 || made.code == 1, "{made:?}");
        let mut victims =
            ["held", "over", "broken", "behind", "hand", "gone", "buried", "list", "held2"]
                .to_vec();
        if long {
            victims.extend(["later", "runs"]);
        }
        let victims = victims.into_iter().map(str::to_owned).collect();
        Ground { s, user, good: Vec::new(), victims }
    }

    /// Ids for names and verbs.
    pub fn ids(&self) -> Ids {
        let mut good: Vec<String> = self.good.iter().map(|good| good.id.clone()).collect();
        if good.is_empty() {
            good.push("over".to_owned());
        }
        Ids { victims: self.victims.clone(), good }
    }

    /// Hands in a further task that must end well: by a command, or as a file.
    pub fn submit(&mut self, number: usize) -> Option<Running> {
        let id = format!("g{}", self.good.len());
        let last = self.good.last().map(|good| good.id.clone());
        let line = format!("echo $COORD_ATTEMPT >> ../ran/{id}");
        let words = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        let (words, lines) = match (number % 6, last) {
            (1, Some(last)) => {
                (words(&["add", "-q", "--id", &id, "--after", &last, "--sh", &line]), 1)
            }
            (2, _) => {
                let line = format!("{line}; [ $COORD_ATTEMPT -ge 2 ]");
                (words(&["add", "-q", "--id", &id, "--attempts", "9", "--sh", &line]), 2)
            }
            (3, _) => {
                let line = format!("echo {{}} >> ../ran/{id}");
                (words(&["map", "-q", "--id", &id, "--sh", &line, ":::", "1", "2", "3"]), 3)
            }
            (4, _) => {
                let text = serde_json::json!({"id": id, "sh": line, "priority": 1}).to_string();
                let path = self.s.beside("said").join(format!("{id}.json"));
                fs::write(&path, text).unwrap();
                self.own(&path);
                fs::rename(&path, self.s.queue(&format!("incoming/{id}.json"))).unwrap();
                (Vec::new(), 1)
            }
            _ => (words(&["add", "-q", "--id", &id, "--sh", &line]), 1),
        };
        self.good.push(Good { id, lines });
        (!words.is_empty()).then(|| Running::start(&self.s, words, number))
    }

    fn own(&self, path: &Path) {
        std::os::unix::fs::lchown(path, self.user, self.user).unwrap();
    }

    /// Rings every bell, so that all who wait look again.
    pub fn ring(&self) {
        for bell in [
            "ready/bell",
            "ready/default/bell",
            "procs/bell",
            "events/bell",
            "delayed/bell",
            "scopes/bell",
        ] {
            if let Ok(file) = fs::File::options().append(true).open(self.s.queue(bell)) {
                let _ = file.set_modified(std::time::SystemTime::now());
            }
        }
    }

    /// The directories in which something may be planted, by what they are for.
    pub fn places(&self, planted: &[PathBuf]) -> BTreeMap<&'static str, Vec<PathBuf>> {
        let mut all: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
        let root = self.s.queue("");
        let mut todo = vec![PathBuf::new()];
        while let Some(below) = todo.pop() {
            let path = root.join(&below);
            if planted.contains(&path) {
                continue;
            }
            let parts: Option<Vec<&str>> = below.iter().map(|part| part.to_str()).collect();
            let Some(parts) = parts else { continue };
            let is_victim = parts.get(1).is_some_and(|id| self.victims.iter().any(|v| v == id));
            let Some(place) = places::place(&parts, is_victim) else { continue };
            let Ok(dir) = fs::read_dir(&path) else { continue };
            all.entry(place).or_default().push(path);
            let dirs = dir
                .filter_map(|entry| entry.ok())
                .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()));
            todo.extend(dirs.map(|entry| below.join(entry.file_name())));
        }
        all.values_mut().for_each(|paths| paths.sort());
        all
    }

    /// One of the places.
    pub fn place(&self, chance: &mut Chance, planted: &[PathBuf]) -> (&'static str, PathBuf) {
        let all = self.places(planted);
        let names: Vec<&'static str> = all.keys().copied().collect();
        let name = chance.one(&names);
        (name, chance.one(&all[name]))
    }

    /// What is not as it must be in the end: each good task has ended once, by an attempt that was done, and
    /// each of its commands has run once.
    pub fn lost(&self) -> Vec<String> {
        self.good.iter().filter_map(|good| self.fault(good)).collect()
    }

    fn fault(&self, good: &Good) -> Option<String> {
        let Good { id, lines } = good;
        let text = fs::read_to_string(self.s.beside("ran").join(id)).unwrap_or_default();
        let ran: Vec<&str> = text.lines().collect();
        let Some(dir) = self.task(id) else {
            return Some(format!("{id} is nowhere; it ran {ran:?}"));
        };
        let mut done = 0;
        for entry in fs::read_dir(&dir).ok()?.filter_map(|entry| entry.ok()) {
            if entry.file_name().to_string_lossy().ends_with(".end") {
                let text = fs::read(entry.path()).unwrap_or_default();
                let end: Value = serde_json::from_slice(&text).unwrap_or_default();
                done += usize::from(end["verdict"] == "done");
            }
        }
        let mut once = ran.clone();
        once.sort_unstable();
        once.dedup();
        if done != 1 || once.len() != ran.len() || ran.len() < *lines {
            return Some(format!(
                "{id} was done {done} times; it ran {ran:?}, should be {lines} lines"
            ));
        }
        None
    }

    fn task(&self, id: &str) -> Option<PathBuf> {
        let live = self.s.queue("tasks").join(id);
        if live.join("spec.json").exists() {
            return Some(live);
        }
        let shards = fs::read_dir(self.s.queue("archive/done")).ok()?;
        let dirs = shards.filter_map(|entry| Some(entry.ok()?.path().join(id)));
        dirs.into_iter().find(|dir| dir.join("spec.json").exists())
    }

    /// What is not as it was outside of the queue.
    pub fn outside(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for file in ["outside/precious", "outside/deep/file"] {
            let text = fs::read_to_string(self.s.beside(file)).unwrap_or_default();
            if text != "what somebody else wrote\n" {
                wrong.push(format!("{file} outside of the queue was changed"));
            }
        }
        let names = fs::read_dir(self.s.beside("outside")).unwrap().count();
        if names != 2 {
            wrong.push("something was made outside of the queue".to_owned());
        }
        wrong
    }

    /// What `coord fsck` finds: severity, path, words.
    pub fn findings(&self) -> Vec<(String, String, String)> {
        let output = self.s.coord(&["fsck", "--json"]);
        let value: Value = serde_json::from_str(&output.stdout).unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let rows = value["findings"].as_array().cloned().unwrap_or_default();
        rows.iter()
            .map(|row| (text(&row["severity"]), text(&row["path"]), text(&row["what"])))
            .collect()
    }

    /// Whether a finding is about a task of which the registers may be forged.
    pub fn is_of_victim(&self, finding: &(String, String, String)) -> bool {
        let (_, path, what) = finding;
        let words = |text: &str| -> Vec<String> {
            text.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect()
        };
        let (path, what) = (words(path), words(what));
        self.victims.iter().any(|id| path.contains(id) || what.contains(id))
    }

    /// The longest that the good tasks may take after the last planting.
    pub const PATIENCE: Duration = Duration::from_secs(40);
}
