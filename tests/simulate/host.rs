//! Clocks and machine as one simulated process sees them.

use std::io;
use std::path::Path;
use std::time::Duration;

use coord::sys::alive::EnvMark;
use coord::sys::child::Exit;
use coord::sys::clock::Clock;
use coord::sys::gate::Held;
use coord::sys::host::{Host, Output, ProcessId};
use coord::sys::machine::Place;
use coord::sys::own::Own;
use coord::sys::remains::{Left, Traces};
use coord::sys::spawn::Command;

use crate::machines::{Job, Nature, State};
use crate::platform::{Call, Seat, as_exit, op};
use crate::world::World;

impl Clock for Seat {
    fn wall_ms(&self) -> u64 {
        let world = self.world();
        world.wall_ms(world.processes[self.me].machine)
    }
    fn mono_ms(&self) -> u64 {
        self.world().now_us / 1000
    }
    fn boot_ms(&self) -> u64 {
        self.world().now_us / 1000
    }
    fn random(&self) -> u64 {
        self.world().random()
    }
}

impl Host for Seat {
    fn name(&self) -> String {
        format!("m{}", self.world().processes[self.me].machine)
    }
    fn place(&self) -> Place {
        let world = self.world();
        let machine = world.processes[self.me].machine;
        let boot = format!("boot{}-{machine}", world.machines[machine].boot);
        Place { host_id: format!("machine{machine}"), boot, pidns: 1 }
    }
    fn booted_at_ms(&self) -> u64 {
        let world = self.world();
        let machine = &world.machines[world.processes[self.me].machine];
        let now_ms = world.wall_ms(world.processes[self.me].machine);
        now_ms - (world.now_us - machine.booted_us) / 1000
    }
    fn me(&self) -> ProcessId {
        self.world().processes[self.me].id
    }
    fn mark(&self) -> String {
        format!("mark{}", self.world().processes[self.me].id.pid)
    }
    fn is_shared(&self, _: &Path) -> bool {
        self.world().shared
    }
    fn freeze_children(&self, _: bool, _: &[i32]) {}
    fn memory_free(&self) -> Option<u64> {
        None
    }
    fn disk_space(&self, _: &Path) -> Option<(u64, u64)> {
        Some((1 << 40, 1 << 41))
    }
    fn is_alive(&self, process: ProcessId) -> bool {
        let world = self.world();
        let machine = world.processes[self.me].machine;
        world
            .processes
            .iter()
            .any(|p| p.id == process && p.machine == machine && p.state != State::Dead)
    }
    fn kill(&self, process: ProcessId, _: Option<u32>, _: Duration) -> bool {
        let mut world = self.world();
        let machine = world.processes[self.me].machine;
        let found = world.processes.iter().position(|p| p.id == process && p.machine == machine);
        if let Some(at) = found {
            world.kill(at, "is killed by a keeper");
        }
        true
    }
    fn end_left(&self, traces: &Traces, _: &[i32], _: Duration) -> Vec<Left> {
        let mut world = self.world();
        let machine = world.processes[self.me].machine;
        let tied = |world: &World, job: &Job| {
            let owner = &world.processes[job.owner];
            let own = EnvMark::program(&format!("mark{}", owner.id.pid));
            let carries = traces.mark.as_ref().is_some_and(|mark| {
                job.nature != Nature::Hidden
                    && (*mark == own || *mark == EnvMark::attempt(&job.token))
            });
            // A job of a list is in the session of its worker.
            let led = if job.task.contains('/') { owner.id } else { leader(job.pid) };
            owner.machine == machine
                && job.alive
                && (carries || traces.sessions.iter().any(|session| session.leader == led))
        };
        let found: Vec<usize> =
            (0..world.jobs.len()).filter(|at| tied(&world, &world.jobs[*at])).collect();
        found.into_iter().filter_map(|at| world.end_by_force(at)).collect()
    }
    fn open_output(&self, _: &Path) -> io::Result<Output> {
        Ok(Output(None))
    }
    fn open_own(&self, _: &Path, _: &Path) -> io::Result<Own> {
        Ok(Own::simulated())
    }
    fn spawn(&self, command: &Command<'_>) -> io::Result<i32> {
        let held = self.hold(command)?;
        let pid = held.process().pid;
        self.let_go(held).map(|()| pid)
    }
    fn hold(&self, command: &Command<'_>) -> io::Result<Held> {
        self.step(op(Call::Host, Path::new("hold")), |_| {
            let mut world = self.world();
            let pid = world.next_pid();
            let text = |name: &str| {
                let value = command.env.get(name).unwrap_or_default();
                value.to_string_lossy().into_owned()
            };
            let n = text("COORD_ATTEMPT").parse().unwrap_or(0);
            let argument = command.argv.get(1).and_then(|word| word.to_str());
            let code = exit_code(argument.unwrap_or_default(), n);
            let left = world.choices.below(6);
            let nature = world.nature();
            // A job of an array is told by its number.
            let task = match text("COORD_JOB") {
                number if number.is_empty() => text("COORD_TASK_ID"),
                number => format!("{}/{number}", text("COORD_TASK_ID")),
            };
            let token = text("COORD_TOKEN");
            let owner = self.me;
            // Nothing of it runs yet.
            let (asked, alive) = (false, false);
            world.jobs.push(Job { pid, owner, task, n, token, left, code, asked, alive, nature });
            Ok(Held::simulated(leader(pid)))
        })
    }
    fn let_go(&self, held: Held) -> io::Result<()> {
        self.step(op(Call::Host, Path::new("spawn")), |_| {
            let mut world = self.world();
            let pid = held.process().pid;
            let at = world.jobs.iter().position(|job| job.pid == pid).expect("it was held");
            let mut checker = std::mem::take(&mut world.checker);
            let verdict = checker.spawned(&world, &world.jobs[at]);
            world.checker = checker;
            world.jobs[at].alive = true;
            let text = format!("starts job {}.{}", world.jobs[at].task, world.jobs[at].n);
            world.tell(self.me, || text);
            if let Err(what) = verdict {
                world.violate(what);
            }
            Ok(())
        })
    }
    fn ask_to_end(&self, leader: i32) {
        let mut world = self.world();
        if let Some(job) = world.jobs.iter_mut().find(|job| job.pid == leader) {
            job.asked = true;
        }
    }
    fn end_children(&self, _: &[i32], _: Duration) -> (Vec<(i32, Exit)>, Vec<Left>) {
        let mut world = self.world();
        let own: Vec<usize> =
            (0..world.jobs.len()).filter(|at| world.jobs[*at].owner == self.me).collect();
        let left = own.into_iter().filter_map(|at| world.end_by_force(at)).collect();
        let ended = std::mem::take(&mut world.processes[self.me].ended);
        (ended.into_iter().map(as_exit).collect(), left)
    }
}

/// The process that a job begins with.
fn leader(pid: i32) -> ProcessId {
    ProcessId { pid, start: 1 }
}

/// What a job's command says of its exit: `ok`, `fail:K` (the first K attempts), `temp:K`, `perm`.
fn exit_code(how: &str, n: u32) -> i32 {
    let (word, count) = how.split_once(':').unwrap_or((how, "0"));
    let early = n <= count.parse().unwrap_or(0);
    match word {
        "fail" if early => 1,
        "temp" if early => 75,
        "perm" => 100,
        _ => 0,
    }
}
