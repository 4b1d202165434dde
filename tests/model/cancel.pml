/* The soft cancel alone (fault 10), small enough to be read in one go: two workers, one canceller, attempts that fail
   and are tried again. Once the canceller has said "requested", no later attempt may run. See decide.pml for all.

   NO_LOOK        the canceller promises without looking for n.end after it has linked n.cancel
   NO_CANCEL_DUE  whoever goes on to attempt n+1 does not look for n.cancel */

#define N 4
#define DONE 1
#define FAIL 2
#define CANCEL 3
byte claim[N];          /* 1: a worker, 2: the canceller */
byte endr[N];
bool asked[N];          /* n.cancel */
bool promised; byte promised_at;
bool ran_after_promise;

proctype worker() { byte k; bool c;
  do
  :: k>=N -> break
  :: else ->
     if
     :: k>0 ->
        if :: endr[k-1]==FAIL -> skip :: else -> break fi;
#ifndef NO_CANCEL_DUE
        c=asked[k-1];
        if
        :: c -> atomic { if :: claim[k]==0 -> claim[k]=2 :: else fi };         /* take it as cancelled */
           atomic { if :: claim[k]==2 && endr[k]==0 -> endr[k]=CANCEL :: else fi };
           break
        :: else
        fi
#endif
     :: else
     fi;
     atomic {                           /* claim.link */
       if
       :: claim[k]==0 -> claim[k]=1; ran_after_promise=(promised && promised_at<k); assert(!ran_after_promise)
       :: else -> break
       fi };
     if
     :: asked[k] -> atomic { if :: endr[k]==0 -> endr[k]=CANCEL :: else fi }; break    /* seen at a heartbeat */
     :: skip; atomic { if :: endr[k]==0 -> endr[k]=FAIL :: else fi }   /* failed, or its worker died */
     :: skip; atomic { if :: endr[k]==0 -> endr[k]=DONE :: else fi }; break
     fi;
     k++
  od }

proctype canceller() { byte k;
  do
  :: k>=N -> break
  :: else ->
     if
     :: claim[k]==0 ->                  /* pending: compete for the claim */
        atomic { if :: claim[k]==0 -> claim[k]=2 :: else fi };
        if :: claim[k]==2 -> atomic { if :: endr[k]==0 -> endr[k]=CANCEL :: else fi }; break :: else fi
     :: claim[k]!=0 && endr[k]==0 ->    /* running: cancel.link, then look again */
        asked[k]=1;
#ifndef NO_LOOK
        if :: endr[k]==0 -> atomic { promised=1; promised_at=k }; break :: else fi
#else
        atomic { promised=1; promised_at=k }; break
#endif
     :: endr[k]==FAIL -> k++
     :: endr[k]==DONE || endr[k]==CANCEL -> break
     fi
  od }

init { atomic { run worker(); run worker(); run canceller() } }
