//! Templates and what GNU parallel makes of them: the table was run through GNU parallel 20221122
//! with a program that prints its arguments, and the same outcomes are expected here.

use super::template::{Command, Job, Template};

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn expand(command: &Command, args: &[&str]) -> Vec<String> {
    let job = Job { seq: 1, slot: 1, args: strings(args) };
    let argv = Template::new(command).unwrap().expand(&job).unwrap();
    // What the shell makes of a script is what the program is given.
    match command.sh {
        true => shlex::split(&argv[2]).unwrap(),
        false => argv,
    }
}

/// Command, whether with -X (or -N, which is the same here), values of one job, words.
type Case = (&'static [&'static str], bool, &'static [&'static str], &'static [&'static str]);

const SAME: &[Case] = &[
    (&["p"], false, &["a b"], &["p", "a b"]),
    (&["p"], false, &["a", "c"], &["p", "a", "c"]),
    (&["p", "{}", "{1}"], false, &["a", "b"], &["p", "a", "b", "a"]),
    (&["p", "{}"], false, &["a b", "c d"], &["p", "a b", "c d"]),
    (&["p", "{.}", "{/}"], false, &["d/a.x", "e/b.y"], &["p", "d/a", "e/b", "a.x", "b.y"]),
    (
        &["p", "{2}", "{1}", "{3}", "{-1}", "{-2}"],
        false,
        &["a.x", "c/d"],
        &["p", "c/d", "a.x", "c/d", "a.x"],
    ),
    (&["p", "{2}", "{3}"], false, &["d", "", "f"], &["p", "", "f"]),
    (&["p", "{1}", "{2}"], false, &["g"], &["p", "g"]),
    (
        &["p", "{foo}", "{{}}", "{}", "{0}", "{1x}", "{.1}", "{..}", "{1..}", "{+/}", "{##}", "{1"],
        false,
        &["a"],
        &["p", "{foo}", "{a}", "a", "a", "{1x}", "{.1}", "{..}", "{1..}", "{+/}", "{##}", "{1"],
    ),
    (&["p", "{01}", "{-01}"], false, &["a"], &["p", "a", "a"]),
    (&["p", "{#}", "{%}"], false, &["a"], &["p", "1", "1"]),
    (&["p", "hi"], false, &[], &["p", "hi"]),
    (&["p"], true, &["a", "b", "c"], &["p", "a", "b", "c"]),
    (&["p", "x{}y"], true, &["a", "b", "c"], &["p", "xay", "xby", "xcy"]),
    (
        &["p", "{}", "x{}y", "{#}", "{%}"],
        true,
        &["a", "b"],
        &["p", "a", "b", "xay", "xby", "1", "1"],
    ),
    (&["p", "x{.}y{/}z"], true, &["d/a.x", "b.y"], &["p", "xd/aya.xz", "xbyb.yz"]),
    (&["p", "{1}", "{2}", "{3}"], true, &["a", "b"], &["p", "a", "b"]),
    (&["p", "{1}-{}"], true, &["a", "b"], &["p", "a-a", "a-b"]),
    (&["p", "{}-{}"], true, &["a", "b"], &["p", "a-a", "b-b"]),
    (&["p", "{}", "end"], true, &["a", "b"], &["p", "a", "b", "end"]),
    (&["p", "p{#}q{}"], true, &["a", "b"], &["p", "p1qa", "p1qb"]),
    (&["p", "{1}"], true, &["a", "b"], &["p", "a"]),
    (&["p", "{1}={2}"], true, &["a", "c", "a", "d"], &["p", "a=c"]),
    (&["p", "{1}-{2}", "{}"], true, &["c"], &["p", "c-", "c"]),
    (&["p", "{-1}", "{1}"], true, &["a", "b", "c"], &["p", "c", "a"]),
];

#[test]
fn as_gnu_parallel() {
    for (argv, many, args, words) in SAME {
        let command = Command { argv: strings(argv), many: *many, ..Command::default() };
        assert_eq!(expand(&command, args), *words, "{argv:?} {args:?}");
        // A shell reads the same words.
        let command = Command { sh: true, ..command };
        assert_eq!(expand(&command, args), *words, "--sh {argv:?} {args:?}");
    }
}

/// GNU parallel gives all to a shell, which splits where a word has several values.
#[test]
fn a_word_stays_a_word_unlike_there() {
    let command = Command { argv: strings(&["p", "x{}y", "--x={}"]), ..Command::default() };
    assert_eq!(expand(&command, &["a", "b"]), ["p", "xa by", "--x=a b"]);
    let command = Command { sh: true, ..command };
    assert_eq!(expand(&command, &["a", "b"]), ["p", "xa", "by", "--x=a", "b"]);
}

#[test]
fn names_of_columns() {
    let names = strings(&["name", "first name", "f"]);
    let argv = strings(&["p {name} {first name} x{f//} {f/.} {no} '{first name.}'"]);
    let command = Command { argv, names, ..Command::default() };
    let words = ["p", "bob", "a b.c", "xd", "e", "{no}", "a b"];
    assert_eq!(expand(&command, &["bob", "a b.c", "d/e.x"]), words);
}

