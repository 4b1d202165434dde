//! What people type who come from `xargs` and GNU parallel, and how the same is said here.
//!
//! What can be done under their name is an option of `coord run`. This is the rest.

use crate::error::Error;

/// Options of theirs that there are not, and what to do instead.
const OTHERS: &[(&[&str], &str)] = &[
    (
        &["--link", "--xapply"],
        "write :::+ in place of the second ::: (::::+ for a file): first goes with first",
    ),
    (
        &["--delay"],
        "a job starts when a worker is free; one a second is: coord run -n 1 --sh 'sleep 1; COMMAND {}'",
    ),
    (
        &[
            "--pipe",
            "--pipepart",
            "--pipe-part",
            "--spreadstdin",
            "--block",
            "--block-size",
            "--recstart",
            "--recend",
            "--remove-rec-sep",
            "--rrs",
            "--regexp",
            "--round-robin",
            "--roundrobin",
            "--cat",
            "--fifo",
            "--tee",
        ],
        "a job's standard input is empty: split -l 1000 FILE part. && coord run --sh 'COMMAND < {}' ::: part.*",
    ),
    (
        &["--shuf"],
        "put the list in another order first: shuf LIST > mixed; coord run -a mixed COMMAND",
    ),
    (
        &["--trim"],
        "blanks stay, but for those around columns (--colsep): sed 's/^ *//; s/ *$//' LIST | coord run COMMAND",
    ),
    (
        &["--tty", "--open-tty", "--interactive", "-o", "-p", "--fg"],
        "no job has the terminal, so that none can wait for an answer: run that one by itself",
    ),
    (
        &["-d", "--delimiter"],
        "the end of a line ends an argument, and with -0 a NUL: tr ',' '\\n' < LIST | coord run COMMAND",
    ),
    (&["-L", "-l", "--max-lines"], "-N says how many lines go into one job"),
    (
        &["-s", "-m", "--max-chars", "--xargs"],
        "-X puts as many arguments into a job as fit, -N says how many",
    ),
    (
        &["-t", "--show-limits"],
        "--dry-run prints the commands; --joblog FILE keeps them, and how they ended",
    ),
    (&["-x", "--exit"], "an argument that is too long is a job that fails, and the others run"),
    (
        &["-E", "-e", "--eof"],
        "end the list before it is read: sed '/^END$/,$d' LIST | coord run COMMAND",
    ),
    (&["-i"], "-I TEXT says what stands for the argument, where {} does not suit"),
    (
        &[
            "-S",
            "--sshlogin",
            "--slf",
            "--sshloginfile",
            "--ssh",
            "--onall",
            "--nonall",
            "--transfer",
            "--transferfile",
            "--return",
            "--cleanup",
            "--trc",
            "--basefile",
            "--bf",
            "--hostgroups",
            "--hgrp",
            "--filter-hosts",
            "--controlmaster",
            "-M",
        ],
        "jobs run on this machine; another joins by a directory that both see: coord run --queue DIR, there: coord -C DIR work",
    ),
    (
        &["--workdir", "--wd"],
        "jobs run in the directory that coord run is given in: cd there first",
    ),
    (&["--nice"], "nice -n 10 coord run COMMAND"),
    (
        &["--load", "--memfree", "--memsuspend", "--noswap", "--limit"],
        "-n says how many jobs run at once; [limits] in coord.toml holds for coord work and coord start",
    ),
    (
        &["--env", "--record-env", "--session"],
        "a job has the environment of coord run: export what it needs",
    ),
    (
        &[
            "--will-cite",
            "--citation",
            "--bibtex",
            "--no-notice",
            "--gnu",
            "--group",
            "--no-keep-order",
        ],
        "leave it out: it is so in any case",
    ),
    (
        &["--resume-failed"],
        "--retry-failed runs again what failed; what was not over goes on by itself",
    ),
    (
        &[
            "--plus",
            "--rpl",
            "--parens",
            "--er",
            "--extensionreplace",
            "--bnr",
            "--basenamereplace",
            "--dnr",
            "--dirnamereplace",
            "--bner",
            "--seqreplace",
            "--slotreplace",
            "-U",
        ],
        OTHER_PARTS,
    ),
    (
        &["--files", "--tmpdir", "--tempdir", "--compress", "--compress-program", "--files0"],
        "what jobs print is kept with the run (coord logs); --results DIR writes it to files too",
    ),
    (
        &[
            "--semaphore",
            "--semaphorename",
            "--semaphore-name",
            "--semaphoretimeout",
            "--st",
            "--bg",
        ],
        SEMAPHORE,
    ),
    (
        &["--skip-first-line"],
        "tail -n +2 LIST | coord run COMMAND; --header takes the names of columns from it",
    ),
    (&["--arg-sep", "--arg-file-sep"], "the words are ::: and ::::"),
    (
        &["--process-slot-var"],
        "{%} is the number of the worker: coord run --sh 'NAME={%} COMMAND {}'",
    ),
    (
        &["--shellquote", "--quote"],
        "with --sh each argument is quoted for the place where it stands",
    ),
    (
        &["--tagstring", "--ctag", "--ctagstring"],
        "--tag begins each line with the arguments; other words: --sh 'COMMAND {} | sed \"s/^/WORDS /\"'",
    ),
    (
        &[
            "--termseq",
            "--tmux",
            "--tmuxpane",
            "--sql",
            "--sqlmaster",
            "--sqlworker",
            "--sqlandworker",
        ],
        "coord status, coord logs and coord work look at a run from another terminal: coord runs names its directory",
    ),
    (&["--number-of-cores", "--number-of-cpus", "--number-of-threads"], "nproc"),
];

