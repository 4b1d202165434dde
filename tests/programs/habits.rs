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
        ("coord run --whatever echo ::: a", "coord run --help"),
    ] {
        let out = sh(&s, line);
        out.fails(255, says);
        assert!(out.stderr.lines().count() <= 3, "{line}: {}", out.stderr);
    }
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
