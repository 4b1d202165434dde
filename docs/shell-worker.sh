#!/bin/sh
# A coord worker in plain sh: claims, runs and ends tasks beside any other workers; ln(1) decides.
# shellcheck disable=SC2119,SC2120 # in attempt, "$@" is the command of the task, set by eval
# Usage: docs/shell-worker.sh QUEUE_DIR [--until-empty]    (needs jq and setsid; inotifywait is optional)
# What follows an end (serving dependents, publishing the next attempt) it leaves to whoever recovers: after each
# task it says goodbye in procs/WID/end, and any monitor or idle worker of coord finishes what its run/ names.
# What a command left running is theirs to end too. It ignores coord.toml: no worktrees, no agents, the format's own
# back-off. Kill it in any way at any moment.
q=$(cd "$1" 2>/dev/null && pwd -P) || { echo "usage: $0 QUEUE_DIR [--until-empty]" >&2; exit 2; }
jq -e '.layout == 1 and (.min_writer // 1) <= 1' "$q/layout.json" >/dev/null 2>&1 ||
  { echo "$0: not a queue of layout 1: $q" >&2; exit 3; }
random() { head -c 999 /dev/urandom | LC_ALL=C tr -dc 0-9a-hjkmnp-tv-z | cut -c "1-$1"; }
# One life is one process, one name under procs/ and at most one task; its mark is in the environment of all that it
# starts, so that nothing of a dead one escapes. A life that was killed (128 and up) is followed by the next one.
while [ "$3" != life ]; do
  COORD_MARK=$(random 26) sh "$0" "$q" "${2:-}" life; code=$?
  case $code in 0) ;; 6) exit 0 ;; 129|1[3-9]?) sleep 1 ;; *) exit "$code" ;; esac
done
wid=sh$PPID-$(random 13) me=$q/procs/$wid seq=0 rounds=0
stamp='def stamp: strftime("%Y-%m-%dT%H:%M:%S.") + ((. * 1000 | floor) % 1000 + 1000 | tostring | .[1:]) + "Z";'
event() { # event KIND JSON: one line, one write, into a file that only this process writes
  jq -nc --arg by "$wid" --arg e "$wid:$seq" --arg k "$1" --arg id "$id" --argjson n "$n" --argjson more "$2" \
    "$stamp"'{e: $e, t: (now | stamp), k: $k, id: $id, n: $n, by: $by} + $more' >>"$q/events/$wid.0.jsonl"
  seq=$((seq + 1)); touch "$q/events/bell"
}
leave() { # the register that says that this life is over; with it, all that run/ still names is anybody's to finish
  jq -n --arg by "$wid" "$stamp"'{v: 1, by: $by, at: (now | stamp), why: "clean"}' >"$me/run/_end.tmp" &&
    ln "$me/run/_end.tmp" "$me/end" && rm -f "$me/run/_end.tmp" && touch "$q/procs/bell"
  exit "$1"
} 2>/dev/null
# Who I am. lease_ms 0: no heartbeat; I am dead when this very process (boot, namespace, pid, start) is gone.
stat=$(cat /proc/$$/stat); pidns=$(readlink /proc/$$/ns/pid | tr -dc 0-9)
mkdir -p "$q/events" "$q/procs/.new-$wid/run" && jq -n --arg wid "$wid" --arg host "$(uname -n)" --arg mark "$COORD_MARK" \
  --arg host_id "$(cat /etc/machine-id 2>/dev/null)" --arg boot "$(cat /proc/sys/kernel/random/boot_id)" --argjson pid $$ \
  --argjson pidns "$pidns" --argjson start "$(echo "${stat##*) }" | cut -d' ' -f20)" --argjson uid "$(id -u)" \
  "$stamp"'{v: 1, $wid, card: 0, kind: "worker", $host, host_id: (if $host_id == "" then $host else $host_id end), $boot, $pidns,
    $pid, $start, $mark, roles: [], labels: [], lease_ms: 0, $uid, ver: "shell-worker 1", at: (now | stamp)}' \
  >"$q/procs/.new-$wid/card.0.json" &&
  touch "$q/procs/.new-$wid/hb" "$q/procs/.new-$wid/bell" && mv "$q/procs/.new-$wid" "$me" && touch "$q/procs/bell" || exit 7

