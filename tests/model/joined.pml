/* Core, dependencies and scopes in one: task A, and B which comes after A (with ANY_ORDER: which does not). Both want
   the same scope. A worker, a crash of anybody, a zombie, a recoverer. The scope table is the chain of versions,
   here without removal of old ones (scope.pml has that), so a link of version N+1 is one compare and swap.

   Claim: take the scope, then the intent, then the claim, then look for procs/W/end. An entry is dead if its attempt
   has ended, or if its process was declared dead and then n.claim is not its own.

   NO_HELP      R4: recovery settles only what it ended itself
   NO_REGFIRST  R6: B is not registered as a waiter before A is looked at
   NO_CAS       R7: the scope table is written without looking whether it is the one that was read
   NO_FENCE     fault 14: an entry is dead as soon as its process was declared dead
   NO_DEAD_LOOK a claimer does not look for procs/W/end after its claim */

#define NA 2            /* attempts of a task; the last one's end is final */
#define IX(t,n) ((t)*NA+(n))
#define A 0
#define B 1
#define DONE 1
#define RETRY 2
#define W 2             /* workers */
#define SUBMITTER 2
#ifndef MAXC
#define MAXC 1
#endif
#ifndef MAXS
#define MAXS 1
#endif
#define BIT(n) (1<<(n))

byte claim[2*NA], endr[2*NA];
byte ready;
bool waiter, noted;     /* waiters/A/B; the submitter's run/_submit.B */
byte intent[W];         /* unit + 1 */
bool dead[W+2], declared[W];
byte version, entry_unit, entry_of;     /* the newest version of the table: which attempt (+1), which worker */
byte crashes, zombies;
bool blocked_ran, two_in_scope, two_winners, lost;

#define OVER(t) (endr[IX(t,0)]==DONE || endr[IX(t,1)]!=0)
#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[me]=1 }; goto stop :: skip fi
#ifdef ANY_ORDER
#define FREE(t) 1
#else
#define FREE(t) ((t)==A || OVER(A))
#endif

/* Follow-ups of a task's registers. */
#define RETRY_DUE(t) (endr[IX(t,0)]==RETRY && claim[IX(t,1)]==0)
inline settle_b() {
#ifndef NO_REGFIRST
  waiter=1; CRASH;
  if :: claim[IX(B,0)]==0 && FREE(B) -> CRASH; ready=ready | BIT(IX(B,0)); CRASH :: else fi;
#else
  if :: claim[IX(B,0)]==0 && FREE(B) -> CRASH; ready=ready | BIT(IX(B,0)); CRASH
     :: else -> CRASH; waiter=1; CRASH fi;
#endif
  if :: RETRY_DUE(B) -> ready=ready | BIT(IX(B,1)); CRASH :: else fi }
inline settle(t) {
  if
  :: t==A ->
     if :: RETRY_DUE(A) -> ready=ready | BIT(IX(A,1)); CRASH :: else fi;
     if :: OVER(A) && waiter -> CRASH; settle_b() :: else fi
  :: else -> if :: RETRY_DUE(B) -> ready=ready | BIT(IX(B,1)); CRASH :: else fi
  fi }

proctype submitter(byte me) { settle_b(); noted=0;
stop: skip }

