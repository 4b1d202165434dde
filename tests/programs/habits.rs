//! What users of xargs and GNU parallel type: it works, or a line says how it is done here.

use crate::run::sh;
use crate::support::Sandbox;

#[test]
fn options_that_are_written_together() {
    let s = Sandbox::new();
    for (line, shown) in [
        ("coord run -j2 echo ::: a", "a\n"),
        ("coord run -n2 echo ::: a", "a\n"),
        ("seq 3 | coord run -kj1 -N2 echo", "1 2\n3\n"),
        ("seq 3 | coord run -P2 -k -N1 echo", "1\n2\n3\n"),
        ("printf 'a\\0b\\0' | coord run -0kj2 echo", "a\nb\n"),
        ("seq 2 | coord run -k -I{} echo x{}", "x1\nx2\n"),
        ("seq 2 | coord run -k -I% echo %-%", "1-1\n2-2\n"),
        ("coord run --jobs 2 -k -k echo ::: a", "a\n"),
        ("coord run -j150% -k echo ::: a", "a\n"),
        ("coord run -j+1 --halt-on-error 0 echo ::: a", "a\n"),
        ("coord run --dryrun -j -1 rm ::: a", "rm a\n"),
        ("coord run -k -- echo -k ::: a", "-k a\n"),
    ] {
        let out = sh(&s, line);
        assert_eq!((out.ok().stdout.as_str(), out.stderr.as_str()), (shown, ""), "{line}");
    }
}

#[test]
fn what_there_is_not_is_refused_with_what_to_do() {
    let s = Sandbox::new();
    for (line, says) in [
        ("coord run --link echo ::: a ::: b", ":::+"),
        ("coord run -k --delay 1 echo ::: a", "sleep 1"),
        ("coord run -j0 echo ::: a", "-n 64"),
        ("coord run -n1 -P4 echo ::: a", "-N here"),
        ("coord run --pipe --block 1M wc", "split -l"),
        ("coord run --recstart '>' wc", "split -l"),
        ("coord run --shuf echo ::: a", "shuf LIST"),
        ("coord run --trim lr echo ::: a", "sed"),
        ("coord run --tty vi ::: a", "terminal"),
        ("coord run -d, echo", "tr ','"),
        ("coord run -L2 echo", "-N"),
        ("coord run -S host echo ::: a", "--queue DIR"),
        ("coord run --plus echo {..} ::: a", "%%.*"),
        ("coord run 'echo {..}' ::: a.b.c", "no placeholder {..}"),
        ("coord run --sh 'echo {+/}' ::: a", "no placeholder {+/}"),
        ("coord run 'echo {= s/a/b/ =}' ::: a", "Perl"),
        ("coord run -I% echo ::: a", "nowhere"),
        ("coord run -I% echo {} % ::: a", "leave out -I"),
        ("coord run --tagstring {#} echo ::: a", "--tag begins each line"),
        ("coord run --whatever echo ::: a", "coord run --help"),
    ] {
        let out = sh(&s, line);
        out.fails(255, says);
        assert!(out.stderr.lines().count() <= 3, "{line}: {}", out.stderr);
    }
    sh(&s, "coord sem -j2 --id x echo a")
        .fails(2, "there is no semaphore")
        .warns("coord add --scope");
    sh(&s, "coord map --joblog x echo ::: a").fails(2, "--joblog is of coord run");
    assert_eq!(crate::run::runs(&s), [""; 0], "nothing was begun");
}

#[test]
fn an_option_behind_the_command_is_told() {
    let s = Sandbox::new();
    s.sh("printf 'url,name\\nu,n\\n' > pages.csv");
    let documented = "coord run --csv --header -a pages.csv 'echo {url} -o {name}.html'";
    assert_eq!(sh(&s, documented).ok().stdout, "u -o n.html\n");
    let behind = sh(&s, "coord run --csv --sh 'echo {1}' -a pages.csv < /dev/null");
    behind.ok().warns("standard input was empty").warns("-a stands behind the command");
    let behind = sh(&s, "coord run echo --joblog log ::: a");
    assert_eq!(behind.ok().warns("--joblog stands behind").stdout, "--joblog log a\n");
    let of_the_command = sh(&s, "echo x | coord run grep -a --header ::: a");
    assert!(!of_the_command.stderr.contains("stands behind"), "{}", of_the_command.stderr);
}

#[test]
fn a_command_that_is_not_there_stops_the_run_before_it_begins() {
    let s = Sandbox::new();
    let words = ["run", "./tool", ":::", "1", "2", "3"];
    s.coord(&words).fails(127, "cannot find the command `./tool`").warns("the same command runs");
    s.sh("echo '#!/nowhere/sh' > tool");
    s.coord(&words).fails(126, "`./tool` is no program").warns("chmod +x");
    s.sh("chmod +x tool");
    s.coord(&words).fails(127, "cannot find the interpreter /nowhere/sh");
    let line = ["run", "fetch it", "-a", "pages.csv"];
    s.coord(&line).fails(127, "`fetch it`").warns("options of coord run come before it");
    assert_eq!(crate::run::runs(&s), [""; 0], "nothing was begun");
    s.sh("printf '#!/bin/sh\\necho $1\\n' > tool");
    assert_eq!(s.coord(&["run", "-k", "./tool", ":::", "1", "2"]).ok().stdout, "1\n2\n");
    // Where the line says which, the others run.
    let lines = sh(&s, "printf 'echo a\\nno-such-program\\necho b\\n' | coord run -k");
    assert_eq!(lines.exits(1).stdout, "a\nb\n");
    s.coord(&["map", "no-such-program", ":::", "1"]).ok().warns("the workers must have it");
}

