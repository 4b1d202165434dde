/* Exclusive scopes, the chain: a table as a row of immutable versions scopes/v(N). Who wants a scope builds version
   N+1 from version N and links it (compare and swap). Old versions are removed. All scopes overlap here, so at most
   one may be in use. An entry is alive as long as its attempt has not ended; nobody gives a scope back.
   Of the design; the chain is not built yet.

   NO_RECHECK  R7  after the link nobody looks again whether the newest version has him: a process that slept while
                   the chain went on and its old versions were removed links a version that is long past */

#define W 4             /* processes */
#define K 9             /* versions */
byte owner[K];          /* who is in version v: process + 1; 0: nobody */
bool exists[K];         /* scopes/v(N) is there */
byte oldest, in_use;
bool ended[W];          /* n.end of the process's attempt */
bool two_holders;

#define NEWEST(x) x=K-1; do :: exists[x] -> break :: !exists[x] && x>0 -> x-- :: !exists[x] && x==0 -> break od

proctype process(byte w) { byte n, o, x; bool won;
  do
  :: d_step { NEWEST(n); o=owner[n] };                          /* list, read the newest */
     if :: n>=K-1 -> break :: else fi;                          /* end of the model */
     if :: o!=0 && !ended[o-1] -> goto again :: else fi;        /* in use */
     d_step { won=0; if :: !exists[n+1] -> exists[n+1]=1; owner[n+1]=w+1; won=1 :: else fi };      /* link */
     if :: !won -> goto again :: else fi;
#ifndef NO_RECHECK
     d_step { NEWEST(x); won=(x==n+1 && owner[x]==w+1); x=0 };  /* list again: void unless the newest has me */
     if :: !won -> goto again :: else fi;
#endif
     d_step { in_use++; two_holders=(in_use>1); assert(!two_holders) };
     d_step { in_use--; ended[w]=1; n=0; o=0; won=0 };          /* n.end: the entry is dead */
     break;
again: skip; d_step { n=0; o=0; won=0 }
  od }

/* Removes the oldest version, never the newest. */
active proctype collector() { byte x, m;
  do
  :: d_step { NEWEST(x); m=oldest;
       if :: m+1<x && exists[m] -> exists[m]=0; owner[m]=0; oldest=m+1 :: else fi;
       x=0; m=0 }
  :: break
  od }

init { atomic { exists[0]=1; run process(0); run process(1); run process(2); run process(3) } }
