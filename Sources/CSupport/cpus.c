/* How many threads a call may use: settings first, then the CPUs this process is allowed. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime.h"

static atomic_int process_count;          /* 0: not set by a call */
static _Thread_local int32_t local_count; /* 0: none */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int32_t default_count; /* 0: SWIFTMAX_NUM_THREADS is not a count */
static char refused_count[256]; /* what it is then */

static int32_t clamp(long count) {
  return count < 1 ? 1 : count > SMXK_MAX_THREADS ? SMXK_MAX_THREADS : (int32_t)count;
}

/* The beginning of a file as text; 0 if there is none. Allocates nothing. */
static int read_text(const char *path, char *text, size_t size) {
  int file = open(path, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  size_t length = 0;
  ssize_t count;
  while (length < size - 1 && (count = read(file, text + length, size - 1 - length)) > 0)
    length += (size_t)count;
  close(file);
  text[length] = 0;
  return length > 0;
}

/* quota / period rounded up, from a file of the form "quota period" or two files of cgroup v1; 0
 * for none. */
static long cpus_of_quota(const char *quota_file, const char *period_file) {
  char text[64];
  char *end;
  long period = 100000;
  if (!read_text(quota_file, text, sizeof text)) return 0;
  long quota = strtol(text, &end, 10);
  if (end == text) return 0; /* "max" */
  if (!period_file) {
    period = strtol(end, NULL, 10);
  } else if (read_text(period_file, text, sizeof text)) {
    period = strtol(text, NULL, 10);
  }
  return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

/* The tightest quota of this process's cgroup and its ancestors; 0 for none. */
static long cpus_of_cgroup(void) {
  static const char root[] = "/sys/fs/cgroup", leaf[] = "/cpu.max";
  char groups[4096], path[sizeof groups + sizeof root + sizeof leaf];
  long least = cpus_of_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                             "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (!read_text("/proc/self/cgroup", groups, sizeof groups)) return least;
  char *group = groups;
  while (strncmp(group, "0::", 3) != 0) {
    group = strchr(group, '\n');
    if (!group++) return least;
  }
  group += 3;
  group[strcspn(group, "\n")] = 0;
  if (strcmp(group, "/") == 0) *group = 0;
  for (;;) {
    strcpy(path, root);
    strcat(path, group);
    strcat(path, leaf);
    long count = cpus_of_quota(path, NULL);
    if (count && (!least || count < least)) least = count;
    char *slash = strrchr(group, '/');
    if (!slash) return least;
    *slash = 0;
  }
}

static long cpus_allowed(void) {
  cpu_set_t set;
  /* Of the process's first thread, whoever asks. A system of more CPUs than the set has room for
   * refuses; then all that are online. */
  long count = sched_getaffinity(getpid(), sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                                  : sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) count = 1;
  long quota = cpus_of_cgroup();
  return quota && quota < count ? quota : count;
}

static void find_default(void) {
  int saved = errno, cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  const char *own = getenv("SWIFTMAX_NUM_THREADS");
  const char *omp = getenv("OMP_NUM_THREADS");
  char *end;
  if (own && *own) {
    long count = strtol(own, &end, 10);
    default_count = *end || count < 1 || count > SMXK_MAX_THREADS ? 0 : (int32_t)count;
    strncpy(refused_count, own, sizeof refused_count - 1);
  } else if (omp && strtol(omp, &end, 10) >= 1 && (*end == 0 || *end == ',')) {
    /* OpenMP allows a list, one count for each nesting level; the first is ours. */
    default_count = clamp(strtol(omp, NULL, 10));
  } else {
    default_count = clamp(cpus_allowed());
  }
  pthread_setcancelstate(cancellable, NULL);
  errno = saved;
}

int32_t smxk_thread_count(void) {
  if (local_count) return local_count;
  int count = atomic_load_explicit(&process_count, memory_order_relaxed);
  if (count) return count;
  pthread_once(&once, find_default);
  return default_count;
}

const char *smxk_refused_thread_count(void) { return refused_count; }

void smxk_set_thread_count(int32_t count) {
  atomic_store_explicit(&process_count, count, memory_order_relaxed);
}

int32_t smxk_set_local_thread_count(int32_t count) {
  int32_t before = local_count;
  local_count = count;
  return before;
}
