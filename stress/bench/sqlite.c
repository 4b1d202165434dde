/* A queue in SQLite with a native client. Options and output as those of processes.rs:
 *   sqlite --dir D --processes N --jobs M [--cycles K] [--again K] [--durability process|accept] [--run PROGRAM]
 * WAL; process = synchronous NORMAL, accept and full = FULL. Submitted in transactions of 1000.
 */
#include <fcntl.h>
#include <spawn.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

struct tally {
  long jobs, busy, user_us, system_us, rss_kib;
};

static char database[4096];
static const char *durability = "process", *program;
static long processes = 1, jobs, cycles, again;

static void die(const char *what) {
  fprintf(stderr, "%s\n", what);
  exit(1);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + t.tv_nsec / 1e9;
}

static void used(long *user, long *system) {
  struct rusage u;
  getrusage(RUSAGE_SELF, &u);
  *user = u.ru_utime.tv_sec * 1000000 + u.ru_utime.tv_usec;
  *system = u.ru_stime.tv_sec * 1000000 + u.ru_stime.tv_usec;
}

static long memory(void) {
  FILE *f = fopen("/proc/self/status", "r");
  char line[256];
  long kib = 0;
  while (f && fgets(line, sizeof line, f)) sscanf(line, "VmHWM: %ld", &kib);
  if (f) fclose(f);
  return kib;
}

static int on_busy(void *count, int tries) {
  ++*(long *)count;
  usleep(tries < 10 ? 50 : 500);
  return 1;
}

static void sql(sqlite3 *db, const char *text) {
  char *error = NULL;
  if (sqlite3_exec(db, text, NULL, NULL, &error) != SQLITE_OK) die(error);
}

static sqlite3 *open_database(long *busy) {
  sqlite3 *db;
  if (sqlite3_open(database, &db) != SQLITE_OK) die("cannot open the database");
  sqlite3_busy_handler(db, on_busy, busy);
  sql(db, "PRAGMA journal_mode=WAL");
  sql(db, strcmp(durability, "process") ? "PRAGMA synchronous=FULL" : "PRAGMA synchronous=NORMAL");
  return db;
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *text) {
  sqlite3_stmt *s;
  if (sqlite3_prepare_v2(db, text, -1, &s, NULL) != SQLITE_OK) die(sqlite3_errmsg(db));
  return s;
}

static void submit(long count) {
  long busy = 0;
  sqlite3 *db = open_database(&busy);
  sql(db, "CREATE TABLE IF NOT EXISTS job(id INTEGER PRIMARY KEY, state INTEGER, owner INTEGER, text TEXT);"
          "CREATE INDEX IF NOT EXISTS ready ON job(id) WHERE state=0");
  sqlite3_stmt *add = prepare(db, "INSERT INTO job(state, text) VALUES(0, ?)");
  for (long i = 0; i < count; i++) {
    char text[32];
    if (i % 1000 == 0) sql(db, "BEGIN IMMEDIATE");
    snprintf(text, sizeof text, "%ld", i);
    sqlite3_bind_text(add, 1, text, -1, SQLITE_TRANSIENT);
    if (sqlite3_step(add) != SQLITE_DONE) die(sqlite3_errmsg(db));
    sqlite3_reset(add);
    if (i % 1000 == 999 || i == count - 1) sql(db, "COMMIT");
  }
  sqlite3_finalize(add);
  sqlite3_close(db);
}

static void run_job(void) {
  char *words[] = {(char *)program, NULL};
  pid_t pid;
  int status;
  if (posix_spawn(&pid, program, NULL, NULL, words, environ) || waitpid(pid, &status, 0) < 0 || status)
    die("a job failed");
}

