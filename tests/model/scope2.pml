/* Exclusive scopes, the fence (fault 14): when is the entry of a process that was declared dead free? A worker holds
   the scope and is about to claim T.n; a recoverer declares it dead and ends T.n; another wants the scope.
   Of the design; scopes are not built yet.

   NO_FENCE  the entry counts as dead as soon as procs/W/end or n.end is there. It must be: procs/W/end was seen, and
          then n.claim is not W's own, or n.end is there. */

bool w_end;             /* procs/W/end */
bool claimed;           /* n.claim, by W */
bool n_end;             /* n.end */
bool taken;             /* the other one has the scope */
bool done_without_scope;

proctype worker() {
  claimed=1;                                                    /* claim.link */
  if :: w_end -> atomic { if :: !n_end -> n_end=1 :: else fi }; goto stop :: else fi;   /* was I declared dead? */
  atomic { if :: !n_end -> n_end=1; done_without_scope=taken; assert(!done_without_scope) :: else fi };
stop: skip }

proctype recoverer() {
  w_end=1;                                                      /* recover.declare */
  if :: claimed -> atomic { if :: !n_end -> n_end=1 :: else fi } :: else fi }   /* recover.expire */

proctype other() {
#ifndef NO_FENCE
  if
  :: w_end -> if :: !claimed -> taken=1 :: claimed -> if :: n_end -> taken=1 :: else fi fi
  :: else
  fi
#else
  if :: w_end || n_end -> taken=1 :: else fi
#endif
}

init { atomic { run worker(); run recoverer(); run other() } }