claim() { # claim HINT: 0 if attempt $n of task $id is now mine. A hint is never trusted, the registers are read
  id=${1##*/} n=${1##*.} id=${id%.*}
  case $n in '' | 0* | *[!0-9]*) return 1 ;; esac
  p=$((n - 1))
  cd "$q/tasks/$id" 2>/dev/null && [ -e spec.json ] || return 1 # from here this very directory, were it moved
  if [ -e "$n.claim" ]; then rm -f "$1"; rmdir "${1%/*}" 2>/dev/null; return 1; fi
  [ "$n" = 1 ] || jq -es 'any(.retry == true)' "$p.end" >/dev/null 2>&1 ||
    jq -e '.closed != true' "$p.reopen" >/dev/null 2>&1 || return 1
  [ -e "$p.cancel" ] && return 1 # cancelled: not mine to decide
  jq -e '(.argv // .sh) and ((.manual or .hold or .needs) | not)' spec.json >/dev/null 2>&1 || return 1
  ln "$me/card.0.json" "$me/run/$id.$n" 2>/dev/null || return 1 # the intent: who finds me dead looks here
  ln "$me/card.0.json" "$n.claim" 2>/dev/null # this decides; what the register holds counts, not what ln said
  if cmp -s "$me/card.0.json" "$n.claim"; then rm -f "$1"; rmdir "${1%/*}" 2>/dev/null; return 0; fi
  rm -f "$me/run/$id.$n"; return 1 # lost, as may happen: the winner has an intent of its own
}
finish() { # finish VERDICT CODE WHY: stage the end, link it, tell; the follow-ups are the recoverer's
  prev=$(jq -c . "$p.end" 2>/dev/null) value=$(jq -cs '.[0]' "$n.out/result.json" 2>/dev/null) end=$me/run/$id.$n.end
  jq -n --slurpfile spec spec.json --argjson prev "${prev:-{\"charged\":$p\}}" --argjson value "${value:-null}" \
    --arg verdict "$1" --argjson code "$2" --arg why "$3" --arg by "$wid" --argjson began "$began" \
    --arg context "$(tail -c 4096 "$n.out/log" 2>/dev/null)" "$stamp"'
    $spec[0] as $s | (($prev.charged // 0) + if $verdict == "fail" then 1 else 0 end) as $charged
    | ($charged < ($s.max_attempts // 3) and $code != 65 and $code != 100) as $again
    | ($verdict == "release" or ($verdict == "fail" and $again)) as $retry
    | ({base_s: 10, factor: 2, max_s: 600} + ($s.backoff // {})) as $b
    | ([$b.max_s, $b.base_s * pow($b.factor; [$charged - 1, 0] | max)] | min) as $rest
    | {v: 1, $verdict, $retry, $charged, boots: ($prev.boots // 0), $by, holder: $by, $why, result: {$value},
       exit: (if $code > 128 then {signal: ($code - 128)} else {$code} end), started: ($began | stamp), ended: (now | stamp)}
    + if $retry and $code != 0 then {not_before: (now + $rest | stamp)} else {} end
    + if $verdict == "done" then {} else {$context} end' >"$end.tmp" || leave 0
  mv "$end.tmp" "$end" || leave 0 # taken for dead, and procs/WID is gone: the output is kept in n.out
  ln "$end" "$n.end" 2>/dev/null # this decides too: my verdict, or that of whoever took me for dead
  if cmp -s "$end" "$n.end"; then event end "$(jq -c '{verdict, retry}' "$end")"; else ln "$end" "$n.late" 2>/dev/null; fi
  leave 0
}
attempt() { # run it in a session of its own, with all output in n.out/log; never returns
  began=$(jq -n now) token=$id.$n@$wid out=$q/tasks/$id/$n.out
  event claim '{}'
  [ -e "$me/end" ] && finish release 0 "declared dead before it began" # then this claim may be known to nobody
  cwd='' limit=''; mkdir -p "$n.out"
  eval "$(jq -r '"cwd=\(.cwd // "" | @sh) limit=\(.time_limit_s // "" | @sh)"' spec.json)"
  (
    eval "$(jq -r '(.env // {} | to_entries[] | "export \(.key)=\(.value | tostring | @sh)"),
      "set -- \(if .argv then .argv else ["sh", "-c", .sh] end | @sh)"' spec.json)"
    export COORD_TASK_ID="$id" COORD_ATTEMPT="$n" COORD_TOKEN="$token" COORD_WORKER="$wid" COORD_DIR="$q" COORD_OUT="$out"
    cd "${q%/*}/$cwd" && exec setsid -w ${limit:+timeout -k 5 "$limit"} "$@"
  ) </dev/null >"$n.out/log" 2>&1
  code=$?
  case $code in 0) finish 'done' 0 "" ;; 75) finish release 75 "exit 75: not now" ;; esac
  [ -e "$n.cancel" ] && finish cancel "$code" "cancelled"
  if [ "$code" -gt 128 ]; then finish fail "$code" "signal $((code - 128))"; else finish fail "$code" "exit $code"; fi
}
unfinished() { # 0 while something may become ready without a person: hints, and what is run or left to a recoverer
  owed=0
  for f in "$q"/ready/*/*/*/* "$q"/delayed/*/* "$q"/procs/*/run/*; do
    [ ! -e "$f" ] || case $f in "$q"/procs/*) [ -e "${f%/run/*}/end" ] || return 0; owed=1 ;; *) return 0 ;; esac
  done
  [ "$owed" = 1 ] || return 1
  [ $((rounds += 1)) -lt 9 ] || { echo "$0: nobody does the follow-ups: start coord work or coord-monitor" >&2; leave 75; }
}
while kill -0 "$PPID" 2>/dev/null && [ ! -e "$me/end" ] && [ -d "$me" ]; do
  if [ -e "$q/control/stop" ] || [ -e "$q/control/drain" ]; then leave 6; fi
  cd "$q/ready" && [ ! -e "$q/control/pause" ] && for level in $(printf '%s\n' */[0-9][0-9] | sort -t/ -k2); do
    for hint in "$q/ready/$level"/*/*; do if claim "$hint"; then attempt; fi; done
  done
  if [ "$2" = --until-empty ] && ! unfinished; then leave 6; fi
  # A bell that rings between the look above and this watch is heard a little later: the price of no daemon.
  inotifywait -qq -t 5 -e attrib,create,delete,moved_to "$q/ready" "$q/control" 2>/dev/null
  case $? in 0 | 2) ;; *) sleep 1 ;; esac
done
leave 0
