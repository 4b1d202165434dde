#!/bin/sh
# What each throw-away task runs: it writes down what it does, one line a deed, appended with one
# write each, so that the lines of all jobs stand in the order in which they were done. The line end
# comes first: a line that a kill tears does not spoil the next one.
# Words: quick; slow N (N deeds, a tenth of a second apart); stray (leaves a process in a session of
# its own that goes on writing); fails (the first attempt does).
# shellcheck disable=SC3040
witness=$COORD_ROOT/witness
me="$COORD_TASK_ID $COORD_ATTEMPT"
say() { printf '\n%s' "$me $1" >>"$witness/order"; }
say start
# A witness file of its own for each attempt: who finds it there already is the second to run it.
set -C
echo $$ 2>/dev/null >"$witness/attempts/$COORD_TASK_ID.$COORD_ATTEMPT" || say twice
set +C
case $1 in
  slow)
    i=0
    while [ "$i" -lt "$2" ]; do
      sleep 0.1
      say deed
      i=$((i + 1))
    done
    ;;
  stray)
    setsid sh -c "while sleep 0.05; do printf '\\n%s' '$me deed' >>'$witness/order'; done" &
    sleep 0.2
    say deed
    ;;
  hides)
    deeds=100
    set -- "$2" "$COORD_CHAOS_COORD" chaos-hider "$witness/order" "$me" "$deeds"
    case $1 in *d*) set -- "$@" --hidden ;; esac
    ways=$1
    shift
    case $ways in *e*) set -- env -i "$@" ;; esac
    # The one in between has ended when the job goes on.
    case $ways in
      *s*) setsid sh -c 'setsid "$@" >/dev/null 2>&1 &' hider "$@" ;;
      *) "$@" >/dev/null 2>&1 & ;;
    esac
    sleep 0.3
    say deed
    ;;
  fails)
    say deed
    if [ "$COORD_ATTEMPT" = 1 ]; then
      say fail
      exit 1
    fi
    ;;
  *) say deed ;;
esac
say end
