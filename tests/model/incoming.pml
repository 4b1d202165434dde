/* A file in incoming/ becomes exactly one task, whoever dies on the way, the recoverers included (fault 16), and though
   its number may be taken by others.

   Three keepers. Each takes the file if it is there, and recovers the dead. A foreign submitter takes the first
   number at any moment; the sweep removes tasks/N while it is empty. One submission uid: the file's, fixed by the
   rename that takes it. Steps as in queue-layout.md 4.1, 4.2 and 4.10.

   NO_UID      a redo makes a uid of its own: nothing tells that two staged files are one submission
   NO_SERVED   recovery does not drop an _in whose submission is staged, before it goes on with that submission
   NO_STAGED   the taken file goes before its submission is staged
   NO_TAKE     the file is copied out of incoming/ and then removed, instead of renamed
   NO_AGAIN    the link into a directory that was removed meanwhile is not tried again
   NO_HELP     R4: a recoverer that finds the submission linked already drops it before it has settled */

#define P 3             /* keepers */
#define N 4             /* numbers, from 1; 0 is not used */
#define ANOTHERS 1      /* content of a spec.json: somebody else's, or ours */
#define OURS 2
#ifndef MAXC
#define MAXC 2
#endif

bool incoming=1;        /* incoming/NAME */
bool in_[P];            /* procs/W/run/_in.UID */
bool submit[P*N];       /* procs/W/run/_submit.N */
bool dir[N]; byte made[N];      /* tasks/N, and how often it was made: an open descriptor is of one making */
byte spec[N];           /* tasks/N/spec.json */
bool hint[N];           /* ready/.../N.1 */
bool dead[P];
byte crashes, swept, tasks_made, copies;
bool submitted_twice, lost;

#define SUB(p,n) submit[(p)*N+(n)]
#define CRASH if :: atomic { crashes<MAXC -> crashes++; dead[me]=1 }; goto stop :: skip fi
#define LEFT(p) (in_[p] || SUB(p,1) || SUB(p,2) || SUB(p,3))

