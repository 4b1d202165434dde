//! What a worker does when it is signalled: leave after what runs, hand it back, end it at once; stop it
//! and let it go on.
//!
//! The workers of a run hear SIGUSR1, SIGTERM and SIGUSR2 from their front in this order of urgency: a
//! SIGINT or SIGHUP that coord was told to ignore would not reach them.

use nix::libc;

use crate::config::OnTerm;

use super::{Job, Worker};

impl Worker {
    /// SIGTERM does what coord.toml says; SIGINT finishes what runs, a second one hands it back, a
    /// third one ends it at once, as SIGQUIT does.
    pub(super) fn signalled(&mut self, signal: i32) {
        match signal {
            libc::SIGTERM if self.site.config.workers.on_term == OnTerm::Finish => {
                self.leaving = true;
            }
            libc::SIGTERM => (self.leaving, self.hand_back) = (true, true),
            libc::SIGQUIT | libc::SIGUSR2 => {
                (self.leaving, self.hand_back) = (true, true);
                self.at_once();
            }
            // Each front that finds this worker asks for the same: no word of a person, who means more with
            // every ^C.
            libc::SIGUSR1 => self.leaving = true,
            libc::SIGINT | libc::SIGHUP => {
                if self.hand_back {
                    self.at_once();
                }
                self.hand_back |= self.leaving;
                self.leaving = true;
                if let (Job::Running(a), false) = (&self.job, self.hand_back) {
                    let id = &a.lease.key.task;
                    self.tell(&format!(
                        "finishing {id}, then leaving (Ctrl-C again: hand it back)"
                    ));
                }
            }
            libc::SIGTSTP if self.frozen_ms.is_none() => {
                self.frozen_ms = Some(self.now_ms());
                self.site.queue.host.freeze_children(true, &self.options.spare);
            }
            libc::SIGCONT => self.thaw(),
            _ => {}
        }
    }

    /// What is asked to end, from now on and already, is killed without a time of grace.
    fn at_once(&mut self) {
        self.grace_ms = 0;
        let now_ms = self.now_ms();
        let stopped = match &mut self.job {
            Job::Running(attempt) => attempt.stopped.as_mut(),
            Job::Array(stay) => stay.running.as_mut().and_then(|running| running.stopped.as_mut()),
            Job::Idle | Job::Ending(..) => None,
        };
        if let Some((_, kill_at_ms)) = stopped {
            *kill_at_ms = now_ms;
        }
    }

    /// What was stopped goes on; the time does not count for its limit.
    fn thaw(&mut self) {
        let Some(since_ms) = self.frozen_ms.take() else { return };
        self.site.queue.host.freeze_children(false, &self.options.spare);
        let lost_ms = self.now_ms().saturating_sub(since_ms);
        match &mut self.job {
            Job::Running(attempt) => {
                attempt.deadline_ms = attempt.deadline_ms.map(|at_ms| at_ms + lost_ms);
            }
            Job::Array(stay) => {
                if let Some(running) = &mut stay.running {
                    running.since_ms += lost_ms;
                }
            }
            Job::Idle | Job::Ending(..) => {}
        }
    }
}
