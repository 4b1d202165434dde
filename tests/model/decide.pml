/* What people decide, against everybody else: cancel, hold and release of a task that waits for another one, with
   a worker, the completer of that other task, a keeper, and a crash of any of them (faults 8, 9, 10; queue-layout.md
   4.3, 4.6, 4.9, 4.10). All follow-ups are the one function settle.

   A listing of tasks/T is not atomic: a look reads the n.cancel first and the rest after, the worst order (R8).

   NO_LOOK         the canceller promises without looking for n.end after it has linked n.cancel
   NO_CANCEL_DUE   settle and the claimer's first look do not care for n.cancel
   NO_HOLD_LOOK    whoever holds attempt n does not look for (n-1).cancel after his claim
   NO_KIND         recovery ends a hold like a dead worker's claim
   NO_CANCEL_KIND  recovery ends a dead canceller's claim as expired, so that the task runs again
   NO_INTENT       a release is made without run/_settle.T
   NO_HELP         R4: recovery does not settle an attempt that had an end already

   Who takes part: CANCELS a canceller; HOLDS a person who holds and releases; DEP the task waits for another one.
   Bounds: MAXC crashes, of whom and where it likes; FAILS attempts that fail; NA attempts. */

#ifndef NA
#define NA 3
#endif
#ifndef MAXC
#define MAXC 1
#endif
#ifndef FAILS
#define FAILS 1
#endif
#define DONE 1
#define RETRY 2         /* failed or expired, with retry */
#define CANCEL 3
#define RELEASE 4
/* Processes: workers 0 and 1, canceller 2, a person's hold 3 and release 4, completer 5, keepers 6 and 7. A worker
   or a keeper that dies is replaced by the next one; the release is given after the hold. */
#define P 8
#define KEEPER 6
#define WORK 0          /* kinds of claims */
#define STOP 1
#define HOLD 2
#define CLAIM(kind,p) ((kind)*16+(p)+1)
#define KIND(c) (((c)-1)/16)
#define OWNER(c) (((c)-1)%16)

byte claim[NA];         /* n.claim: kind and owner */
byte endr[NA];          /* n.end */
byte asked;             /* the n.cancel, a bit each */
byte ready;             /* the ready hints, a bit each */
byte staged[NA];        /* run/T.n.end of the owner of n.claim */
byte intent[P];         /* run/T.n, a bit each */
bool noted[P];          /* run/_settle.T */
bool dead[P];
bool d_done;            /* the task that T waits for; T is in its waiters from the beginning */
byte crashes, fails;
bool promised, told; byte promised_at;
bool ran_after_cancel, ran_blocked, cancel_undone, hold_broken, promise_forgotten, lost;

#define BIT(n) (1<<(n))
#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[me]=1 }; goto died :: skip fi

/* The phase: the number of claims, and what the last one says. */
#define COUNT(n) n=0; do :: n<NA && claim[n]!=0 -> n++ :: else -> break od
#define PENDING(n) ((n)<NA && ((n)==0 || endr[(n)-1]==RETRY || endr[(n)-1]==RELEASE))
#define RUNNING(n) ((n)>0 && endr[(n)-1]==0)
/* The look at a task: who lists sees what was there before, and perhaps what came meanwhile. */
#define LOOK seen=asked; d_step { COUNT(n); pending=PENDING(n); running=RUNNING(n) }

#ifndef NO_CANCEL_DUE
#define CANCEL_DUE (n>0 && (seen & BIT(n-1)) && endr[n-1]!=CANCEL)
#else
#define CANCEL_DUE 0
#endif

/* claim.link */
#define TAKE(kind) d_step { won=0; if :: claim[n]==0 -> claim[n]=CLAIM(kind,me); won=1 :: else fi }
/* end.link */
#define END(v) d_step { won=0; if :: endr[n]==0 -> endr[n]=(v); won=1 :: else fi }

/* Ends an attempt of one's own as cancelled: 4.6. */
inline end_as_cancelled() {
  staged[n]=CANCEL; CRASH;
  END(CANCEL); CRASH }

inline settle() {
  do
  :: LOOK;
     if
     :: !pending -> break
     :: pending && CANCEL_DUE ->
        CRASH;
        intent[me]=intent[me] | BIT(n); CRASH;
        TAKE(STOP); CRASH;
        if :: won -> end_as_cancelled(); staged[n]=0; CRASH :: else fi;
        intent[me]=intent[me] & ~BIT(n); CRASH
     :: pending && !CANCEL_DUE && !d_done -> break              /* it stays in waiters/ and blocked/ */
     :: pending && !CANCEL_DUE && d_done -> CRASH; ready=ready | BIT(n); CRASH; break
     fi
  od;
  skip }

