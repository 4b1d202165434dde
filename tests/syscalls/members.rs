//! Every step of `steps.txt` as another user: one member of a group prepares the queue, another one or root
//! gives the command that is killed there, and a third looks after what is left. Each with an umask of its own.
//!
//! A process that has outlived its worker, and that is another member's, holds its task, is named, and ends
//! when that member or root looks (`users.rs`). Who is who hangs on the seed.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::case::{Case, names};
use crate::place::Place;
use crate::points;
use crate::situation::*;
use crate::steps::{Line, disturb, listed};
use crate::support::skip;
use crate::users::{MEMBER, OWNER, ROOT, User, Users, absent, let_in};

/// A step, and who does what.
struct Point {
    line: Line,
    prepares: u32,
    disturbed: User,
    who: User,
}

impl Point {
    fn label(&self) -> String {
        let Point { line, prepares, disturbed, who } = self;
        let of = |user: &User| format!("{}/{}", user.uid, user.umask);
        let (killed, last) = (of(disturbed), of(who));
        let Line { step, program, situation } = line;
        format!("{step} {program} of {killed} after {prepares} before {last}, {situation}")
    }

    fn new(line: &Line, prepares: u32) -> Point {
        let words = format!("{} {} {prepares}", line.step, line.program);
        let other = if prepares == OWNER { MEMBER } else { OWNER };
        let pairs: &[(u32, u32)] = if ends_what_runs(line) {
            // Another one could end nothing, and would not come to its step, or wait.
            &[(other, other)]
        } else if is_for_another(line) {
            &[(other, prepares), (other, ROOT)]
        } else if line.program == "coord" {
            &[(MEMBER, OWNER), (OWNER, MEMBER), (ROOT, MEMBER), (MEMBER, ROOT)]
        } else {
            &[(MEMBER, OWNER), (OWNER, MEMBER), (MEMBER, ROOT)]
        };
        let one = points::draw(format!("{words} users")) % pairs.len() as u64;
        let (disturbed, last) = pairs[usize::try_from(one).unwrap()];
        let (disturbed, who) = (User::drawn(disturbed, &words), User::drawn(last, &words));
        Point { line: line.clone(), prepares, disturbed, who }
    }
}

/// Whether what runs has to be ended: by the command what a worker beside it runs, or by who looks a job that
/// waits for its dead worker.
fn ends_what_runs(line: &Line) -> bool {
    let all = [
        "cancel by force",
        "a worker hangs",
        "a worker's directory is removed while it works",
        "the directory of a worker at a list is removed",
    ];
    all.contains(&line.situation.as_str())
}

/// Steps that are for what another user has staged.
const COPIES: [&str; 2] = ["copy.stage", "copy.link"];
const STAGED: [&str; 2] = ["a worker died with a result", "a submitter died"];

fn is_for_another(line: &Line) -> bool {
    COPIES.contains(&line.step.as_str())
}

fn of(step: &str, program: &str, situation: &str) -> Line {
    let (step, program) = (step.to_owned(), program.to_owned());
    Line { step, program, situation: situation.to_owned() }
}

fn all() -> Vec<Point> {
    let mut lines = listed();
    // Whose the queue is that it makes is told by who makes it.
    lines.retain(|line| line.situation != "init");
    for step in COPIES {
        for act in KEEPERS {
            lines.extend(STAGED.map(|situation| of(step, act[0], situation)));
        }
    }
    lines.iter().flat_map(|line| [OWNER, MEMBER].map(|uid| Point::new(line, uid))).collect()
}

/// Plays points, each in a copy of its queue; of the queues each is made when it is first asked for.
fn played(test: &str, what: &str, all: Vec<Point>, most: usize) {
    let place = Place::fast();
    let place = place.path();
    let_in(place);
    if let Some(why) = absent(place) {
        return skip(test, why);
    }
    let of = all.len();
    let all = points::sample(all, most, Point::label);
    let key = |point: &Point| (point.line.situation.clone(), point.prepares);
    let templates: BTreeMap<_, OnceLock<Case>> =
        all.iter().map(|point| (key(point), OnceLock::new())).collect();
    points::run(what, of, &all, Point::label, |point| {
        let template = templates[&key(point)].get_or_init(|| {
            let situation = point.line.played();
            let who = User::drawn(point.prepares, situation.name);
            let name = format!("{} of {}", situation.name, point.prepares);
            let case = Case::shared(&place.join(name), who);
            (situation.prepare)(&case);
            case
        });
        let users = Users { disturbed: point.disturbed, who: point.who };
        let name = point.label().replace('/', "-");
        disturb(&point.line, "crash", || Case {
            users: Some(users),
            ..template.copy(&place.join(&name))
        });
    });
}

#[test]
fn killed_at_a_step_as_another_user() {
    let name = "killed_at_a_step_as_another_user";
    played(name, "at a step as another user", all(), CI_MEMBERS);
}

/// A worker dies when its job has begun, which stays.
pub const OUTLIVED: Situation = Situation {
    name: "a job outlives its worker",
    prepare: |c| {
        queue(c);
        c.add("a", &[], "{ [ $COORD_ATTEMPT != 1 ] || exec sleep 1000; }");
    },
    acts: &[WORK, WORKER],
    tasks: &[done("a")],
    verify: Some(|c, _| {
        assert_eq!(c.verdict("a", 1), "expired");
        let text = |name: &String| std::fs::read_to_string(c.queue("events").join(name)).unwrap();
        let events: String = names(&c.queue("events")).iter().map(text).collect();
        assert!(events.contains("which cannot be ended"), "nobody was told: {events}");
    }),
    ..PLAIN
};

#[test]
fn what_outlives_the_worker_of_a_member_is_waited_for() {
    let points = OUTLIVED.acts.iter().flat_map(|act| {
        let line = of("event.append", act[0], OUTLIVED.name);
        [(OWNER, MEMBER), (MEMBER, OWNER)].map(|(prepares, last)| {
            let mut point = Point::new(&line, prepares);
            // Root need not wait.
            (point.disturbed.uid, point.who.uid) = (prepares, last);
            point
        })
    });
    let name = "what_outlives_the_worker_of_a_member_is_waited_for";
    played(name, "a job outlives its worker", points.collect(), usize::MAX);
}

/// Points of a CI run.
const CI_MEMBERS: usize = 280;
