#!/bin/sh
# Stands in for a coding agent: does the task that COORD_TASK_ID names, in this worktree, checks it and commits.
# shellcheck disable=SC1091 # lib/ is what it writes
set -eu
file() { mkdir -p "$(dirname "$1")" && cat >"$1"; }
expect() { [ "$2" = "$3" ] || { echo "check: $1 should be '$3', but is '$2'"; exit 1; }; }

# What this task builds on: the commits named in the accepted ends of its dependencies.
# "after W-3: done", and below it "  branch coord/W-3/a1 at COMMIT".
for dep in $(coord context | awk '/^after / { id = $2; sub(/:$/, "", id) } /^  branch / { print id "=" $4 }'); do
  git merge --quiet --message "Merge ${dep%%=*}" "${dep#*=}"
done
printf 'one two\nthree two\n' >"$COORD_OUT/probe.txt"

case $COORD_TASK_ID in
W-1) sleep 0.5; file sample.txt <<'TEXT'
A queue that is a directory can be read with the tools that are there already.
The work that waits is a list of names, and so is the work that is done.
A claim is a link, and the kernel lets one of many have the name.
Pull the plug, kill the worker, stop the clock: the next one to look finds the names,
and the names say what is to be done.
TEXT
  expect "the number of lines" "$(grep -c . sample.txt)" 5 ;;
W-2) sleep 0.5; file lib/lines.sh <<'SH'
lines() { awk 'END { print NR }' "$1"; }
SH
  . ./lib/lines.sh; expect lines "$(lines "$COORD_OUT/probe.txt")" 2 ;;
W-3) sleep 1; file lib/words.sh <<'SH'
words() { awk '{ n += NF } END { print n + 0 }' "$1"; }
SH
  . ./lib/words.sh; expect words "$(words "$COORD_OUT/probe.txt")" 4 ;;
W-4) sleep 1; file lib/longest.sh <<'SH'
longest() { awk 'length($0) > n { n = length($0) } END { print n + 0 }' "$1"; }
SH
  . ./lib/longest.sh; expect longest "$(longest "$COORD_OUT/probe.txt")" 9 ;;
W-5) sleep 3; file lib/frequent.sh <<'SH'
frequent() {
  tr -cs '[:alpha:]' '[\n*]' <"$1" | tr '[:upper:]' '[:lower:]' | sort | uniq -c | sort -k1,1nr -k2 |
    awk 'NR <= 3 { printf "%s%s (%d)", sep, $2, $1; sep = ", " } END { print "" }'
}
SH
  . ./lib/frequent.sh; expect frequent "$(frequent "$COORD_OUT/probe.txt")" "two (2), one (1), three (1)" ;;
W-6) sleep 0.5; file lib/reading.sh <<'SH'
reading() { echo "$((($(words "$1") * 60 + 199) / 200)) s"; }
SH
  . ./lib/words.sh; . ./lib/reading.sh; expect reading "$(reading "$COORD_OUT/probe.txt")" "2 s" ;;
W-7) sleep 1; file bin/textstat <<'SH'
#!/bin/sh
# textstat FILE: lines, words, longest line, reading time and the most frequent words of a text.
[ -r "${1:-}" ] || { echo "usage: textstat FILE" >&2; exit 2; }
lib=$(dirname "$0")/../lib
for part in lines words longest reading frequent; do
  . "$lib/$part.sh"
  printf '%-9s %s\n' "$part" "$("$part" "$1")"
done
SH
  chmod +x bin/textstat; expect "the report's length" "$(bin/textstat sample.txt | wc -l | tr -d ' ')" 5 ;;
W-8) sleep 1; file tests/run <<'SH'
#!/bin/sh
# Checks bin/textstat against the sample: one line a test, exit 1 if one fails.
cd "$(dirname "$0")/.." && bad=0
is() { if bin/textstat sample.txt | grep -qx "$1  *$2"; then echo "ok      $1"; else echo "not ok  $1"; bad=1; fi; }
is lines 5; is words 74; is longest 85; is reading '23 s'; is frequent 'the (11), is (6), a (5)'
exit $bad
SH
  chmod +x tests/run ;;
W-9) sleep 0.5; tests/run ;;
W-10) sleep 1
  # The house style is not in the task. Whoever tries again is told what was missing, and can read it.
  sections="NAME SYNOPSIS"
  if [ "$COORD_ATTEMPT" -gt 1 ]; then
    sections="$sections $(sed -n 's/.*has no section named \([A-Z]*\).*/\1/p' "$COORD_FAILURE_FILE" | sort -u)"
  fi
  for section in $sections; do
    case $section in
    NAME) text='textstat \- say something about a text' ;;
    SYNOPSIS) text='.B textstat FILE' ;;
    *) text='Exits with 2 if the file cannot be read.' ;;
    esac
    printf '.SH %s\n%s\n' "$section" "$text"
  done | file textstat.1
  for section in NAME SYNOPSIS DIAGNOSTICS; do
    grep -q "^.SH $section" textstat.1 || { echo "check: textstat.1 has no section named $section"; exit 1; }
  done ;;
W-11) sleep 0.5; bin/textstat sample.txt >report.txt ;;
W-12) sleep 1; tests/run; echo 1.0 >VERSION ;;
*) echo "agent: no idea how to do $COORD_TASK_ID"; exit 65 ;;
esac

git add --all && { git diff --cached --quiet || git commit --quiet --message "$COORD_TASK_ID, attempt $COORD_ATTEMPT"; }
echo "$COORD_TASK_ID is at $(git rev-parse --short HEAD)" | tee "$COORD_OUT/handoff.md"