static void work(long share, int ready, int go, struct tally *tally) {
  char byte = 0;
  long user, system;
  sqlite3 *db = open_database(&tally->busy);
  sqlite3_stmt *take = prepare(db, "UPDATE job SET state=1, owner=?1 WHERE id="
                                   "(SELECT id FROM job WHERE state=0 ORDER BY id LIMIT 1) RETURNING id");
  sqlite3_stmt *complete = prepare(db, "UPDATE job SET state=2 WHERE id=?1");
  if (write(ready, &byte, 1) != 1 || read(go, &byte, 1) != 0) die("cannot begin");
  tally->busy = 0;
  used(&user, &system);
  while (share < 0 || tally->jobs < share) {
    sqlite3_bind_int64(take, 1, getpid());
    int code = sqlite3_step(take);
    if (code == SQLITE_DONE) break;
    if (code != SQLITE_ROW) die(sqlite3_errmsg(db));
    sqlite3_int64 id = sqlite3_column_int64(take, 0);
    if (sqlite3_step(take) != SQLITE_DONE) die(sqlite3_errmsg(db));
    sqlite3_reset(take);
    if (program) run_job();
    sqlite3_bind_int64(complete, 1, id);
    if (sqlite3_step(complete) != SQLITE_DONE) die(sqlite3_errmsg(db));
    sqlite3_reset(complete);
    tally->jobs++;
  }
  used(&tally->user_us, &tally->system_us);
  tally->user_us -= user, tally->system_us -= system;
  tally->rss_kib = memory();
}

static double crew(struct tally *all) {
  struct tally *each = mmap(NULL, processes * sizeof *each, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int ready[2], go[2];
  char byte;
  if (each == MAP_FAILED || pipe(ready) || pipe(go)) die("no memory or pipes");
  for (long i = 0; i < processes; i++) {
    if (fork() == 0) {
      close(go[1]);
      long share = cycles ? cycles / processes + (i < cycles % processes) : -1;
      work(share, ready[1], go[0], &each[i]);
      _exit(0);
    }
  }
  close(ready[1]);
  for (long i = 0; i < processes; i++)
    if (read(ready[0], &byte, 1) != 1) die("a process failed before it began");
  double begun = now();
  close(go[1]);
  for (long i = 0; i < processes; i++) {
    int status;
    if (wait(&status) < 0 || status) die("a process failed");
  }
  double wall = now() - begun;
  memset(all, 0, sizeof *all);
  for (long i = 0; i < processes; i++) {
    all->jobs += each[i].jobs, all->busy += each[i].busy;
    all->user_us += each[i].user_us, all->system_us += each[i].system_us;
    if (each[i].rss_kib > all->rss_kib) all->rss_kib = each[i].rss_kib;
  }
  close(go[0]), close(ready[0]);
  munmap(each, processes * sizeof *each);
  return wall;
}

int main(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i], *value = argv[i + 1];
    if (!strcmp(name, "--dir")) snprintf(database, sizeof database, "%s/queue.db", value);
    else if (!strcmp(name, "--processes")) processes = atol(value);
    else if (!strcmp(name, "--jobs")) jobs = atol(value);
    else if (!strcmp(name, "--cycles")) cycles = atol(value);
    else if (!strcmp(name, "--again")) again = atol(value);
    else if (!strcmp(name, "--durability")) durability = value;
    else if (!strcmp(name, "--run")) program = value;
    else if (strcmp(name, "--kind")) die("an unknown option");
  }
  if (!*database || processes < 1) die("--dir DIRECTORY, and at least one process");
  struct tally all;
  long user0, system0, user, system;
  used(&user0, &system0);
  double begun = now();
  if (jobs) submit(jobs);
  double submit_wall = now() - begun;
  used(&user, &system);
  long submit_rss = memory();
  double wall = crew(&all);
  printf("{\"jobs\":%ld,\"wall_s\":%.6f,\"cpu_user_s\":%.6f,\"cpu_system_s\":%.6f,\"lost_claims\":%ld,"
         "\"max_rss_kib\":%ld,\"submit_wall_s\":%.6f,\"submit_cpu_s\":%.6f,\"submit_rss_kib\":%ld",
         all.jobs, wall, all.user_us / 1e6, all.system_us / 1e6, all.busy, all.rss_kib, submit_wall,
         (user - user0 + system - system0) / 1e6, submit_rss);
  if (again) {
    submit(again);
    cycles = 0;
    wall = crew(&all);
    printf(",\"again_jobs\":%ld,\"again_wall_s\":%.6f,\"again_cpu_s\":%.6f", all.jobs, wall,
           (all.user_us + all.system_us) / 1e6);
  }
  puts("}");
  return 0;
}
