/* After a bounce: two tasks whose attempts came back (0 longer ago than 1) and a first attempt F that is done. All three
   change a and b. 0 and 1 hold what they have learned from their claims to their merges; F holds nothing and makes way.
   One lane merges. Whoever has not what landed meanwhile comes back; of 0 and 1 that must not happen any more.

   OUTSIDE   0 has learned a only, 1 has learned b only: they run at once, and what they change meets. 1 may come back
   NO_WAY    F does not make way
   NO_FENCE  a landing holds although somebody has started since the lane looked
   NO_LOOK_ORDER   the lane looks who makes way, and then where the ref of starts is
   NO_MARK_FIRST   an attempt reads its base, and then says that it starts
   NO_ONE_VERSION  two paths are taken one after the other (declared, then learned)
   NO_AGE    who is done makes way for everybody else, not only for those that came back longer ago */

#define F 2
byte a, b;              /* who holds the path: task + 1 */
byte learned_a[2], learned_b[2];
byte started;           /* refs/coord/started/LANE */
byte tip;               /* what has landed: a bit for each */
byte base[3], merged;   /* merged, or back: a bit for each */
bool claimed[3], ended[3];
bool came_back, lost;

#define HAS(x) (merged & (1<<(x)))
#define LIVE(x) (claimed[x] && !HAS(x))
/* What x has changed (a and b) meets what y holds. */
#define MEETS(y) ((learned_a[y] && a==(y)+1) || (learned_b[y] && b==(y)+1))

inline take_a(x) { if :: learned_a[x] -> atomic { a==0 -> a=x+1 } :: else fi }
inline take_b(x) { if :: learned_b[x] -> atomic { b==0 -> b=x+1 } :: else fi }

proctype task(byte x) {
#ifdef NO_ONE_VERSION
  if :: x==0 -> take_a(x); take_b(x) :: else -> take_b(x); take_a(x) fi;
#else
  atomic { (!learned_a[x] || a==0) && (!learned_b[x] || b==0) ->           /* scope.link */
    if :: learned_a[x] -> a=x+1 :: else fi; if :: learned_b[x] -> b=x+1 :: else fi };
#endif
  claimed[x]=1;                                                           /* claim.link */
#ifdef NO_MARK_FIRST
  base[x]=tip; started++;
#else
  started++;                                                              /* start.mark */
  base[x]=tip;
#endif
  ended[x]=1 }                                                            /* n.end: done */

/* Whether x makes way for y. */
#ifdef NO_AGE
#define BEFORE(y,x) ((y)!=(x))
#else
#define BEFORE(y,x) ((y)<(x))
#endif
#ifdef NO_WAY
#define WAY(x,y) 0
#else
#define WAY(x,y) (BEFORE(y,x) && LIVE(y) && MEETS(y))
#endif

proctype lane() { byte s, x, landed; bool free;
  do
  :: merged!=7 ->
     atomic { if                                                          /* the turn is ready: something is free */
     :: ended[0] && !HAS(0) && !WAY(0,1) -> x=0
     :: ended[1] && !HAS(1) && !WAY(1,0) -> x=1
     :: ended[F] && !HAS(F) && !WAY(F,0) && !WAY(F,1) -> x=F
     fi };
#ifdef NO_LOOK_ORDER
     free=!(WAY(x,0) || WAY(x,1)); s=started;
#else
     s=started;                                                           /* fence::watch_starts */
     free=!(WAY(x,0) || WAY(x,1));
#endif
     if
     :: !free                                                             /* waits in merging/, and is woken */
     :: free ->
        atomic { landed=0;                                                /* one transaction */
#ifndef NO_FENCE
          if :: started!=s -> landed=2 :: else fi;
#endif
          if
          :: landed==2 -> skip
          :: landed!=2 && base[x]!=tip ->                                 /* it conflicts: n.merge, a bounce */
             came_back=(x==0);
#ifndef OUTSIDE
             came_back=(x!=F);
#endif
             assert(!came_back); landed=1
          :: landed!=2 && base[x]==tip -> tip=tip|(1<<x); landed=1
          fi };
        if
        :: landed==1 -> merged=merged|(1<<x);                             /* n.merge: the entry is dead */
           atomic { if :: a==x+1 -> a=0 :: else fi; if :: b==x+1 -> b=0 :: else fi }
        :: else
        fi
     fi
  :: merged==7 -> break
  od }

active proctype watch() { timeout -> lost=(merged!=7); assert(!lost) }

init { atomic {
  learned_a[0]=1; learned_b[1]=1;
#ifndef OUTSIDE
  learned_b[0]=1; learned_a[1]=1;
#endif
  ended[F]=1; claimed[F]=1;
  run task(0); run task(1); run lane() } }
