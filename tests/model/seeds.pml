/* What this design replaces, with its faults: one claim file for a task; a reclaim removes it; who finishes looks
   whether the claim is still his own, moves the item away, and removes the claim by name. Here nothing is ever
   written once, so a zombie does harm.

   KEPT  the contrast: a claim is never removed, a reclaim is a further claim file that is permitted by an end which is
         written once, and finishing is that end. (The smallest form of what core.pml shows.) */

bool item=1;            /* the work is to be done */
byte live, zombies;
bool two_winners, removed_anothers;

#ifndef KEPT
byte claim;             /* the one claim file: worker + 1 */
bool stale[2];          /* whose lease was judged to be over */

proctype worker(byte w) { bool mine;
  do
  :: item ->
     if
     :: atomic { claim==0 -> claim=w+1; live++; two_winners=(live>1); assert(!two_winners) }      /* link */
     :: else -> goto again
     fi;
     mine=(claim==w+1);                 /* is the claim still mine? */
     if
     :: mine ->
        if :: atomic { item -> item=0 } :: else fi;     /* mv item done/, though the claim may have moved on */
        atomic {                        /* rm claim, by its name */
          if
          :: claim!=0 ->
             if
             :: !stale[w] -> live--
             :: else -> removed_anothers=(claim!=w+1); assert(!removed_anothers)
             fi;
             claim=0
          :: else
          fi }
     :: else
     fi;
again: skip
  :: !item -> break
  od }

proctype reclaimer() {
  do
  :: atomic { claim!=0 && zombies<1 -> zombies++; stale[claim-1]=1; claim=0; live-- }
  :: !item -> break
  od }
#else
#define N 3
byte claim[N];
byte endr[N];           /* 1 done, 2 taken back */

proctype worker(byte w) { byte k;
  do
  :: k>=N -> break
  :: else ->
     if :: k>0 && endr[k-1]!=2 -> goto again :: else fi;
     atomic { if :: claim[k]==0 -> claim[k]=w+1 :: else -> goto next fi };
     atomic {
       if :: endr[k]==0 -> endr[k]=1; two_winners=!item; assert(!two_winners); item=0 :: else fi };
next: k++;
again: if :: !item -> break :: else fi
  od }

proctype reclaimer() { byte k;
  do
  :: atomic { k<N-1 && claim[k]!=0 && endr[k]==0 && zombies<1 -> zombies++; endr[k]=2 }
  :: k<N-1 && endr[k]==2 -> k++
  :: !item -> break
  od }
#endif

init { atomic { run worker(0); run worker(1); run reclaimer() } }