#[test]
fn lines_are_commands() {
    for argv in [vec![], strings(&["{}"]), strings(&[" "])] {
        let command = Command { argv, ..Command::default() };
        assert_eq!(expand(&command, &["p 1 '3 4' {#} {}"]), ["p", "1", "3 4", "{#}", "{}"]);
        let template = Template::new(&command).unwrap();
        for (line, says) in [("a | b", "`|`"), ("  ", "empty line"), ("a 'b", "quote")] {
            let job = Job { seq: 1, slot: 1, args: strings(&[line]) };
            let error = template.expand(&job).unwrap_err();
            assert!(error.message.contains(says), "{}", error.message);
        }
        let template = Template::new(&Command { sh: true, ..command }).unwrap();
        let job = Job { seq: 1, slot: 1, args: strings(&["a | b $x"]) };
        assert_eq!(template.expand(&job).unwrap(), ["sh", "-c", "a | b $x"]);
    }
}

#[test]
fn values_are_quoted_for_where_they_stand() {
    let hostile = "a'b\"; $(rm -r x) `y` \\ \n#";
    for (script, words) in [
        ("p {}", vec!["p", hostile]),
        ("p x{}y", vec!["p", &format!("x{hostile}y")]),
        ("p \"x {} $'\" y", vec!["p", &format!("x {hostile} $'"), "y"]),
        ("p 'x {} \"'", vec!["p", &format!("x {hostile} \"")]),
        ("p \\{} {}", vec!["p", "{}", hostile]),
        ("p '\\'{}", vec!["p", &format!("\\{hostile}")]),
    ] {
        let command = Command { argv: strings(&[script]), sh: true, ..Command::default() };
        let template = Template::new(&command).unwrap();
        let job = Job { seq: 1, slot: 1, args: strings(&[hostile]) };
        let argv = template.expand(&job).unwrap();
        assert_eq!(argv[..2], ["sh", "-c"]);
        assert_eq!(shlex::split(&argv[2]).unwrap(), words, "{script}");
    }
    // Not replaced where it is no value, and with the care that nesting asks for.
    for (script, expanded) in [
        ("p {} # don't {}\nq '{}'", "p 'a b' # don't {}\nq 'a b'"),
        ("p \"$(q {} \"{}\")\"", "p \"$(q 'a b' \"a b\")\""),
        ("p ${1} {}", "p ${1} 'a b'"),
        ("(p {};q)|r", "(p 'a b';q)|r"),
        ("p $#{} ", "p $#'a b' "),
        ("p $(q)#{}", "p $(q)#'a b'"),
        ("cat x | p", "cat x | p 'a b'"),
        ("p ${x#'}'} {}", "p ${x#'}'} 'a b'"),
        ("case $1 in a) p {};; esac", "case $1 in a) p 'a b';; esac"),
    ] {
        let command = Command { argv: strings(&[script]), sh: true, ..Command::default() };
        let job = Job { seq: 1, slot: 1, args: strings(&["a b"]) };
        assert_eq!(Template::new(&command).unwrap().expand(&job).unwrap()[2], expanded, "{script}");
    }
    let many = Command {
        argv: strings(&["(p x{};q '{} z')"]),
        sh: true,
        many: true,
        ..Command::default()
    };
    let job = Job { seq: 1, slot: 1, args: strings(&["1", "2"]) };
    let argv = Template::new(&many).unwrap().expand(&job).unwrap();
    assert_eq!(argv[2], "(p x1 x2;q '1 z' '2 z')");
}

#[test]
fn a_column_that_is_not_there() {
    let job = Job { seq: 1, slot: 1, args: strings(&["x"]) };
    let expand = |argv: &[&str], sh| {
        let command = Command { argv: strings(argv), sh, ..Command::default() };
        Template::new(&command).unwrap().expand(&job).unwrap()
    };
    assert_eq!(expand(&["p", "{2}", "-{2}"], false), ["p", "-"]);
    // A shell drops what is nothing, unless it stands in quotes.
    for (word, means) in [("{2}", &["p"][..]), ("'{2}'", &["p", ""]), ("\"{2}\"", &["p", ""])] {
        let script = expand(&["p", word], true);
        assert_eq!(shlex::split(&script[2]).unwrap(), means, "{word}");
    }
}

#[test]
fn places_where_no_value_can_stand() {
    for (script, says) in [
        ("p `q {}`", "backticks"),
        ("p ${x:-{}}", "${…}"),
        ("p <<E\n{}\nE", "<<"),
        ("p <<E\ndon't\nE", "<<"),
        ("x=\"$(case a in a) p {};; esac)\"", "case"),
        ("p $'\\'' {}", "$'"),
        ("p 'x", "ends inside"),
        ("p \"$(x", "ends inside"),
        ("p # x", "comment"),
    ] {
        let command = Command { argv: strings(&[script]), sh: true, ..Command::default() };
        let error = Template::new(&command).unwrap_err();
        assert!(error.message.contains(says), "{script}: {}", error.message);
        assert!(error.hint.is_some());
    }
}

