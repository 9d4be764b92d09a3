/* How many threads a call may use: settings first, then the CPUs this process is allowed. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
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

/* quota / period rounded up, from a file of the form "quota period" or two files of cgroup v1. */
static long cpus_of_quota(const char *quota_file, const char *period_file) {
  char text[64];
  long quota = -1, period = 100000;
  FILE *file = fopen(quota_file, "re");
  if (!file) return 0;
  if (fgets(text, sizeof text, file) && strncmp(text, "max", 3) != 0) {
    sscanf(text, "%ld %ld", &quota, &period);
  }
  fclose(file);
  if (period_file && (file = fopen(period_file, "re"))) {
    if (fgets(text, sizeof text, file)) sscanf(text, "%ld", &period);
    fclose(file);
  }
  return quota > 0 && period > 0 ? (quota + period - 1) / period : 0;
}

/* The tightest quota of this process's cgroup and its ancestors; 0 for none. */
static long cpus_of_cgroup(void) {
  char line[512], path[640];
  long least = cpus_of_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                             "/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  FILE *file = fopen("/proc/self/cgroup", "re");
  if (!file) return least;
  while (fgets(line, sizeof line, file)) {
    if (strncmp(line, "0::", 3) != 0) continue;
    line[strcspn(line, "\n")] = 0;
    char *group = line + 3;
    for (;;) {
      snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", strcmp(group, "/") ? group : "");
      long count = cpus_of_quota(path, NULL);
      if (count && (!least || count < least)) least = count;
      char *slash = strrchr(group, '/');
      if (!slash) break;
      *slash = 0;
    }
  }
  fclose(file);
  return least;
}

static long cpus_allowed(void) {
  cpu_set_t set;
  /* A system of more CPUs than the set has room for refuses; then all that are online. */
  long count = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : sysconf(_SC_NPROCESSORS_ONLN);
  if (count < 1) count = 1;
  long quota = cpus_of_cgroup();
  return quota && quota < count ? quota : count;
}

static void find_default(void) {
  int saved = errno;
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
