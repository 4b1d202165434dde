#!/bin/sh
# A coord worker in plain sh: claims, runs and ends tasks beside any other workers; ln(1) decides.
# shellcheck disable=SC2015,SC2016,SC2119,SC2120 # || is for both; $names in quotes are jq's; eval sets "$@"
# Usage: docs/shell-worker.sh QUEUE_DIR    (needs jq and setsid; inotifywait is optional)
# What follows an end (serving dependents, publishing the next attempt) it leaves to whoever recovers: after each
# task it says goodbye in procs/W/end, and any monitor or idle worker of coord finishes what its run/ names, and
# ends what the command left running. Kill it in any way at any moment.
# What it leaves out: coord.toml (worktrees, agents, back-off), roles, a cancel during the run, heartbeats, leaving
# when all is done. Tasks with env, cwd or a time limit, which it cannot give, it leaves to others. It is for local
# file systems only: on a shared one a loser has to settle before it drops its intent.
q=$(cd "$1" 2>/dev/null && pwd -P) && jq -e '.layout == 1 and (.min_writer // 1) <= 1' "$q/layout.json" >/dev/null ||
  { echo "usage: $0 QUEUE_DIR    (a queue of layout 1)" >&2; exit 2; }
random() { head -c 999 /dev/urandom | LC_ALL=C tr -dc 0-9a-hjkmnp-tv-z | cut -c "1-$1"; }
# One life is one process, one name under procs/ and at most one task; its mark is in the environment of all that it
# starts, so that nothing of a dead one escapes. A life that was killed (128 and up) is followed by the next one.
while [ "$2" != life ]; do
  COORD_MARK=$(random 26) sh "$0" "$q" life; code=$?
  case $code in 0) ;; 6) exit 0 ;; 129 | 1[3-9]?) sleep 1 ;; *) exit "$code" ;; esac
done
W=sh$PPID-$(random 13) me=$q/procs/$W seq=0
stamp='def stamp: strftime("%Y-%m-%dT%H:%M:%S.") + ((. * 1000 | floor) % 1000 + 1000 | tostring | .[1:]) + "Z";'
record() { filter=$1; shift; jq -n --arg by "$W" "$@" "$stamp $filter"; } # record FILTER [OPTIONS OF JQ]
event() { # event KIND JSON: one line, one write, into a file that only this process writes
  record '{$e, t: (now | stamp), $k, $id, $n, $by} + $more' -c --arg e "$W:$((seq += 1))" --arg k "$1" --arg id "$id" \
    --argjson n "$n" --argjson more "$2" >>"$q/events/$W.0.jsonl"; touch "$q/events/bell"
}
leave() { # the register that says that this life is over; with it, all that run/ still names is anybody's to finish
  record '{v: 1, $by, at: (now | stamp), why: "clean"}' >"$me/run/_end.tmp" && ln "$me/run/_end.tmp" "$me/end" &&
    rm -f "$me/run/_end.tmp" && touch "$q/procs/bell"; exit "$1"
} 2>/dev/null
# What is made in the queue has the modes of its directory; what the command makes, the umask that I was given.
umask=$(umask) && umask "$(printf '%03o' $((0777 & ~0$(stat -c %a "$q"))))"
# Who I am. lease_ms 0: no heartbeat; I am dead when this very process (boot, namespace, pid, start) is gone.
new=$q/procs/.new-$W stat=$(cat /proc/$$/stat)
mkdir -p "$new/run" && record '{v: 1, wid: $by, card: 0, kind: "worker", $host, $host_id, $boot, $pidns, $pid, $start, $mark,
    roles: [], labels: [], lease_ms: 0, $uid, ver: "shell-worker 1", at: (now | stamp)}' >"$new/card.0.json" \
  --arg host "$(uname -n)" --arg host_id "$(cat /etc/machine-id || uname -n)" --argjson uid "$(id -u)" --argjson pid $$ \
  --arg boot "$(cat /proc/sys/kernel/random/boot_id)" --argjson pidns "$(readlink /proc/$$/ns/pid | tr -dc 0-9)" \
  --arg mark "$COORD_MARK" --argjson start "$(echo "${stat##*) }" | cut -d' ' -f20)" &&
  cp "$new/card.0.json" "$new/hb" && touch "$new/bell" && mv "$new" "$me" && touch "$q/procs/bell" || exit 7

