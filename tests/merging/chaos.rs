//! Workers, mergers, coordinator and monitor are killed, again and again, while somebody else pushes
//! to the same branch.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use coord::chaos::dice::Dice;

use crate::is_full;
use crate::person::Person;
use crate::scene::Strategy;
use crate::stage::{Stage, WORKERS, Wish};
use crate::support::{Sandbox, kill, patiently_for, until};
use crate::tasks::{Plan, SIXTY, TWENTY_FOUR};

/// What can be killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Worker,
    Merger,
    Coordinator,
    Monitor,
}

/// How often each is chosen: as often as it stands here, in an order of the dice.
const DECK: [Victim; 6] = [
    Victim::Worker,
    Victim::Worker,
    Victim::Merger,
    Victim::Merger,
    Victim::Coordinator,
    Victim::Monitor,
];

/// So long a victim that is not there is waited for; a merger is only there while it merges.
const ABSENT: Duration = Duration::from_secs(5);

/// What a process is, by its command line.
fn victim(args: &[&str]) -> Option<Victim> {
    let (program, rest) = args.split_first()?;
    match (program.rsplit('/').next()?, rest) {
        ("coord-worker", _) => Some(Victim::Worker),
        ("coord-coordinator", _) => Some(Victim::Coordinator),
        ("coord-monitor", _) => Some(Victim::Monitor),
        ("coord", rest) if rest.windows(2).any(|w| w == ["mergeq", "turn"]) => Some(Victim::Merger),
        _ => None,
    }
}

/// The live victims of a sandbox, in the order of their ids.
fn victims(sandbox: &Sandbox) -> Vec<(Victim, i32)> {
    let mut pids = sandbox.processes();
    pids.sort_unstable();
    let kind = |pid: &i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).into_owned();
        let args: Vec<&str> = line.split('\0').collect();
        victim(&args)
    };
    pids.iter().filter_map(|pid| Some((kind(pid)?, *pid))).collect()
}

/// Whether a process has started something that still runs.
fn has_children(pid: i32) -> bool {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    children.is_ok_and(|list| !list.trim().is_empty())
}

/// Kills at random, those first who have something in hand, and counts.
struct Killer<'a> {
    stage: &'a Stage,
    dice: Dice,
    deck: Vec<Victim>,
    kills: BTreeMap<Victim, usize>,
}

impl Killer<'_> {
    fn count(&self) -> usize {
        self.kills.values().sum()
    }

    /// What comes next, of a shuffled deck.
    fn draw(&mut self) -> Victim {
        if self.deck.is_empty() {
            self.deck = DECK.to_vec();
        }
        let at = usize::try_from(self.dice.roll(self.deck.len() as u64)).unwrap_or(0);
        self.deck.swap_remove(at)
    }

    /// A pause that ends early when the branch moves, then one kill, if there is something to kill.
    fn act(&mut self) {
        let head = || self.stage.repo().git(&["rev-parse", "main"]);
        let (before, pause) = (head(), Duration::from_millis(50 + self.dice.roll(450)));
        patiently_for(pause, || head() != before);
        let (wanted, roll) = (self.draw(), self.dice.number());
        patiently_for(ABSENT, || {
            let here = victims(&self.stage.sandbox);
            let here: Vec<i32> =
                here.iter().filter(|(kind, _)| *kind == wanted).map(|(_, pid)| *pid).collect();
            if here.is_empty() {
                self.revive(wanted);
                return false;
            }
            let busy: Vec<i32> = here.iter().copied().filter(|pid| has_children(*pid)).collect();
            let here = if busy.is_empty() { here } else { busy };
            let chosen = usize::try_from(roll % here.len() as u64).unwrap_or(0);
            kill(here[chosen]);
            *self.kills.entry(wanted).or_default() += 1;
            true
        });
        self.revive(Victim::Coordinator);
    }

    /// Nobody else starts a coordinator; it starts all the others. Another one may still be there.
    fn revive(&self, absent: Victim) {
        let is_there = |kind| victims(&self.stage.sandbox).iter().any(|(k, _)| *k == kind);
        if absent == Victim::Coordinator && !is_there(Victim::Coordinator) {
            let output = self.stage.sandbox.coord(&["start", "-n", &WORKERS.to_string()]);
            assert!([0, 5].contains(&output.code), "{output:?}");
        }
    }
}

fn run(plan: Plan, kills: usize, pushes: usize, seed: u64) {
    let stage = Stage::set(Wish {
        plan,
        seed,
        strategy: Strategy::Merge,
        batch: 4,
        kills: true,
        push: false,
        // Who begins anew after its worker's death may find its rival's word already.
        least_bounces: plan.pairs / 3,
    });
    let s = &stage.sandbox;
    let person = Person::join(s, &s.root);
    s.start(WORKERS);
    let mut killer =
        Killer { stage: &stage, dice: Dice::new(seed), deck: Vec::new(), kills: BTreeMap::new() };
    let person = std::thread::scope(|scope| {
        let pushing = scope.spawn(|| person.push_often(pushes));
        // A third at once, the others little by little before each kill: so there is always something
        // to do, and the work is never over before the kills are.
        let (now, later) = stage.tasks.split_at(stage.tasks.len() / 3);
        stage.add(now);
        let mut added = 0;
        // A kill that finds nobody is no kill; so many in vain, and something is wrong.
        for _ in 0..kills * 2 {
            if killer.count() == kills {
                break;
            }
            let due = later.len() * (killer.count() + 1) / kills;
            stage.add(&later[added..due]);
            added = due;
            killer.act();
        }
        stage.add(&later[added..]);
        stage.wait(1);
        pushing.join().unwrap()
    });
    println!("merging: {} kills: {:?}", killer.count(), killer.kills);
    assert!(killer.count() >= kills, "only {} kills: {:?}", killer.count(), killer.kills);
    for kind in DECK {
        assert!(killer.kills.contains_key(&kind), "no {kind:?} was killed: {:?}", killer.kills);
    }
    assert_eq!(person.patches.len(), pushes);
    stage.judge(Some(&person));
}

#[test]
fn whoever_is_killed_and_whoever_pushes_each_change_is_merged_once() {
    if is_full() { run(SIXTY, 40, 20, 21) } else { run(TWENTY_FOUR, 12, 6, 22) }
}

#[test]
fn victims_are_known_by_their_command_lines() {
    let kind = |line: &str| victim(&line.split(' ').collect::<Vec<_>>());
    assert_eq!(kind("/x/coord-worker --dir /q"), Some(Victim::Worker));
    assert_eq!(kind("coord-coordinator"), Some(Victim::Coordinator));
    assert_eq!(kind("/x/coord-monitor"), Some(Victim::Monitor));
    assert_eq!(kind("/x/coord --dir /q mergeq turn default"), Some(Victim::Merger));
    assert_eq!(kind("/x/coord mergeq ls"), None);
    assert_eq!(kind("git mergeq turn"), None);
    assert_eq!(kind(""), None);
}

#[test]
fn the_programs_of_a_fleet_are_found() {
    let sandbox = Sandbox::new();
    sandbox.start(2);
    let all = [Victim::Worker, Victim::Worker, Victim::Coordinator, Victim::Monitor];
    until("the fleet is there", || {
        let mut kinds: Vec<Victim> = victims(&sandbox).into_iter().map(|(k, _)| k).collect();
        kinds.sort_unstable();
        kinds == all
    });
    sandbox.coord(&["stop"]).ok();
    until("it is gone", || victims(&sandbox).is_empty());
}
