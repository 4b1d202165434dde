/* Jobs that do a little: linked statically, like noop.
 *   job                   appends the monotonic time in ns to the file $BENCH_STAMP
 *   job stamp FILE        the same to FILE
 *   job sleep MS          sleeps
 *   job busy MS           uses so much processor time
 *   job mark FILE MS ID   appends "S ID PID" to FILE, sleeps, appends "E ID PID"
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static long long now(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void pause_ms(const char *ms) {
  long n = atol(ms);
  struct timespec t = {n / 1000, n % 1000 * 1000000};
  while (nanosleep(&t, &t) != 0) {
  }
}

static int append(const char *path, const char *line) {
  int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  size_t length = strlen(line);
  if (fd < 0 || write(fd, line, length) != (ssize_t)length) return 1;
  return close(fd);
}

int main(int argc, char **argv) {
  long long begun = now(CLOCK_MONOTONIC);
  char line[200];
  const char *what = argc > 1 ? argv[1] : "stamp";
  if (!strcmp(what, "stamp")) {
    const char *path = argc > 2 ? argv[2] : getenv("BENCH_STAMP");
    snprintf(line, sizeof line, "%lld\n", begun);
    return path ? append(path, line) : 2;
  }
  if (!strcmp(what, "sleep") && argc > 2) {
    pause_ms(argv[2]);
    return 0;
  }
  if (!strcmp(what, "busy") && argc > 2) {
    long long end = atol(argv[2]) * 1000000LL;
    while (now(CLOCK_PROCESS_CPUTIME_ID) < end) {
      for (volatile int i = 0; i < 1000; i++) {
      }
    }
    return 0;
  }
  if (!strcmp(what, "mark") && argc > 4) {
    snprintf(line, sizeof line, "S %.100s %d\n", argv[4], (int)getpid());
    if (append(argv[2], line)) return 1;
    pause_ms(argv[3]);
    line[0] = 'E';
    return append(argv[2], line);
  }
  return 2;
}
