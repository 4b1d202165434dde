/* The stages after a successful attempt: n.review, then n.merge (fixed in the design; the core reads them, no program
   writes them yet). T wants both. An attempt that is done goes to review; a stage says pass or bounce; a bounce
   permits attempt n+1. The work of a stage is claimed like an attempt, by a further number k of its own, with an
   intent, so that a dead reviewer or merger is recovered. X comes after T: it wants all stages.

   All follow-ups are settle. One fault in all: a crash, or a lease judged over although its owner lives.

   NO_HELP       R4: who finds a stage register taken (or recovers one) does not settle
   NO_STAGE_INTENT  the claim of a stage has no intent
   NO_STAGES     whoever waits for T is served when an attempt is done, stages or not
   NO_REGISTER   R1: a stage's verdict replaces what is there (rename instead of link)
   NO_LOOK       R8: a claim of attempt n+1 trusts its hint and does not look for what permits it */

#ifndef NA
#define NA 3            /* attempts */
#endif
#define K 2             /* claims of a stage */
#ifndef BOUNCES
#define BOUNCES 1
#endif
#ifndef FAULTS
#define FAULTS 1
#endif
#define DONE 1
#define EXPIRED 2
#define PASS 1
#define BOUNCE 2
/* A unit of work: attempt n, or claim k of stage s (0 review, 1 merge) of attempt n. */
#define UNITS (NA*5)
#define WORK(n) ((n)*5)
#define STAGE(n,s,k) ((n)*5+1+(s)*2+(k))
#define ATTEMPT(u) ((u)/5)
#define IS_STAGE(u) ((u)%5!=0)
#define S(u) (((u)%5-1)/2)
#define TRY(u) (((u)%5-1)%2)
#define REG(n,s) stage[(n)*2+(s)]

byte claim[UNITS];      /* who has it: process + 1 */
byte endr[UNITS];       /* n.end; of a stage only EXPIRED, to permit the next claim */
byte stage[NA*2];       /* n.review, n.merge */
short ready;            /* hints, a bit each */
#define BIT(u) (1<<(u))
#define UNHINT ready=ready & ~BIT(u)
byte intent[3];         /* of a process: unit + 1 */
bool dead[3];
bool x_ready;
byte faults, bounces;
bool merged_twice, claim_above_pass, served_early, lost, two_verdicts;

#define PASSED(n) (endr[WORK(n)]==DONE && REG(n,0)==PASS && REG(n,1)==PASS)
#define BOUNCED(n) (REG(n,0)==BOUNCE || REG(n,1)==BOUNCE)
#if NA>2
#define SUCCEEDED (PASSED(0) || PASSED(1) || PASSED(2))
#define MERGES ((REG(0,1)==PASS) + (REG(1,1)==PASS) + (REG(2,1)==PASS))
#elif NA>1
#define SUCCEEDED (PASSED(0) || PASSED(1))
#define MERGES ((REG(0,1)==PASS) + (REG(1,1)==PASS))
#else
#define SUCCEEDED PASSED(0)
#define MERGES (REG(0,1)==PASS)
#endif
#define OVER (SUCCEEDED || endr[WORK(NA-1)]==EXPIRED || BOUNCED(NA-1))
#define CRASH if :: atomic { faults<FAULTS -> faults++; dead[me]=1 }; goto stop :: skip fi

/* settle: what follows from the registers. */
inline settle() {
  d_step {
    n=0; do :: n<NA-1 && claim[WORK(n+1)]!=0 -> n++ :: else -> break od;
    s=(REG(n,0)==PASS -> 1 : 0);
    todo=UNITS;
    if
    :: claim[WORK(n)]==0 -> todo=WORK(n)
    :: claim[WORK(n)]!=0 && (endr[WORK(n)]==EXPIRED || BOUNCED(n)) -> if :: n<NA-1 -> todo=WORK(n+1) :: else fi
    :: claim[WORK(n)]!=0 && endr[WORK(n)]==DONE && !BOUNCED(n) && !PASSED(n) ->
       todo=(endr[STAGE(n,s,0)]==EXPIRED -> STAGE(n,s,1) : STAGE(n,s,0));
       if :: claim[todo]!=0 -> todo=UNITS :: else fi
    :: else
    fi;
#ifndef NO_STAGES
    serve=PASSED(n)
#else
    serve=(endr[WORK(n)]==DONE)
#endif
  };
  if
  :: serve -> x_ready=1; served_early=!OVER; assert(!served_early)
  :: !serve && todo<UNITS -> ready=ready | BIT(todo)
  :: else
  fi;
  CRASH }

