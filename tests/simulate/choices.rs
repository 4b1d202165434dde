//! Where every decision of a run comes from: drawn at random from a seed, or given.
//!
//! Decisions are numbered. Decision 0 is always the plain one (go on with the same process, no
//! fault), so a run is told completely by its seed and the few decisions that are not 0. That is
//! what a failure prints, what replays it, and what is made smaller.

use std::collections::BTreeMap;

use coord::chaos::dice::Dice;

/// Decisions that are not 0, by their number.
pub type Script = BTreeMap<u32, u32>;

/// The source of decisions of one run.
pub struct Choices {
    dice: Dice,
    given: Option<Script>,
    next: u32,
    /// What was decided.
    pub made: Script,
}

impl Choices {
    /// Decisions drawn from a seed.
    pub fn random(seed: u64) -> Choices {
        Choices { dice: Dice::new(seed ^ 0x5eed), given: None, next: 0, made: Script::new() }
    }

    /// Decisions as given; 0 where nothing is given.
    pub fn scripted(script: Script) -> Choices {
        Choices { dice: Dice::new(0), given: Some(script), next: 0, made: Script::new() }
    }

    /// A script that was made smaller may ask for what cannot happen at this place.
    fn decide(
        &mut self,
        of: u32,
        possible: impl FnOnce(u32) -> bool,
        draw: impl FnOnce(&mut Dice) -> u32,
    ) -> u32 {
        let number = self.next;
        self.next += 1;
        let choice = match &self.given {
            Some(script) => {
                let choice = script.get(&number).copied().unwrap_or(0).min(of - 1);
                if possible(choice) { choice } else { 0 }
            }
            None => draw(&mut self.dice),
        };
        if choice != 0 {
            self.made.insert(number, choice);
        }
        choice
    }

    /// One of `of` possibilities, all alike.
    pub fn below(&mut self, of: u32) -> u32 {
        self.decide(
            of.max(1),
            |_| true,
            |dice| u32::try_from(dice.roll(of.max(1).into())).unwrap_or(0),
        )
    }

    /// True in so many of a million cases.
    pub fn chance(&mut self, per_million: u32) -> bool {
        self.pick(&[per_million]) == 1
    }

    /// 0, or k for the k-th weight (of a million).
    pub fn pick(&mut self, per_million: &[u32]) -> u32 {
        let of = u32::try_from(per_million.len() + 1).unwrap_or(u32::MAX);
        let possible = |choice: u32| choice == 0 || per_million[choice as usize - 1] > 0;
        self.decide(of, possible, |dice| {
            let mut rest = u32::try_from(dice.roll(1_000_000)).unwrap_or(0);
            for (at, weight) in per_million.iter().enumerate() {
                if rest < *weight {
                    return u32::try_from(at + 1).unwrap_or(0);
                }
                rest -= weight;
            }
            0
        })
    }

    /// As `below`, where a policy of its own proposes.
    pub fn proposed(&mut self, of: u32, proposal: impl FnOnce(&mut Dice) -> u32) -> u32 {
        self.decide(of.max(1), |_| true, |dice| proposal(dice).min(of.max(1) - 1))
    }
}

/// Makes a failing script smaller: leaves decisions out, in ever smaller pieces, as long as `fails`
/// says that the run still fails. At most `tries` runs.
pub fn shrink(script: &Script, mut tries: u32, mut fails: impl FnMut(&Script) -> bool) -> Script {
    let mut best = script.clone();
    let mut piece = best.len().div_ceil(2).max(1);
    while tries > 0 {
        let mut smaller = false;
        let mut from = 0;
        while from < best.len() && tries > 0 {
            let keys: Vec<u32> = best.keys().copied().collect();
            let cut = &keys[from..keys.len().min(from + piece)];
            let mut candidate = best.clone();
            candidate.retain(|key, _| !cut.contains(key));
            tries -= 1;
            if fails(&candidate) {
                best = candidate;
                smaller = true;
            } else {
                from += piece;
            }
        }
        if piece == 1 && !smaller {
            break;
        }
        piece = (piece / 2).max(1);
    }
    best
}

/// A script as text: `12:1,40:3`.
pub fn to_text(script: &Script) -> String {
    let parts: Vec<String> = script.iter().map(|(at, choice)| format!("{at}:{choice}")).collect();
    parts.join(",")
}

/// The script that a text stands for; `None` if it is none.
pub fn from_text(text: &str) -> Option<Script> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (at, choice) = part.split_once(':')?;
            Some((at.trim().parse().ok()?, choice.trim().parse().ok()?))
        })
        .collect()
}