#[test]
fn values_in_the_script_of_a_shell() {
    for (argv, shell) in [
        (&["sh", "-c", "cat {}"][..], Some("sh")),
        (&["/bin/bash", "-euc", "cat {1}"], Some("/bin/bash")),
        (&["env", "A=1", "bash", "-o", "pipefail", "-c", "x {name}"], Some("bash")),
        (&["sh -c 'cat {}'"], Some("sh")),
        (&["sh", "-c", "cat \"$1\"", "_", "{}"], None),
        (&["sh", "-c", "echo {#}"], None),
        (&["sh", "-c", "{}"], None),
        (&["sh", "{}"], None),
        (&["grep", "-c", "{}x"], None),
    ] {
        let names = strings(&["name"]);
        let command = Command { argv: strings(argv), names, ..Command::default() };
        assert_eq!(Template::new(&command).unwrap().shell_of_script(), shell, "{argv:?}");
    }
    let command = Command { argv: strings(&["sh", "-c", "cat {}"]), ..Command::default() };
    assert_eq!(Template::new(&command).unwrap().program(), Some("sh"));
    let command = Command { argv: strings(&["x{}", "y"]), ..Command::default() };
    assert_eq!(Template::new(&command).unwrap().program(), None);
}

#[test]
fn commands_that_are_refused() {
    for argv in [&["a | b"][..], &["exit {}"], &["exit", "{}"], &["a 'b"]] {
        let command = Command { argv: strings(argv), ..Command::default() };
        assert!(Template::new(&command).unwrap_err().hint.is_some(), "{argv:?}");
    }
    let command =
        Command { argv: strings(&["p", "{}"]), sh: true, many: true, ..Command::default() };
    let job = Job { seq: 1, slot: 1, args: vec!["x".repeat(140_000)] };
    let error = Template::new(&command).unwrap().expand(&job).unwrap_err();
    assert!(error.message.contains("131071"), "{}", error.message);
}

mod properties {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    const PIECES: &[&str] =
        &["a", " ", "{}", "{/.}", "{1}", "{-1//}", "{#}", "{n.}", "{", "é", "}", "'", "\\", "$"];

    fn word() -> impl Strategy<Value = String> {
        vec(prop::sample::select(PIECES), 1..5).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        /// The number of words depends on the command and the number of values alone.
        #[test]
        fn values_are_never_split(words in vec(word(), 1..4), args in vec("[^\0]{0,6}", 1..3), many: bool) {
            let mut argv = strings(&["p"]);
            argv.extend(words);
            let command = Command { argv, many, names: strings(&["n"]), ..Command::default() };
            let template = Template::new(&command).unwrap();
            let of = |args: Vec<String>| template.expand(&Job { seq: 1, slot: 1, args }).unwrap();
            let dull = vec!["x".to_owned(); args.len()];
            prop_assert_eq!(of(args).len(), of(dull).len());
        }

        /// A shell reads in a script what stands in the words without one. (A quoted column that
        /// the job does not have is an empty word there: see `a_column_that_is_not_there`.)
        #[test]
        fn a_script_means_the_same(words in vec("[a{}/. #%1-]{1,6}", 1..4), value in "[^\0]{0,6}") {
            prop_assume!(!words.iter().any(|word| word.contains("11")));
            let quoted: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            let job = Job { seq: 1, slot: 1, args: vec![value] };
            let expand = |argv: Vec<String>, sh| {
                let mut all = strings(&["p"]);
                all.extend(argv);
                Template::new(&Command { argv: all, sh, ..Command::default() }).unwrap().expand(&job).unwrap()
            };
            let script = expand(quoted, true);
            prop_assert_eq!(shlex::split(&script[2]), Some(expand(words, false)));
        }

        #[test]
        fn what_fits_is_counted(word in word(), args in vec("['\"a^ é!\\\\]{0,9}", 1..4), sh: bool) {
            let command = Command { argv: strings(&["p", &word]), sh, many: true, ..Command::default() };
            if let Ok(template) = Template::new(&command) {
                let weight = template.weight();
                let bytes = weight.fixed + args.iter().map(|arg| weight.of(arg)).sum::<usize>();
                let longest = args.iter().map(String::len).max().unwrap_or(0);
                let slack = 8 * (args.len() + 1) * (2 + 5 * longest);
                let argv = template.expand(&Job { seq: 1, slot: 1, args }).unwrap();
                prop_assert!(argv.iter().map(|word| word.len() + 1).sum::<usize>() <= bytes + slack);
            }
        }

        #[test]
        fn any_script_is_read_or_refused(text in any::<String>(), value in any::<String>()) {
            let command = Command { argv: vec![text], sh: true, ..Command::default() };
            if let Ok(template) = Template::new(&command) {
                let _expanded = template.expand(&Job { seq: 1, slot: 1, args: vec![value] });
            }
        }
    }
}
