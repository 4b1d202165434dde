/* Claims that no intent names: made by hand with ln, by a person or a script, and the sweep that finds them
   (queue-layout.md 4.15; sweep.rs, recover::expire_orphan). One task; a worker of the usual kind that may die at any
   step; a hand that claims the next attempt, as a script that goes on, as a script that dies, or as a person who
   holds it; two sweeps; a recoverer. The sweep lists all run/ first and the tasks after, each for itself.

   NO_DEATH    the sweep ends every claim that no intent named, whether its process lives or not
   NO_KIND     it ends the claims of people, which have no process by nature
   NO_INTENT   it ends the claim without run/_settle.T
   NO_SWEEP    there is none: a claim by a dead hand stays for ever
   NO_RECHECK  it trusts its list of intents and does not look for run/T.n again before it ends a claim: a worker that
               claimed after the listing, staged its verdict and died loses that verdict. sweep.rs is so today: work
               is done again, nothing else is lost

   MAXC crashes, of worker, hand and the first sweep. WHO is the hand: 2 a script, 3 a person. */

#ifndef WHO
#define WHO 2
#endif
#define NA 3
#ifndef MAXC
#define MAXC 2
#endif
#define DONE 1
#define RETRY 2
/* Who claims: worker, hand as script, hand as person. */
#define WORKER 1
#define SCRIPT 2
#define PERSON 3
byte claim[NA], endr[NA];
byte ready=1;           /* hint of attempt ready-1; 0: none */
byte intent;            /* the worker's run/T.n, + 1 */
byte staged;            /* its T.n.end, + 1; always done */
bool noted[2];          /* run/_settle.T of the sweeps */
bool dead[4];           /* by kind of claim; 0: the first sweep */
byte crashes, extra; bool hand_used;
bool ended_the_living, ended_a_person, threw_away, lost;

#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[me]=1 }; goto stop :: skip fi
#define COUNT n=0; do :: n<NA && claim[n]!=0 -> n++ :: else -> break od
#define OVER (endr[0]==DONE || endr[1]==DONE || endr[2]!=0)

#define UNHINT d_step { if :: ready==k+1 -> ready=0 :: else fi }

inline settle() {
  d_step { COUNT; if :: n<NA && n>0 && endr[n-1]==RETRY -> ready=n+1 :: n==0 -> ready=1 :: else fi; n=0 } }

proctype worker(byte me) { byte n, k; bool won;
end_idle:
  do
  :: OVER -> break
  :: atomic { ready!=0 -> k=ready-1 };
     d_step { COUNT; won=(n==k && (n==0 || endr[n-1]==RETRY)); n=0 };
     if :: !won -> UNHINT; goto next :: else fi;
     intent=k+1; CRASH;
     d_step { if :: claim[k]==0 -> claim[k]=WORKER :: else won=0 fi }; CRASH;
     UNHINT; CRASH;
     if
     :: won ->
        staged=k+1; CRASH;
        d_step { if :: endr[k]==0 -> endr[k]=DONE :: else fi }; CRASH;
        settle(); staged=0
     :: else -> settle()
     fi;
     CRASH;
     intent=0;
next: skip
  od;
  goto quit;
stop: skip;
  run successor();
quit: skip }

/* A worker that does not die, in place of the dead one: from claim to end in one go. */
proctype successor() { byte n;
end_idle:
  do
  :: OVER -> break
  :: d_step { ready!=0 -> COUNT; 
       if :: n==ready-1 && (n==0 || endr[n-1]==RETRY) -> claim[n]=WORKER; endr[n]=DONE :: else fi; ready=0; n=0 }
  od }

/* ln card tasks/T/n.claim, and later ln result tasks/T/n.end: no intent. */
proctype hand(byte me) { byte n, k;
  atomic { COUNT; k=n; n=0;
    if :: k<NA && (k==0 || endr[k-1]==RETRY) -> claim[k]=me; hand_used=1 :: else -> goto stop fi };
  if
  :: me==PERSON -> goto stop            /* it stands until the person ends it */
  :: else
  fi;
  CRASH;
  d_step { if :: endr[k]==0 -> endr[k]=DONE :: else fi };
stop: skip }

/* recover: of the dead worker's intent. */
proctype recoverer() { byte n, k;
end_idle:
  do
  :: dead[WORKER] && intent!=0 ->
     k=intent-1;
     d_step { if :: claim[k]==WORKER && endr[k]==0 -> endr[k]=(staged==k+1 -> DONE : RETRY) :: else fi };
     settle();
     staged=0; intent=0
  :: dead[0] && noted[0] -> settle(); noted[0]=0
  od }

/* Dies at most once; the next one begins anew and does not die. It begins at any time,
   twice, and whenever there is something to be found. */
proctype sweep(byte me) { byte n, k, named; bool orphan;
end_idle:
  do
  :: extra<2 && !OVER -> extra++; goto list
  :: (claim[0]!=0 && endr[0]==0 && dead[claim[0]]) || (claim[1]!=0 && endr[1]==0 && dead[claim[1]]) -> goto list
  od;
list:
  named=intent;                         /* list all run/ */
  d_step { COUNT; k=(n>0 -> n-1 : 0); orphan=(n>0 && endr[k]==0 && named!=k+1
#ifndef NO_KIND
    && claim[k]!=PERSON
#endif
#ifndef NO_DEATH
    && (claim[k]==PERSON || dead[claim[k]])
#endif
    ); n=0 };
#ifndef NO_RECHECK
  orphan=(orphan && intent!=k+1);       /* after the death was seen: else it is recovery's */
#endif
  if
  :: orphan ->
#ifndef NO_INTENT
     noted[me]=1;
#endif
     if :: me==0 -> CRASH :: else fi;
     d_step {
       if
       :: endr[k]==0 -> endr[k]=RETRY;
          ended_a_person=(claim[k]==PERSON); assert(!ended_a_person);
          ended_the_living=!dead[claim[k]]; assert(!ended_the_living);
          threw_away=(claim[k]==WORKER && staged==k+1); assert(!threw_away)
       :: else
       fi };
     if :: me==0 -> CRASH :: else fi;
     settle();
     noted[me]=0
  :: else
  fi;
  goto end_idle;
stop: run sweep(1) }

proctype check() { byte n;
  timeout -> d_step { COUNT; lost=!(OVER || (n>0 && claim[n-1]==PERSON && endr[n-1]==0)); assert(!lost) } }

init { atomic { run worker(WORKER); run hand(WHO); run recoverer();
#ifndef NO_SWEEP
  run sweep(0);
#endif
  run check() } }
