//! Who goes next: uniformly at random, or by PCT.
//!
//! PCT (Burckhardt et al., ASPLOS 2010) gives each process a random priority, lets the highest go,
//! and lowers it at a few random steps: a fault that needs d orderings is found with a probability
//! that depends on d and not on the length of the run.

use coord::chaos::dice::Dice;

use crate::world::Actor;

/// How the next one is chosen.
#[derive(Debug, Default, Clone)]
pub struct Policy {
    /// The process that runs now.
    pub current: Option<usize>,
    /// Whom a process that stepped back has made room for.
    pub chosen: Option<Actor>,
    /// How often another one goes, of a million; PCT if 0.
    pub switch_rate: u32,
    /// PCT: the priorities, by actor.
    priorities: Vec<(Actor, u64)>,
    /// PCT: the steps at which the running one falls back.
    changes: Vec<u64>,
    lowest: u64,
}

impl Policy {
    /// Another one goes with this likelihood, of a million.
    pub fn uniform(switch_rate: u32) -> Policy {
        Policy { switch_rate, ..Policy::default() }
    }

    /// PCT with these points of change.
    pub fn pct(changes: Vec<u64>) -> Policy {
        Policy { changes, lowest: 1 << 40, ..Policy::default() }
    }

    /// An index into `all`, whose first is the one that would go on.
    pub fn propose(&mut self, dice: &mut Dice, step: u64, all: &[Actor]) -> u32 {
        if self.changes.is_empty() && self.switch_rate > 0 {
            if all.len() < 2 || dice.roll(1_000_000) >= u64::from(self.switch_rate) {
                return 0;
            }
            return u32::try_from(dice.roll(all.len() as u64)).unwrap_or(0);
        }
        for actor in all {
            if !self.priorities.iter().any(|(known, _)| known == actor) {
                self.priorities.push((*actor, dice.number() | 1 << 41));
            }
        }
        if self.changes.contains(&step)
            && let Some(first) = self.priorities.iter_mut().find(|(actor, _)| *actor == all[0])
        {
            self.lowest -= 1;
            first.1 = self.lowest;
        }
        let of = |actor: &Actor| {
            self.priorities.iter().find(|(known, _)| known == actor).map_or(0, |(_, p)| *p)
        };
        let best = all.iter().enumerate().max_by_key(|(_, actor)| of(actor));
        best.and_then(|(at, _)| u32::try_from(at).ok()).unwrap_or(0)
    }
}
