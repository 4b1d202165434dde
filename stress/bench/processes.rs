//! Several processes of one program that begin together, and what they used.
//!
//! A program calls `run` with how to submit jobs and how one process works on them. It is started
//! without `--worker`, submits, starts itself once for each process, lets all go at once when the
//! last one is ready, and prints one line of JSON.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};

pub type Outcome<T> = Result<T, Box<dyn Error>>;

/// What the program was asked to do.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// A directory of its own.
    pub dir: PathBuf,
    pub processes: u64,
    /// Jobs to submit, and the number of the first one.
    pub jobs: u64,
    pub first: u64,
    /// Jobs to work on; all where 0. The others stay queued.
    pub cycles: u64,
    /// Jobs to submit and work on once more when everything is done; none where 0.
    pub again: u64,
    pub durability: String,
    pub kind: String,
    /// A program to run for each job.
    pub program: Option<PathBuf>,
    /// Work for ever on what comes, instead of until nothing is left.
    pub serve: bool,
    /// Which of the processes this is.
    pub worker: Option<u64>,
}

impl Order {
    fn of_arguments() -> Outcome<Order> {
        let mut order =
            Order { processes: 1, durability: "process".to_owned(), ..Order::default() };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--dir" => order.dir = std::path::absolute(value()?)?,
                "--processes" => order.processes = value()?.parse()?,
                "--jobs" => order.jobs = value()?.parse()?,
                "--first" => order.first = value()?.parse()?,
                "--cycles" => order.cycles = value()?.parse()?,
                "--again" => order.again = value()?.parse()?,
                "--durability" => order.durability = value()?,
                "--kind" => order.kind = value()?,
                "--run" => order.program = Some(value()?.into()),
                "--serve" => order.serve = true,
                "--worker" => order.worker = Some(value()?.parse()?),
                _ => return Err(format!("there is no option {word}").into()),
            }
        }
        if order.dir.as_os_str().is_empty() || order.processes == 0 {
            return Err("--dir DIRECTORY, and at least one process".into());
        }
        Ok(order)
    }

    fn to_arguments(&self, worker: u64) -> Vec<String> {
        let numbers = [
            ("--processes", self.processes),
            ("--jobs", self.jobs),
            ("--first", self.first),
            ("--cycles", self.cycles),
            ("--worker", worker),
        ];
        let mut words: Vec<String> =
            numbers.iter().flat_map(|(name, n)| [(*name).to_owned(), n.to_string()]).collect();
        words.extend(["--durability".to_owned(), self.durability.clone()]);
        words.extend(["--kind".to_owned(), self.kind.clone()]);
        words.extend(["--dir".to_owned(), self.dir.to_string_lossy().into_owned()]);
        if let Some(program) = &self.program {
            words.extend(["--run".to_owned(), program.to_string_lossy().into_owned()]);
        }
        if self.serve {
            words.push("--serve".to_owned());
        }
        words
    }

    /// How many jobs process `worker` may take.
    pub fn share(&self, worker: u64) -> u64 {
        let all = self.cycles;
        if all == 0 {
            return u64::MAX;
        }
        all / self.processes + u64::from(worker < all % self.processes)
    }
}

/// What one process did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Tally {
    pub jobs: u64,
    /// Claims that somebody else had won.
    pub lost: u64,
}

/// Processor time so far, in microseconds: user and system.
fn used() -> Outcome<(i64, i64)> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let us = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    Ok((us(usage.user_time()), us(usage.system_time())))
}

/// The most memory that this process had, in KiB. Not ru_maxrss: that begins with the parent's.
fn most_memory() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

/// What all processes did together.
#[derive(Debug, Default)]
struct Crew {
    wall_s: f64,
    user_us: i64,
    system_us: i64,
    tally: Tally,
    rss_kib: u64,
}