proctype worker(byte me) { byte u, v, e, o; bool won;
again: skip; d_step { u=0; v=0; e=0; o=0; won=0 };
  if
  :: OVER(A) && OVER(B) -> goto stop
  :: declared[me] -> goto stop          /* it goes on under a new identity only */
  :: atomic { !declared[me] && ready!=0 -> do :: ready & BIT(u) -> break :: (ready>>(u+1))!=0 -> u++ od }
  fi;
  if
  :: claim[u]!=0 -> ready=ready & ~BIT(u); goto again
  :: claim[u]==0 && !FREE(u/NA) -> goto again
  :: claim[u]==0 && FREE(u/NA)
  fi;
  /* The scope: read the newest version, judge its entry, link the next one. */
  d_step { v=version; e=entry_unit; o=entry_of };
  if
  :: e==0
  :: e!=0 && endr[e-1]!=0
#ifndef NO_FENCE
  :: e!=0 && endr[e-1]==0 && declared[o] -> if :: claim[e-1]==o+1 -> goto again :: else fi
#else
  :: e!=0 && endr[e-1]==0 && declared[o]
#endif
  :: e!=0 && endr[e-1]==0 && !declared[o] && e==u+1 && claim[e-1]!=0 && claim[e-1]!=o+1  /* lost that claim */
  :: e!=0 && endr[e-1]==0 && o==me      /* left from before: its own, unclaimed */
  :: else -> goto again
  fi;
#ifndef NO_CAS
  d_step { won=(version==v); if :: won -> version++; entry_unit=u+1; entry_of=me :: else fi };
#else
  d_step { won=1; version++; entry_unit=u+1; entry_of=me };
#endif
  if :: !won -> goto again :: else fi;
  CRASH;
  intent[me]=u+1; CRASH;                /* claim.intent */
  d_step { won=0; if :: claim[u]==0 -> claim[u]=me+1; won=1 :: else fi };      /* claim.link */
  CRASH;
  if :: !won -> settle(u/NA); intent[me]=0; CRASH; goto again :: else fi;
#ifndef NO_DEAD_LOOK
  if
  :: declared[me] -> d_step { if :: endr[u]==0 -> endr[u]=RETRY :: else fi }; settle(u/NA); intent[me]=0; goto again
  :: else
  fi;
#endif
  ready=ready & ~BIT(u); CRASH;
  d_step { blocked_ran=!FREE(u/NA); assert(!blocked_ran) };
  d_step {                              /* the command ran; end.link: an accepted end is of who has the scope */
    if
    :: endr[u]==0 -> endr[u]=DONE; two_in_scope=(entry_unit!=u+1 || entry_of!=me); assert(!two_in_scope);
       two_winners=(endr[IX(u/NA,0)]==DONE && endr[IX(u/NA,1)]==DONE); assert(!two_winners)
    :: else
    fi };
  CRASH;
  settle(u/NA);
  intent[me]=0;
  goto again;
stop: skip }

/* If it dies, the next one begins anew: it has nothing of its own. */
#define RECOVERER 3
proctype recoverer(byte me) { byte p, u; bool d, mine;
again: skip; d_step { p=0; u=0; d=0; mine=0 };
  if
  :: OVER(A) && OVER(B) -> goto stop
  :: dead[SUBMITTER] && noted -> goto submission
  :: atomic { (dead[0] && !declared[0]) || (zombies<MAXS && !declared[0]) -> p=0 }
  :: atomic { (dead[1] && !declared[1]) || (zombies<MAXS && !declared[1]) -> p=1 }
  :: atomic { declared[0] && intent[0]!=0 -> p=0 }
  :: atomic { declared[1] && intent[1]!=0 -> p=1 }
  fi;
  d=dead[p];
  d_step { if :: !declared[p] && !dead[p] -> zombies++ :: else fi; declared[p]=1 };    /* recover.declare */
  atomic { if :: intent[p]==0 -> goto again :: else u=intent[p]-1 fi };
  d_step { if :: claim[u]==p+1 && endr[u]==0 -> mine=1; endr[u]=RETRY :: else fi };    /* recover.expire */
#ifndef NO_HELP
  settle(u/NA);
#else
  if :: mine -> settle(u/NA) :: else fi;
#endif
  if :: d -> d_step { if :: intent[p]==u+1 -> intent[p]=0 :: else fi } :: else fi;
  goto again;
submission: settle_b(); noted=0; goto again;
stop: if :: dead[me] -> dead[me]=0; goto again :: else fi }

proctype check() { timeout -> lost=!(OVER(A) && OVER(B)); assert(!lost) }

init { atomic { ready=BIT(IX(A,0)); noted=1;
  run submitter(SUBMITTER); run worker(0); run worker(1); run recoverer(RECOVERER); run check() } }
