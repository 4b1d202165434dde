/* An id and its directory: archiving against a second submission of the same id, and against a claim by a stale hint
   (faults 1 and 2). A directory is an incarnation: number 1 is the old task, which has ended; 0: there is none.
   Of the archive only the readers exist yet; the open directory is in register::publish.

   NO_DIRFD  registers are linked by path, not through the descriptor of the directory that was looked at
   NO_SPEC   (with CLAIM) a claimer does not look for spec.json in the open directory

   Who takes part: SUBMIT two submitters of the same id; CLAIM a worker with an old hint; PHANTOM somebody who makes
   tasks/T to wait for it (as an early design did). The archiver always does. */

#define INCARNATIONS 6
byte cur=1;             /* the incarnation that tasks/T is */
byte top=1;
bool archived;          /* archive/T */
bool spec[INCARNATIONS], phantom[INCARNATIONS], claim[INCARNATIONS];
bool submitted_twice, claimed_phantom;

proctype submitter() { byte fd;
again:
  atomic {                              /* submit.mkdir */
    if :: cur==0 && top<INCARNATIONS-1 -> top++; cur=top :: cur==0 && top>=INCARNATIONS-1 -> goto stop :: else fi };
#ifndef NO_DIRFD
  atomic { if :: cur==0 -> goto again :: else fd=cur fi };      /* open it, then look at the archive */
#endif
  if
  :: archived -> atomic { if :: cur!=0 && !spec[cur] && !phantom[cur] -> cur=0 :: else fi }; goto stop
  :: else
  fi;
  atomic {                              /* submit.link */
#ifdef NO_DIRFD
    if :: cur==0 -> goto again :: else fd=cur fi;
#endif
    if :: spec[fd] -> skip :: else -> spec[fd]=1; submitted_twice=1 fi };
  assert(!submitted_twice);
stop: skip }

proctype phantom_maker() {
  atomic { if :: cur==0 && top<INCARNATIONS-1 -> top++; cur=top :: else fi };
  if :: cur!=0 -> phantom[cur]=1 :: else fi }

proctype archiver() { atomic { if :: cur==1 -> archived=1; cur=0 :: else fi } }

proctype worker() { byte fd;
#ifndef NO_DIRFD
  atomic { if :: cur==0 -> goto stop :: else fd=cur fi };       /* open tasks/T */
#ifndef NO_SPEC
  if :: !spec[fd] -> goto stop :: else fi;
#endif
  if :: claim[fd] -> goto stop :: else fi;                      /* list: is n.claim there? */
  atomic { if :: claim[fd] -> skip :: else claim[fd]=1; claimed_phantom=1 fi };
#else
#ifndef NO_SPEC
  if :: cur==0 -> goto stop :: cur!=0 && !spec[cur] -> goto stop :: else fi;
#endif
  if :: cur==0 -> goto stop :: cur!=0 && claim[cur] -> goto stop :: else fi;
  atomic { if :: cur==0 -> goto stop :: else fd=cur fi;
    if :: claim[fd] -> skip :: else claim[fd]=1; claimed_phantom=1 fi };
#endif
  assert(!claimed_phantom);
stop: skip }

init { atomic {
  spec[1]=1; claim[1]=1;
#ifdef SUBMIT
  run submitter(); run submitter();
#endif
#ifdef PHANTOM
  run phantom_maker();
#endif
#ifdef CLAIM
  run worker();
#endif
  run archiver() } }
