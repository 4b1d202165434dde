/* The hints, and the one function that makes them: T.1 waits for another task and then for a time. It is claimed,
   exactly once, and neither early nor never, though somebody has put a ready hint there by hand, too early, and
   though any process dies (queue-layout.md 4.3 step 0, 4.8, settle). What settle publishes must stay, so whoever
   takes a hint away does it first, under an intent.

   NO_ORDER    a claimer that finds the task not ready settles first, and removes the hint after
   NO_INTENT   it removes the hint without run/_settle.T
   NO_PROMOTE_INTENT  a promoter has no intent
   NO_LOOK     I8: the hint is trusted */

#ifndef MAXC
#define MAXC 1
#endif
#define P 6             /* claimers 0, 1; completer 2; promoters 3, 4 (after the death of 3); recoverer 5 */
bool ready=1;           /* the hint that was made by hand */
bool delayed;           /* delayed/DUE/T.1 */
bool d_done, due;       /* what speaks against it: neither becomes false again */
bool claimed, noted[P], dead[P];
byte crashes;
bool claimed_early, lost;

#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[me]=1 }; goto stop :: skip fi

/* settle: T is in waiters/D from the beginning, so a blocked one needs no hint. */
inline settle() {
  if
  :: claimed || !d_done -> skip
  :: !claimed && d_done ->
     CRASH;
     if
     :: !due -> CRASH; delayed=1        /* settle.delay; the look at the clock was before */
     :: due -> CRASH; ready=1           /* ready.link: EEXIST is fine */
     fi
  fi;
  CRASH }

proctype claimer(byte me) {
end_idle:
  do
  :: ready ->
     if
     :: claimed -> ready=0
#ifndef NO_LOOK
     :: !claimed && !(d_done && due) ->
        CRASH;
#ifndef NO_INTENT
        noted[me]=1; CRASH;
#endif
#ifndef NO_ORDER
        ready=0; CRASH; settle();
#else
        settle(); ready=0; CRASH;
#endif
        noted[me]=0
     :: !claimed && d_done && due ->
#else
     :: !claimed ->
#endif
        CRASH;
        atomic { if :: !claimed -> claimed=1; claimed_early=!(d_done && due); assert(!claimed_early) :: else fi };
        ready=0                         /* what a dead claimer leaves undone is core.pml's */
     fi
  od;
stop: skip }

proctype completer(byte me) {
  noted[me]=1; CRASH;
  d_done=1; CRASH;
  settle();
  noted[me]=0;
stop: skip }

proctype clock() { due=1 }

proctype promoter(byte me) {
end_idle:
  do
  :: delayed && due ->
     CRASH;
#ifndef NO_PROMOTE_INTENT
     noted[me]=1; CRASH;
#endif
     delayed=0; CRASH; settle();        /* delayed.unlink, then settle */
     noted[me]=0
  od;
stop: if :: me==3 -> run promoter(4) :: else fi }

proctype recoverer(byte me) { byte p;
end_idle:
  do
  :: dead[0] && noted[0] -> settle(); noted[0]=0
  :: dead[1] && noted[1] -> settle(); noted[1]=0
  :: dead[2] && noted[2] -> d_done=1; settle(); noted[2]=0      /* if D had not ended, it is run again */
  :: dead[3] && noted[3] -> settle(); noted[3]=0
  :: dead[4] && noted[4] -> settle(); noted[4]=0
  od;
stop: skip }

#define RECOVERER_LIVES !dead[5]
proctype check() { timeout -> lost=(RECOVERER_LIVES && !claimed); assert(!lost) }

init { atomic { run claimer(0); run claimer(1); run completer(2); run clock(); run promoter(3);
  run recoverer(5); run check() } }