claim() { # claim HINT: 0 if attempt $n of task $id is now mine. A hint is never trusted, the registers are read
  id=${1##*/} n=${1##*.} id=${id%.*}
  case $n in '' | 0* | *[!0-9]*) return 1 ;; *) p=$((n - 1)) ;; esac
  cd "$q/tasks/$id" && [ -e spec.json ] && [ ! -e "$n.claim" ] && [ ! -e "$p.cancel" ] || return 1
  [ "$n" = 1 ] || jq -es 'any(.retry == true)' "$p.end" || jq -e '.closed != true' "$p.reopen" || return 1
  jq -e '(.argv // .sh) and ((.manual or .hold or .needs or .env or .cwd or .time_limit_s) | not)' spec.json || return 1
  ln "$me/card.0.json" "$me/run/$id.$n" || return 1 # the intent: who finds me dead looks here
  ln "$me/card.0.json" "$n.claim" # this decides; what the register holds counts, not what ln said
  if cmp -s "$me/card.0.json" "$n.claim"; then rm -f "$1"; rmdir "${1%/*}"; return 0; fi
  rm -f "$me/run/$id.$n"; return 1 # lost, as may happen: the winner has an intent of its own
} >/dev/null 2>&1
finish() { # finish VERDICT CODE WHY: stage the end, link it, tell; the follow-ups are the recoverer's
  prev=$(jq -c . "$p.end" 2>/dev/null) value=$(jq -cs '.[0]' "$n.out/result.json" 2>/dev/null) end=$me/run/$id.$n.end
  record '$spec[0] as $s | (($prev.charged // 0) + if $verdict == "fail" then 1 else 0 end) as $charged
    | ($verdict == "release" or $charged < ($s.max_attempts // 3) and ([0, 65, 100] | index($code) | not)) as $retry
    | ({base_s: 10, factor: 2, max_s: 600} + ($s.backoff // {}) | [.max_s, .base_s * pow(.factor; [$charged - 1, 0] | max)] | min) as $rest
    | {v: 1, $verdict, $retry, $charged, boots: ($prev.boots // 0), $by, holder: $by, $why, result: {$value},
       exit: (if $code > 128 then {signal: ($code - 128)} else {$code} end), started: ($began | stamp), ended: (now | stamp)}
    + (if $retry and $code != 0 then {not_before: (now + $rest | stamp)} else {} end)
    + if $verdict == "done" then {} else {$context} end' --slurpfile spec spec.json --argjson prev "${prev:-{\"charged\":$p\}}" \
    --arg verdict "$1" --argjson code "$2" --arg why "$3" --argjson began "$began" --argjson value "${value:-null}" \
    --arg context "$(tail -c 4096 "$n.out/log")" >"$end.tmp" && mv "$end.tmp" "$end" || leave 0 # procs/W is gone, or a full disk
  ln "$end" "$n.end" # this decides too: my verdict, or that of whoever took me for dead
  if cmp -s "$end" "$n.end"; then event end "$(jq -c '{verdict, retry}' "$end")"; else ln "$end" "$n.late"; event late '{}'; fi
  leave 0
} 2>/dev/null
attempt() { # run it in a session of its own, with all output in n.out/log; never returns
  began=$(jq -n now); event claim '{}'; mkdir -p "$n.out"
  [ -e "$me/end" ] && finish release 0 "declared dead before it began" # then this claim may be known to nobody
  eval "set -- $(jq -r 'if .argv then .argv else ["sh", "-c", .sh] end | @sh' spec.json)"
  (umask "$umask" && cd "${q%/*}" && exec env COORD_TASK_ID="$id" COORD_ATTEMPT="$n" COORD_TOKEN="$id.$n@$W" COORD_WORKER="$W" COORD_DIR="$q" \
    COORD_OUT="$q/tasks/$id/$n.out" setsid -w "$@") </dev/null >"$n.out/log" 2>&1; code=$?
  case $code in 0) finish 'done' 0 "" ;; 75) finish release 75 "exit 75: not now" ;; esac
  if [ "$code" -gt 128 ]; then finish fail "$code" "signal $((code - 128))"; else finish fail "$code" "exit $code"; fi
}
while kill -0 "$PPID" 2>/dev/null && [ ! -e "$me/end" ] && [ -d "$me" ]; do
  if [ -e "$q/control/stop" ] || [ -e "$q/control/drain" ]; then leave 6; fi
  cd "$q/ready" && [ ! -e "$q/control/pause" ] &&
    for hint in $(printf '%s\n' */[0-9][0-9]/*/* | sort -t/ -k2); do claim "$q/ready/$hint" && attempt; done
  # A bell that rings between the look above and this watch is heard a little later: the price of no daemon.
  inotifywait -qq -t 5 -e attrib,create,delete,moved_to "$q/ready" "$q/control" 2>/dev/null || sleep 1
done
leave 0