fn crew(order: &Order) -> Outcome<Crew> {
    let program = std::env::current_exe()?;
    let mut children = Vec::new();
    for worker in 0..order.processes {
        let mut child = Command::new(&program)
            .args(order.to_arguments(worker))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().ok_or("no output")?);
        children.push((child, output));
    }
    let mut line = String::new();
    for (_, output) in &mut children {
        line.clear();
        output.read_line(&mut line)?;
        if line != "ready\n" {
            return Err("a process failed before it began".into());
        }
    }
    let begun = Instant::now();
    for (child, _) in &mut children {
        drop(child.stdin.take());
    }
    let mut all = Crew::default();
    for (child, output) in &mut children {
        line.clear();
        output.read_line(&mut line)?;
        all.wall_s = begun.elapsed().as_secs_f64();
        let numbers: Vec<i64> = line.split_whitespace().filter_map(|w| w.parse().ok()).collect();
        let [jobs, lost, user, system, rss] = numbers[..] else {
            return Err("a process failed".into());
        };
        all.tally.jobs += jobs.unsigned_abs();
        all.tally.lost += lost.unsigned_abs();
        all.user_us += user;
        all.system_us += system;
        all.rss_kib = all.rss_kib.max(rss.unsigned_abs());
        child.wait()?;
    }
    Ok(all)
}

fn seconds(us: i64) -> f64 {
    std::time::Duration::from_micros(us.unsigned_abs()).as_secs_f64()
}

/// Runs the whole program: `submit` is given jobs to make, `work` does a process's share and calls
/// the function that it is given when it is ready to begin.
pub fn run(
    submit: fn(&Order) -> Outcome<()>,
    work: fn(&Order, &mut dyn FnMut()) -> Outcome<Tally>,
) -> ExitCode {
    let result = Order::of_arguments().and_then(|order| match order.worker {
        Some(_) => one(&order, work),
        None => all(order, submit),
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            drop(writeln!(std::io::stderr(), "{e}"));
            ExitCode::FAILURE
        }
    }
}

fn all(mut order: Order, submit: fn(&Order) -> Outcome<()>) -> Outcome<()> {
    let (before, begun) = (used()?, Instant::now());
    if order.jobs > 0 {
        submit(&order)?;
    }
    let (wall_s, after) = (begun.elapsed().as_secs_f64(), used()?);
    let first = crew(&order)?;
    let mut line = serde_json::json!({
        "jobs": first.tally.jobs,
        "wall_s": first.wall_s,
        "cpu_user_s": seconds(first.user_us),
        "cpu_system_s": seconds(first.system_us),
        "lost_claims": first.tally.lost,
        "max_rss_kib": first.rss_kib,
        "submit_wall_s": wall_s,
        "submit_cpu_s": seconds(after.0 + after.1 - before.0 - before.1),
        "submit_rss_kib": most_memory()?,
    });
    if order.again > 0 {
        (order.first, order.jobs) = (order.first + order.jobs, order.again);
        order.cycles = 0;
        submit(&order)?;
        let second = crew(&order)?;
        line["again_jobs"] = second.tally.jobs.into();
        line["again_wall_s"] = second.wall_s.into();
        line["again_cpu_s"] = seconds(second.user_us + second.system_us).into();
    }
    writeln!(std::io::stdout(), "{line}")?;
    Ok(())
}

fn one(order: &Order, work: fn(&Order, &mut dyn FnMut()) -> Outcome<Tally>) -> Outcome<()> {
    let mut before = (0, 0);
    let mut failed = None;
    let mut begin = || {
        let mut go = String::new();
        let said = writeln!(std::io::stdout(), "ready");
        // Its end is the sign to begin.
        failed = said.and_then(|()| std::io::stdin().read_line(&mut go)).err();
        before = used().unwrap_or_default();
    };
    let tally = work(order, &mut begin)?;
    let after = used()?;
    if let Some(e) = failed {
        return Err(e.into());
    }
    let (user, system) = (after.0 - before.0, after.1 - before.1);
    let rss = most_memory()?;
    writeln!(std::io::stdout(), "{} {} {user} {system} {rss}", tally.jobs, tally.lost)?;
    Ok(())
}
