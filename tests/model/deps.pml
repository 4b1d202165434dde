/* One dependency: task X comes after D. The submitter of X and the completer of D race; one of them may die
   between two system calls; a recoverer redoes what the dead one's intent names.

   NO_REGFIRST  R6  the submitter looks at D first and registers as a waiter after
   NO_REDO      R4  the completer drops its intent at the end of D, before the waiters are served */

bool done_d;            /* D's n.end = done */
bool waiter;            /* waiters/D/X */
bool ready_x;           /* ready/.../X.1 */
bool blocked_x;         /* blocked/X.1 */
bool staged;            /* the submitter's run/_submit.X */
bool intent;            /* the completer's run/D.n */
bool sdead, cdead, forgotten;
byte crashes;

#define CRASH(who) if :: atomic { crashes<1 -> crashes++; who=1 }; goto stop :: skip fi

active proctype submitter() { bool d;
  staged=1; CRASH(sdead);               /* submit.staged (submit.link is not told apart) */
  blocked_x=1; CRASH(sdead);            /* settle.wait: link blocked/X.1 */
#ifndef NO_REGFIRST
  waiter=1; CRASH(sdead);               /* settle.wait: link waiters/D/X, then look */
  d=done_d; CRASH(sdead);
#else
  d=done_d; CRASH(sdead);
  if :: !d -> waiter=1 :: else fi;
  CRASH(sdead);
#endif
  if :: d -> ready_x=1; CRASH(sdead); blocked_x=0; CRASH(sdead) :: else fi;    /* ready.link; settle.unblock */
  staged=0;                             /* submit.drop */
stop: skip }

active proctype completer() {
  intent=1; CRASH(cdead);
  done_d=1;                             /* end.link */
#ifdef NO_REDO
  intent=0;
#endif
  CRASH(cdead);
  if :: waiter -> ready_x=1; CRASH(cdead); blocked_x=0; CRASH(cdead) :: else fi;       /* end.settle */
  intent=0;                             /* end.drop_intent */
stop: skip }

active proctype recoverer() {
end: do
  :: sdead && staged -> blocked_x=1; waiter=1;
     if :: done_d -> ready_x=1; blocked_x=0 :: else fi;
     staged=0
  :: cdead && intent -> done_d=1;       /* if D had not ended, somebody runs it again, and it ends */
     if :: waiter -> ready_x=1; blocked_x=0 :: else fi;
     intent=0
  od }

/* In the end X is ready, or it was never submitted. */
active proctype check() {
  timeout -> forgotten=!(ready_x || (sdead && !staged && !blocked_x)); assert(!forgotten) }