const OTHER_PARTS: &str = "there are {} {.} {/} {//} {/.} {1} {#} {%} {name}; other parts of a name: \
                           --sh 'x={}; COMMAND \"${x%%.*}\"'";

/// `sem`, and the options that make GNU parallel one.
pub const SEMAPHORE: &str = "tasks that must not run together: coord add --scope NAME -- COMMAND; \
                             at most N at once: coord start -n N";

/// What to do instead of an option of theirs.
pub fn instead_of(option: &str) -> Option<&'static str> {
    OTHERS.iter().find(|(names, _)| names.contains(&option)).map(|(_, instead)| *instead)
}

/// What stands in braces for GNU parallel, and for nobody else.
const BRACES: &[&str] = &[
    "{..}",
    "{...}",
    "{+/}",
    "{+.}",
    "{+..}",
    "{+...}",
    "{/..}",
    "{/...}",
    "{##}",
    "{0#}",
    "{uniq}",
    "{hgrp}",
    "{sep}",
    "{choose_k}",
];

/// Refuses a command with placeholders that only GNU parallel has: what it would print is not what
/// was meant.
///
/// # Errors
/// Which one.
pub fn no_foreign_braces(words: &[String]) -> Result<(), Error> {
    for word in words {
        if word.contains("{=") && word.contains("=}") {
            return Err(Error::usage("{= … =} is Perl for GNU parallel, and coord has no Perl")
                .hint("with --sh the shell does it: coord run --sh 'x={}; COMMAND \"${x%.*}\"'"));
        }
        if let Some(found) = BRACES.iter().find(|braces| word.contains(**braces)) {
            return Err(Error::usage(format!("coord has no placeholder {found}")).hint(OTHER_PARTS));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_option_is_named_once_and_has_its_one_line() {
        let mut seen = std::collections::BTreeSet::new();
        for (names, instead) in OTHERS {
            assert!(!instead.contains('\n') && instead.len() < 130, "{instead}");
            for name in *names {
                assert!(seen.insert(*name), "{name} twice");
                assert_eq!(instead_of(name), Some(*instead));
            }
        }
        assert_eq!(instead_of("--keep-order"), None);
    }

    #[test]
    fn only_braces_of_theirs_are_refused() {
        let check = |word: &str| no_foreign_braces(&[word.to_owned()]);
        for word in ["{}", "a{..", "{1..5}", "{a,b}", "{+x}", "{ = }", "${x}", "{=x", "{.}"] {
            assert!(check(word).is_ok(), "{word}");
        }
        for word in ["{= s/x/y/ =}", "x{..}.png", "{+/}", "{##}", "a{/..}"] {
            assert!(check(word).unwrap_err().hint.is_some(), "{word}");
        }
    }
}