proctype keeper(byte me) { byte r, n, m, fd; bool s_in, gone; byte s_sub;
idle: skip; d_step { r=0; n=0; m=0; fd=0; s_in=0; s_sub=0; gone=0 };
end_idle:
  if
#ifndef NO_TAKE
  :: atomic { incoming -> incoming=0; in_[me]=1 }               /* incoming.take: one rename, one winner */
#else
  :: atomic { incoming -> in_[me]=1; copies++ }; CRASH; atomic { incoming=0 }
#endif
     goto accept
  :: atomic { dead[0] && LEFT(0) -> r=0 }; goto recover
  :: atomic { dead[1] && LEFT(1) -> r=1 }; goto recover
  :: atomic { dead[2] && LEFT(2) -> r=2 }; goto recover
  fi;

accept:                                 /* of run/_in.UID, which is mine: choose a number, stage, drop, place */
  CRASH;
  if :: spec[1]==0 -> n=1 :: spec[1]!=0 -> n=2 fi;              /* stats/next-id, or the largest there is */
#ifdef NO_STAGED
  atomic { in_[me]=0 }; CRASH;
#endif
  atomic { SUB(me,n)=1 };               /* submit.staged */
  CRASH;
  atomic { in_[me]=0 };                 /* incoming.staged */
  s_in=0;
  CRASH;
place:
  atomic { if :: !dir[n] -> dir[n]=1; made[n]++ :: else fi };   /* submit.mkdir */
  CRASH;
  atomic { if :: dir[n] -> fd=made[n] :: else fd=0 fi };        /* open it */
  if :: fd==0 -> goto place :: else fi;
  CRASH;
  d_step {                              /* submit.link, through the descriptor */
    if
    :: !dir[n] || made[n]!=fd -> gone=1                         /* ENOENT: removed while it was empty */
#ifdef NO_UID
    :: else -> if :: spec[n]==0 -> spec[n]=OURS; tasks_made++; m=0 :: else m=1 fi
#else
    :: else ->
       if :: spec[n]==0 -> spec[n]=OURS; tasks_made++; m=0 :: spec[n]==OURS -> m=0 :: else m=1 fi
#endif
    fi;
    submitted_twice=(tasks_made>1); assert(!submitted_twice) };
#ifndef NO_AGAIN
  if :: gone -> gone=0; goto place :: else fi;
#else
  if :: gone -> goto drop :: else fi;
#endif
  CRASH;
  if
  :: m==1 -> d_step { SUB(me,n)=0; n++; assert(n<N); SUB(me,n)=1; m=0 };        /* submit.rekey: a rename */
     CRASH; goto place
  :: else
  fi;
  atomic { hint[n]=1 };                 /* submit.settle */
  CRASH;
drop: atomic { SUB(me,n)=0 };           /* submit.drop */
  CRASH;
  if :: s_in -> goto take_over :: else -> goto idle fi;

recover: skip;                          /* list run/; r is dead, so nothing is added any more */
  d_step { s_in=in_[r];
    if :: SUB(r,1) -> s_sub=1 :: else if :: SUB(r,2) -> s_sub=2 :: else if :: SUB(r,3) -> s_sub=3 :: else fi fi fi };
  CRASH;
#if !defined(NO_SERVED) && !defined(NO_UID)
  if                                    /* recover.served: both are there, with one uid */
  :: s_in && s_sub!=0 ->
     if :: SUB(r,s_sub) -> CRASH; atomic { in_[r]=0 } :: else fi
  :: else
  fi;
  CRASH;
#endif
  if
  :: s_sub!=0 ->                        /* recover.submit */
     if
     :: !SUB(r,s_sub) -> skip                                   /* another recoverer has it */
     :: SUB(r,s_sub) && spec[s_sub]==OURS ->                    /* linked before its owner died */
        CRASH;
#ifndef NO_HELP
        atomic { hint[s_sub]=1 }; CRASH; atomic { SUB(r,s_sub)=0 }
#else
        atomic { SUB(r,s_sub)=0 }; CRASH; atomic { hint[s_sub]=1 }
#endif
     :: SUB(r,s_sub) && spec[s_sub]!=OURS ->
        CRASH;
        d_step { gone=!SUB(r,s_sub);    /* rename it to one's own; ENOENT: another recoverer has it */
          if :: !gone -> SUB(r,s_sub)=0; SUB(me,s_sub)=1; n=s_sub :: else fi };
        CRASH;
        if :: !gone -> s_sub=0; goto place :: gone -> gone=0 fi
     fi
  :: else
  fi;
  CRASH;
take_over:
  if
  :: s_in ->                            /* recover.incoming: rename it to one's own, and accept it */
     d_step { s_in=0; gone=!in_[r]; if :: !gone -> in_[r]=0; in_[me]=1 :: else fi };
     if :: !gone -> goto accept :: gone -> gone=0 fi
  :: else
  fi;
  goto idle;
stop: skip }

proctype others() {
  if :: atomic { spec[1]==0 -> spec[1]=ANOTHERS; if :: !dir[1] -> dir[1]=1; made[1]++ :: else fi } :: skip fi }

/* sweep.rmdir: an old directory without spec.json. Here any one is old. */
proctype sweeper() {
  if
  :: atomic { dir[1] && spec[1]==0 && swept<1 -> swept++; dir[1]=0 }
  :: atomic { dir[2] && spec[2]==0 && swept<1 -> swept++; dir[2]=0 }
  :: skip
  fi }

proctype check() { byte n;
  timeout ->
  d_step { n=1; lost=1;
    do
    :: n<N -> if :: spec[n]==OURS && hint[n] -> lost=0 :: else fi; n++
    :: else -> break
    od };
  assert(!lost) }

init { atomic { run keeper(0); run keeper(1); run keeper(2); run others(); run sweeper(); run check() } }