proctype worker(byte me) { byte u, n, s, todo, v; bool won, serve;
again: skip; d_step { u=0; n=0; s=0; todo=0; v=0; won=0; serve=0 };
  if
  :: OVER -> goto stop
  :: atomic { ready!=0 -> do :: ready & BIT(u) -> break :: (ready>>(u+1))!=0 -> u++ od }
  fi;
  if                                    /* the look: what permits this unit? */
#ifndef NO_LOOK
  :: !IS_STAGE(u) && u>0 && endr[WORK(ATTEMPT(u)-1)]!=EXPIRED && !BOUNCED(ATTEMPT(u)-1) -> goto again   /* it may become right: it stays */
#endif
  :: IS_STAGE(u) && REG(ATTEMPT(u),S(u))!=0 -> UNHINT; goto again
  :: else
  fi;
#ifdef NO_STAGE_INTENT
  if :: !IS_STAGE(u) -> intent[me]=u+1 :: else fi;
#else
  intent[me]=u+1;
#endif
  CRASH;
  d_step { won=0; if :: claim[u]==0 -> claim[u]=me+1; won=1;
       claim_above_pass=(!IS_STAGE(u) && u>0 && PASSED(ATTEMPT(u)-1)); assert(!claim_above_pass)
     :: else fi };
  CRASH;
  UNHINT;
  if
  :: !won                               /* lost: settle, then drop the intent */
  :: won && !IS_STAGE(u) -> d_step { if :: endr[u]==0 -> endr[u]=DONE :: else fi }
  :: won && IS_STAGE(u) ->
     if :: v=PASS :: atomic { bounces<BOUNCES -> bounces++; v=BOUNCE } fi;
     CRASH;
     d_step {                           /* n.review or n.merge; a zombie's is as good as its successor's, if first */
#ifndef NO_REGISTER
       if :: REG(ATTEMPT(u),S(u))==0 -> REG(ATTEMPT(u),S(u))=v :: else won=0 fi;
#else
       two_verdicts=(REG(ATTEMPT(u),S(u))!=0 && REG(ATTEMPT(u),S(u))!=v); assert(!two_verdicts);
       REG(ATTEMPT(u),S(u))=v;
#endif
       merged_twice=(MERGES>1); assert(!merged_twice) }
  fi;
  CRASH;
#ifdef NO_HELP
  if :: won -> settle() :: else fi;
#else
  settle();
#endif
  intent[me]=0;
  goto again;
stop: skip }

proctype recoverer(byte me) { byte p, u, n, s, todo; bool d, serve, mine;
again: skip; d_step { p=0; u=0; n=0; s=0; todo=0; d=0; serve=0; mine=0 };
end_idle:
  if
  :: atomic { intent[0]!=0 && dead[0] -> p=0; u=intent[0]-1 }
  :: atomic { intent[1]!=0 && dead[1] -> p=1; u=intent[1]-1 }
  /* A lease is judged to be over. */
  :: atomic { intent[0]!=0 && !dead[0] && faults<FAULTS -> faults++; p=0; u=intent[0]-1 }
  :: atomic { intent[1]!=0 && !dead[1] && faults<FAULTS -> faults++; p=1; u=intent[1]-1 }
  fi;
  d=dead[p];                            /* R5: see core.pml */
  d_step {                              /* recover.expire: of the attempt, or of this claim of the stage */
    if
    :: claim[u]==p+1 && endr[u]==0 && (!IS_STAGE(u) || REG(ATTEMPT(u),S(u))==0) ->
       mine=1; endr[u]=EXPIRED
    :: else
    fi };
#ifdef NO_HELP
  if :: mine -> settle() :: else fi;
#else
  settle();
#endif
  if :: d -> d_step { if :: intent[p]==u+1 -> intent[p]=0 :: else fi } :: else fi;
  goto again;
stop: dead[me]=0; goto again }

proctype check() { timeout -> lost=!OVER || (SUCCEEDED && !x_ready); assert(!lost) }

init { atomic {
#ifdef HAND
  ready=BIT(WORK(1));
#endif
  ready=ready | BIT(WORK(0)); run worker(0); run worker(1); run recoverer(2); run check() } }
