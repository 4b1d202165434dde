/* One or two tasks, workers, a submitter and a recoverer: claims, ends, retries, and what a crash leaves.

   Each atomic or d_step is one system call, and any process may die between two. Names: claim[T.n] and endr[T.n]
   are the registers tasks/T/n.claim and n.end; ready[T.n] the hint ready/.../T.n; it/in_ of a worker its one
   intent procs/W/run/T.n; substage the staged submission run/_submit.T. Attempts count from 0 here.

   The design as it is has no flag. Each NO_ flag takes one rule out, and then an assertion must fail:
   NO_HELP        R4  who did not write the end himself does no follow-ups of it
   NO_HELP_LOSER  R4  a claimer that lost drops its intent and does not settle (claim.help)
   NO_LATCH       R5  a recoverer looks whether the process is dead after it has read the registers
   NO_VERIFY      R2  the answer of link(2) is believed, though a reply may be lost (with NFS)
   NO_ENDCHK      R2  a claim of one's own counts as won although its attempt has ended (with NFS)
   NO_UNHINT      R8  a loser leaves the stale hint (only liveness suffers: fault 18)

   Bounds: NT tasks, NW workers, MAXC crashes of workers and submitter (and lost replies), MAXS leases that are
   judged stale although the owner lives (a zombie), MAXM crashes of the recoverer, MAXF jobs that fail.
   NFS: link(2) may succeed and say that it failed. NOSUB: the tasks are submitted and ready at the beginning. */

#ifndef NT
#define NT 1
#endif
#ifndef NW
#define NW 2
#endif
#ifndef MAXC
#define MAXC 1
#endif
#ifndef MAXS
#define MAXS 1
#endif
#ifndef MAXM
#define MAXM 1
#endif
#ifndef MAXF
#define MAXF 1
#endif
#define NA 3
#define IX(t,n) ((t)*NA+(n))
#define DONE 1
#define FAIL 2
#define EXP  3
#define RETRY(v) ((v)==FAIL || (v)==EXP)
#define TERM(t) (endr[IX(t,0)]==DONE || endr[IX(t,1)]==DONE || endr[IX(t,2)]!=0)
#if NT>1
#define ALLTERM (TERM(0) && TERM(1))
#define SOMEREADY (ready[0] || ready[1] || ready[2] || ready[3] || ready[4] || ready[5])
#else
#define ALLTERM TERM(0)
#define SOMEREADY (ready[0] || ready[1] || ready[2])
#endif

byte claim[NT*NA];      /* who holds T.n: worker + 1 */
byte endr[NT*NA];       /* how T.n ended */
bool ready[NT*NA];
bool spec[NT];
bool substage[NT];
byte it[NW]; byte in_[NW];      /* the worker's intent: task, attempt + 1; 0: none */
bool dead[NW]; bool subdead;
byte held[NT*NA];       /* how many believe that they won T.n */
byte comp[NT];          /* accepted completions */
byte crashes, zombies, restarts, fails;
bool two_winners, two_completions, lost;

#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[w]=1 }; goto stop :: skip fi
#define SUBCRASH if :: atomic { crashes<MAXC -> crashes++; subdead=1 }; goto stop :: skip fi

proctype submitter() { byte t=0;
  do
  :: t<NT ->
     atomic { substage[t]=1 };          /* submit.staged: rename to run/_submit.T */
     SUBCRASH;
     atomic { spec[t]=1 };              /* submit.link: the task is accepted */
     SUBCRASH;
     atomic { ready[IX(t,0)]=1 };       /* submit.settle */
     SUBCRASH;
     atomic { substage[t]=0; t++ }      /* submit.drop */
  :: else -> break
  od;
stop: skip }

proctype worker(byte w) { byte t, n; bool won; byte v;
  do
  :: atomic { SOMEREADY ->              /* list ready/ */
       if
       :: ready[0] -> t=0; n=0
       :: ready[1] -> t=0; n=1
       :: ready[2] -> t=0; n=2
#if NT>1
       :: ready[3] -> t=1; n=0
       :: ready[4] -> t=1; n=1
       :: ready[5] -> t=1; n=2
#endif
       fi };
     CRASH;
     atomic { it[w]=t; in_[w]=n+1 };    /* claim.intent: link the card to procs/W/run/T.n */
     CRASH;
     d_step { won=0;                    /* claim.link: link the card to tasks/T/n.claim */
       if :: claim[IX(t,n)]==0 -> claim[IX(t,n)]=w+1; won=1 :: else fi };
#ifdef NFS
     if :: atomic { won && crashes<MAXC -> crashes++; won=0 } :: skip fi;      /* the reply is lost */
#ifndef NO_VERIFY
#ifndef NO_ENDCHK
     atomic { won=(claim[IX(t,n)]==w+1 && endr[IX(t,n)]==0) };  /* read n.claim back; stat n.end */
#else
     atomic { won=(claim[IX(t,n)]==w+1) };
#endif
#endif
#endif
     CRASH;
     if
     :: won -> d_step { held[IX(t,n)]++; two_winners=(held[IX(t,n)]>1); assert(!two_winners) }
     :: else ->
#ifndef NO_UNHINT
        atomic { ready[IX(t,n)]=0 };    /* ready.unlink */
        CRASH;
#endif
#ifndef NO_HELP_LOSER
        if :: RETRY(endr[IX(t,n)]) && n<NA-1 -> atomic { ready[IX(t,n+1)]=1 }; CRASH :: else fi;        /* claim.help */
#endif
        atomic { in_[w]=0 };            /* claim.drop_intent */
        goto again
     fi;
     CRASH;
     atomic { ready[IX(t,n)]=0 };       /* ready.unlink */
     CRASH;
     if :: v=DONE :: atomic { fails<MAXF -> fails++; v=FAIL } fi;      /* the job runs */
     CRASH;
     d_step { won=0;                    /* end.link */
       if
       :: endr[IX(t,n)]==0 -> endr[IX(t,n)]=v; won=1;
          if :: v==DONE -> comp[t]++; two_completions=(comp[t]>1); assert(!two_completions) :: else fi
       :: else
       fi };
     CRASH;
#ifndef NO_HELP
     if :: RETRY(endr[IX(t,n)]) && n<NA-1 -> atomic { ready[IX(t,n+1)]=1 }; CRASH :: else fi;  /* end.settle */
#else
     if :: won && v==FAIL && n<NA-1 -> atomic { ready[IX(t,n+1)]=1 }; CRASH :: else fi;
#endif
     atomic { in_[w]=0 };               /* end.drop_intent */
again: skip; d_step { t=0; n=0; v=0; won=0 }
  :: ALLTERM -> break
  od;
stop: skip }