#[test]
fn a_value_in_the_script_of_a_shell_is_warned_of() {
    let s = Sandbox::new();
    let bad = s.coord(&["run", "sh", "-c", "echo {}", ":::", "a"]);
    assert_eq!(bad.ok().warns("sh -c '… \"$1\" …' _ {}").stdout, "a\n");
    let good = s.coord(&["run", "sh", "-c", "echo \"$1\"", "_", "{}", ":::", "$(touch pwned)"]);
    assert_eq!((good.ok().stdout.as_str(), good.stderr.as_str()), ("$(touch pwned)\n", ""));
    assert!(!s.root.join("pwned").exists());
}

#[test]
fn one_word_for_one_thing() {
    let s = Sandbox::new();
    let tries = |options: &[&str]| {
        let id = s.coord(&[&["add"], options, &["--", "true"]].concat()).ok().line().to_owned();
        let spec: serde_json::Value =
            serde_json::from_str(&s.text(format!(".coord/tasks/{id}/spec.json"))).unwrap();
        (spec["max_attempts"].as_u64(), spec["time_limit_s"].as_f64())
    };
    assert_eq!(tries(&["--attempts", "2", "--timeout", "5s"]), (Some(2), Some(5.0)));
    assert_eq!(tries(&["--retries", "2", "--limit", "5s"]), (Some(3), Some(5.0)), "as before");
    for option in ["--attempts", "--retries"] {
        let line = format!("coord run {option} 2 --sh 'echo x >> {option}.log; exit 1; :' ::: 1");
        sh(&s, &line).exits(1);
        assert_eq!(s.lines(&format!("{option}.log")).len(), 2, "{option}");
    }
}

#[test]
fn the_runs_are_listed() {
    let s = Sandbox::new();
    s.coord(&["runs"]).ok().warns("no runs in");
    s.coord(&["run", "true", ":::", "1", "2"]).ok();
    s.coord(&["run", "false", "x y", ":::", "1"]).exits(1);
    let list = s.coord(&["runs"]);
    list.ok()
        .says("done")
        .says("2 of 2 jobs over")
        .says("failed")
        .says("false 'x y'")
        .warns("status|work");
    let json = s.coord(&["runs", "--json"]).json("coord.runs/1");
    let rows = json["runs"].as_array().unwrap();
    assert_eq!((rows.len(), &rows[0]["state"]), (2, &serde_json::json!("failed")));
    assert_eq!(rows[0]["jobs"]["failed"], 1);
    assert!(std::path::Path::new(rows[1]["dir"].as_str().unwrap()).join(".coord").is_dir());
    assert_eq!(s.coord(&["runs", "-q"]).ok().stdout.lines().count(), 2);
}

#[test]
fn json_is_obeyed_or_refused() {
    let s = Sandbox::new();
    s.coord(&["pause", "--json"]).json("coord.pause/1");
    s.coord(&["resume", "--json"]).json("coord.resume/1");
    for words in [
        &["--json", "run", "true", ":::", "1"][..],
        &["logs", "1", "--json"],
        &["shell", "1", "--json"],
    ] {
        let out = s.coord(words);
        let said: serde_json::Value = serde_json::from_str(&out.stderr).unwrap();
        assert!(
            out.code != 0 && said["message"].as_str().unwrap().contains("has no --json"),
            "{said}"
        );
    }
}

#[test]
fn what_a_job_adds_belongs_to_the_project() {
    let s = Sandbox::new();
    s.coord(&["run", "coord", "add", "--id", "T{}", "--", "true", ":::", "1"]).ok();
    assert_eq!(s.state("T1"), "ready");
    s.coord(&["run", "--queue", "q", "coord", "add", "--id", "Q{}", "--", "true", ":::", "1"]).ok();
    assert_eq!(s.state("Q1"), "ready");
    // From elsewhere too, and what it runs itself is kept with it.
    s.sh("mkdir below");
    let nested = "cd below && coord add --id N{} -- true && coord run true ::: 1";
    s.coord(&["run", "--sh", nested, ":::", "1"]).ok();
    assert_eq!(s.state("N1"), "ready");
    let (parent, _) = crate::run::newest(&s);
    let all = crate::run::runs(&s);
    assert!(all.iter().all(|name| !name.starts_with("true")), "{all:?}");
    let with = all.iter().any(|name| s.queue(&format!("runs/{name}/.coord/runs")).is_dir());
    assert!(with, "below {}", parent.display());
    // Outside of a project there is none to reach.
    let bare = Sandbox::bare();
    let out = bare.coord(&["run", "--sh", "coord add x{} -- true; echo $?", ":::", "1"]);
    assert_eq!(out.ok().stdout, "3\n");
}

#[test]
fn a_run_in_a_queue_carries_on_its_own_list_only() {
    let s = Sandbox::new();
    let other = s.add(&[], "touch other");
    s.coord(&["map", "--id", "list", "touch", "of-list-{}", ":::", "1"]).ok();
    s.coord(&["run", "--queue", ".", "-n", "2", "touch", "of-run-{}", ":::", "1", "2", "3"]).ok();
    assert!(s.root.join("of-run-3").exists());
    assert!(!s.root.join("other").exists() && !s.root.join("of-list-1").exists());
    assert_eq!((s.state(&other).as_str(), s.state("list").as_str()), ("ready", "ready"));
}
