/* The CPUs that the pool's workers may run on: a call keeps each off its own CPU while it wakes it,
 * and the worker has them all back once it is awake, or those that the program has left it. */
#include <dirent.h>
#include <sched.h>
#include <unistd.h>

#include "values.h"

enum { COLS = 4096, ROWS = 64, THREADS = 4, ROUNDS = 20 };
static float x[ROWS * COLS], out[ROWS * COLS];

/* Calls `body` for each thread of the process but the first; how many there are. */
static int for_each_worker(void (*body)(pid_t)) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *entry; tasks && (entry = readdir(tasks));) {
    pid_t thread = atoi(entry->d_name);
    if (thread == 0 || thread == getpid()) continue;
    body(thread);
    count++;
  }
  if (tasks) closedir(tasks);
  return count;
}

static cpu_set_t allowed; /* what each worker must have */
static int wrong;

static void compare(pid_t thread) {
  cpu_set_t cpus;
  wrong += sched_getaffinity(thread, sizeof cpus, &cpus) != 0 || !CPU_EQUAL(&cpus, &allowed);
}

static void restrict_to_allowed(pid_t thread) {
  wrong += sched_setaffinity(thread, sizeof allowed, &allowed) != 0;
}

/* Calls that wake sleepers, each followed by a pause in which the workers fall asleep. A busy
 * machine may take long to wake them. */
static void call_and_compare(void) {
  for (int round = 0; round < ROUNDS; round++) {
    CHECK(smx_softmax_f32(x, out, ROWS, COLS) == SMX_OK, "round %d", round);
    int workers = 0;
    for (int wait = 0; wait < 1000; wait++) {
      usleep(10000);
      wrong = 0;
      workers = for_each_worker(compare);
      if (wrong == 0) break;
    }
    CHECK(wrong == 0, "round %d: %d workers lack a CPU", round, wrong);
    CHECK(workers >= 1 && workers < THREADS, "round %d: %d workers", round, workers);
  }
}

int main(void) {
  uint64_t state = 1;
  for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)random_between(&state, -5, 5);
  CHECK(smx_set_num_threads(THREADS) == SMX_OK, "set_num_threads");
  CHECK(sched_getaffinity(0, sizeof allowed, &allowed) == 0, "sched_getaffinity");
  call_and_compare();
  if (CPU_COUNT(&allowed) > 1) {
    int cpu = 0;
    while (!CPU_ISSET(cpu, &allowed)) cpu++;
    CPU_ZERO(&allowed);
    CPU_SET(cpu, &allowed);
    wrong = 0;
    for_each_worker(restrict_to_allowed);
    CHECK(wrong == 0, "sched_setaffinity");
    call_and_compare();
  }
  return finish("test_affinity");
}
