//! Simulation: the real transitions and the real ticks of worker and keeper, on a file system,
//! clocks and machines in memory. Every call is a point at which another process may go first, the
//! process may die, stop or get an error. See docs/correctness.md.

mod checker;
mod choices;
#[expect(dead_code, reason = "its parts serve tests/powerloss")]
mod disk;
mod host;
mod machines;
mod memory;
mod mutants;
mod platform;
mod policy;
mod programs;
mod registers;
mod runner;
mod scenario;
mod world;

/// Runs one seed; a failure is made smaller and printed with its steps.
fn check(seed: u64) -> scenario::Outcome {
    let outcome = scenario::run(seed, None, false);
    let Some(violation) = &outcome.violation else { return outcome };
    if std::env::var_os("COORD_SURVEY").is_some() {
        println!("{seed}: {violation}");
        return outcome;
    }
    let kind = |text: &str| text.split(':').next().unwrap_or_default().to_owned();
    let wanted = kind(violation);
    let small = choices::shrink(&outcome.made, 150, |script| {
        let again = scenario::run(seed, Some(script.clone()), false);
        again.violation.is_some_and(|what| kind(&what) == wanted)
    });
    let again = scenario::run(seed, Some(small.clone()), true);
    eprintln!("{}", again.trace.join("\n"));
    panic!(
        "seed {seed}: {violation}\nmade smaller: {}\nreplay: COORD_SEED={seed} COORD_SCRIPT='{}' cargo test --test simulate replay -- --nocapture",
        again.violation.unwrap_or_default(),
        choices::to_text(&small),
    );
}

#[test]
fn seeds() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
    };
    let (first, count) = (number("COORD_SEED", 1), number("COORD_SEEDS", 1000));
    let start = std::time::Instant::now();
    let mut steps = 0;
    let mut injected = std::collections::BTreeMap::new();
    for seed in first..first + count {
        let outcome = check(seed);
        steps += outcome.steps;
        if std::env::var_os("COORD_SLOW").is_some() {
            println!("{seed} {}", outcome.steps);
        }
        for (kind, n) in outcome.injected {
            *injected.entry(kind).or_insert(0u64) += u64::from(n);
        }
    }
    println!(
        "{count} seeds, {steps} steps, {:.0} seeds/s, {injected:?}",
        count as f64 / start.elapsed().as_secs_f64()
    );
}

#[test]
fn replay() {
    let Ok(seed) = std::env::var("COORD_SEED") else { return };
    let Ok(script) = std::env::var("COORD_SCRIPT") else { return };
    let script = choices::from_text(&script).expect("COORD_SCRIPT is like 12:1,40:3");
    let outcome = scenario::run(seed.parse().unwrap(), Some(script), true);
    println!("{}", outcome.trace.join("\n"));
    println!("{:?}", outcome.violation);
}

#[test]
fn search() {
    if std::env::var_os("COORD_SEARCH").is_none() {
        return;
    }
    for (rule, _, _) in mutants::RULES {
        println!("{rule}: {:?}", mutants::catch(rule, 1, mutants::WITHIN));
    }
}