proctype worker(byte me) { byte n, k, v, seen; bool won, pending, running;
again: skip; d_step { n=0; k=0; v=0; seen=0; won=0; pending=0; running=0 };
end_idle:
  if
  :: atomic { ready & BIT(0) -> k=0 }
  :: atomic { ready & BIT(1) -> k=1 }
  :: atomic { ready & BIT(2) -> k=2 }
#if NA>3
  :: atomic { ready & BIT(3) -> k=3 }
#endif
  fi;
  LOOK;
  if
  :: !pending || n!=k -> ready=ready & ~BIT(k); goto again      /* past: a pending one is never below its hint */
  :: pending && n==k && (CANCEL_DUE || !d_done) ->              /* put there too early */
     noted[me]=1; CRASH;
     ready=ready & ~BIT(k); CRASH;
     settle();
     noted[me]=0; CRASH;
     goto again
  :: pending && n==k && !CANCEL_DUE && d_done
  fi;
  CRASH;
  intent[me]=intent[me] | BIT(n); CRASH;                        /* claim.intent */
  TAKE(WORK); CRASH;
  if
  :: !won -> v=n; settle(); intent[me]=intent[me] & ~BIT(v); CRASH; ready=ready & ~BIT(v); CRASH; goto again
  :: won
  fi;
  ready=ready & ~BIT(n); CRASH;
  if                                    /* the look after the claim: was a cancel linked meanwhile? */
  :: n>0 && (asked & BIT(n-1)) && endr[n-1]!=CANCEL -> v=CANCEL; goto finish
  :: else
  fi;
  d_step {                              /* the command runs */
    ran_after_cancel=(told || (promised && promised_at<n));
    ran_blocked=!d_done;
    cancel_undone=(n>0 && KIND(claim[n-1])==STOP);
    assert(!ran_after_cancel); assert(!ran_blocked); assert(!cancel_undone) };
  if
  :: asked & BIT(n) -> v=CANCEL         /* seen at a heartbeat */
  :: v=DONE
  :: atomic { fails<FAILS -> fails++; v=RETRY }
  fi;
finish:
  staged[n]=v; CRASH;                   /* end.staged */
  END(v); CRASH;
  k=n;
  settle();
  staged[k]=0; CRASH;
  intent[me]=intent[me] & ~BIT(k);
  CRASH;
  goto again;
  goto stop;
died: if :: me==0 -> run worker(1) :: else fi;
stop: skip }

proctype canceller(byte me) { byte n, k, seen; bool won, pending, running;
  do
  :: LOOK;
     if
     :: !pending && !running -> break                           /* over already: refused */
     :: pending ->
        intent[me]=intent[me] | BIT(n); CRASH;
        TAKE(STOP); CRASH;
        k=n;
        if
        :: won -> ready=ready & ~BIT(n); CRASH; end_as_cancelled()
        :: else
        fi;
        settle();
        if :: OWNER(claim[k])==me -> staged[k]=0; CRASH :: else fi;
        intent[me]=intent[me] & ~BIT(k); CRASH;
        if :: KIND(claim[k])==STOP && OWNER(claim[k])==me && endr[k]==CANCEL -> told=1; break :: else fi
     :: running ->
        n=n-1;
        noted[me]=1; CRASH;
        if
        :: KIND(claim[n])==HOLD -> END(CANCEL); CRASH; settle(); noted[me]=0; CRASH;
           if :: endr[n-1]==CANCEL && !pending && !running -> told=1; break :: else fi
        :: else ->
           asked=asked | BIT(n); CRASH;                         /* cancel.link */
           noted[me]=0; CRASH;
#ifndef NO_LOOK
           if :: endr[n]==0 -> atomic { promised=1; promised_at=n }; break :: else fi
#else
           atomic { promised=1; promised_at=n }; break
#endif
        fi
     fi
  od;
  goto stop;
died: skip;
stop: skip }

proctype holder(byte me) { byte n, k, seen; bool won, pending, running;
  do
  :: LOOK;
     if
     :: !pending -> break                                       /* it runs, is held, or is over: refused */
     :: pending ->
        intent[me]=intent[me] | BIT(n); CRASH;
        TAKE(HOLD); CRASH;
        if
        :: won -> ready=ready & ~BIT(n); CRASH;
#ifndef NO_HOLD_LOOK
           if
           :: n>0 && (asked & BIT(n-1)) && endr[n-1]!=CANCEL -> end_as_cancelled(); staged[n]=0; CRASH
           :: else
           fi;
#endif
           intent[me]=intent[me] & ~BIT(n); break               /* hold.drop_intent */
        :: !won -> k=n; settle(); intent[me]=intent[me] & ~BIT(k); CRASH
        fi
     fi
  od;
died: run releaser(4) }