/* A recoverer that dies is restarted, and there is nothing to be known from before. */
#define RCRASH if :: atomic { restarts<MAXM -> restarts++ }; goto begin :: skip fi
/* It looks at an intent of a process that is dead, or whose lease it judges to be over. */
#ifndef NO_HELP
#define SUSPECT(x) (dead[x] || zombies<MAXS || endr[IX(it[x],in_[x]-1)]!=0)
#else
#define SUSPECT(x) (dead[x] || zombies<MAXS)
#endif

proctype recoverer() { byte t, n, w; bool d, k;
begin: skip; d_step { t=0; n=0; w=0; d=0; k=0 };
  do
  :: atomic { subdead && substage[0] -> t=0 }; goto submission
#if NT>1
  :: atomic { subdead && substage[1] -> t=1 }; goto submission
#endif
  :: atomic { in_[0]!=0 && SUSPECT(0) -> w=0; t=it[0]; n=in_[0]-1 }; goto attempt
#if NW>1
  :: atomic { in_[1]!=0 && SUSPECT(1) -> w=1; t=it[1]; n=in_[1]-1 }; goto attempt
#endif
#if NW>2
  :: atomic { in_[2]!=0 && SUSPECT(2) -> w=2; t=it[2]; n=in_[2]-1 }; goto attempt
#endif
  :: ALLTERM -> goto stop
  od;
submission:                             /* recover.submit: the staged file is the whole task */
  RCRASH; atomic { spec[t]=1 }; RCRASH; atomic { ready[IX(t,0)]=1 }; RCRASH; atomic { substage[t]=0 };
  goto begin;
attempt:
#ifndef NO_LATCH
  atomic { d=dead[w] };                 /* the death is observed before the registers are read */
#endif
  RCRASH;
  d_step {                              /* recover.expire; a lease may be over although the owner lives */
    if
    :: claim[IX(t,n)]==w+1 && endr[IX(t,n)]==0 && !dead[w] && zombies<MAXS -> zombies++; endr[IX(t,n)]=EXP; k=1
    :: claim[IX(t,n)]==w+1 && endr[IX(t,n)]==0 && dead[w] -> endr[IX(t,n)]=EXP; k=1
    :: else
    fi };
  RCRASH;
#ifndef NO_HELP
  if :: claim[IX(t,n)]==w+1 && RETRY(endr[IX(t,n)]) && n<NA-1 -> atomic { ready[IX(t,n+1)]=1 } :: else fi;
#else
  if :: k && n<NA-1 -> atomic { ready[IX(t,n+1)]=1 } :: else fi;
#endif
  RCRASH;
#ifdef NO_LATCH
  d=dead[w];
#endif
  /* recover.drop_intent: only a dead process's, and by its whole name T.n (R3) */
  if :: d -> d_step { if :: it[w]==t && in_[w]==n+1 -> in_[w]=0 :: else fi } :: else fi;
  goto begin;
stop: skip }

/* When nobody can move, every task that was accepted is over. */
#if NT>1
#define FORGOTTEN ((spec[0] && !TERM(0)) || (spec[1] && !TERM(1)))
#else
#define FORGOTTEN (spec[0] && !TERM(0))
#endif
proctype check() { timeout -> lost=FORGOTTEN; assert(!lost) }

init { atomic {
#ifdef NOSUB
  spec[0]=1; ready[IX(0,0)]=1;
#if NT>1
  spec[1]=1; ready[IX(1,0)]=1;
#endif
#else
  run submitter();
#endif
  run worker(0);
#if NW>1
  run worker(1);
#endif
#if NW>2
  run worker(2);
#endif
  run recoverer();
  run check() } }

#if NT>1
ltl accepted_ends { [] ((spec[0] && spec[1]) -> <> (TERM(0) && TERM(1))) }
#else
ltl accepted_ends { [] (spec[0] -> <> TERM(0)) }
#endif