proctype releaser(byte me) { byte n, seen; bool won, pending, running;
end_waits:
  atomic { (claim[0]!=0 && KIND(claim[0])==HOLD && endr[0]==0) || (claim[1]!=0 && KIND(claim[1])==HOLD && endr[1]==0) ->
    COUNT(n); n=n-1 };
#ifndef NO_INTENT
  noted[me]=1; CRASH;
#endif
  END(RELEASE); CRASH;                  /* decide.end */
  settle();
  noted[me]=0;
  goto stop;
died: skip;
stop: skip }

/* The other task ends: its waiters are settled. Its intent names that task; here it is noted for T. */
proctype completer(byte me) { byte n, seen; bool won, pending, running;
  d_done=1; CRASH;
  settle();
  noted[me]=0;
  goto stop;
died: skip;
stop: skip }

/* A keeper; another one recovers it. */
proctype keeper(byte me) { byte n, k, p, seen; bool won, pending, running, before;
begin: skip; d_step { n=0; k=0; p=0; seen=0; won=0; pending=0; running=0; before=0 };
end_idle:
  atomic {                              /* a death is seen, then its run/ is listed (R5) */
    if
    :: dead[0] && (intent[0]!=0 || noted[0]) -> p=0
    :: dead[1] && (intent[1]!=0 || noted[1]) -> p=1
    :: dead[2] && (intent[2]!=0 || noted[2]) -> p=2
    :: dead[3] && (intent[3]!=0 || noted[3]) -> p=3
    :: dead[4] && (intent[4]!=0 || noted[4]) -> p=4
    :: dead[5] && (intent[5]!=0 || noted[5]) -> p=5
    :: dead[KEEPER] && (intent[KEEPER]!=0 || noted[KEEPER]) -> p=KEEPER
    :: dead[KEEPER+1] && (intent[KEEPER+1]!=0 || noted[KEEPER+1]) -> p=KEEPER+1
    fi;
    if
    :: intent[p] & BIT(0) -> k=0
    :: intent[p] & BIT(1) -> k=1
    :: intent[p] & BIT(2) -> k=2
    :: intent[p] & BIT(3) -> k=3
    :: intent[p]==0 -> k=NA
    fi };
  CRASH;
  if :: k==NA -> settle(); noted[p]=0; goto begin :: else fi;   /* recover.settle */
  if
  :: claim[k]!=0 && OWNER(claim[k])==p && (KIND(claim[k])!=HOLD || staged[k]!=0
#ifdef NO_KIND
     || 1
#endif
     ) ->
     d_step {                           /* recover.link_staged or recover.expire */
       before=(endr[k]!=0);
       if
       :: endr[k]!=0
       :: endr[k]==0 && staged[k]!=0 -> endr[k]=staged[k]
       :: endr[k]==0 && staged[k]==0 ->
          hold_broken=(KIND(claim[k])==HOLD); assert(!hold_broken);
#ifndef NO_CANCEL_KIND
          endr[k]=(KIND(claim[k])==STOP -> CANCEL : RETRY)
#else
          endr[k]=RETRY
#endif
       fi };
     CRASH
  :: else
  fi;
#ifndef NO_HELP
  settle();
#else
  if :: !before -> settle() :: else fi;
#endif
  if :: OWNER(claim[k])==p -> ready=ready & ~BIT(k); CRASH; staged[k]=0; CRASH :: else fi;
  intent[p]=intent[p] & ~BIT(k);        /* recover.drop_intent */
  goto begin;
  goto stop;
died: if :: me==KEEPER -> run keeper(KEEPER+1) :: else fi;
stop: skip }

proctype check() { byte n;
  timeout ->
  d_step { COUNT(n);
    lost=!(n==NA || (n>0 && (endr[n-1]==DONE || endr[n-1]==CANCEL || (KIND(claim[n-1])==HOLD && endr[n-1]==0))));
    promise_forgotten=(promised && n<NA && endr[n-1]!=CANCEL && endr[n-1]!=DONE) };
  assert(!lost); assert(!promise_forgotten) }

init { atomic {
#ifdef DEP
  noted[5]=1; run completer(5);
#else
  d_done=1; ready=BIT(0);
#endif
  run worker(0);
#ifdef CANCELS
  run canceller(2);
#endif
#ifdef HOLDS
  run holder(3);
#endif
  run keeper(KEEPER); run check() } }
