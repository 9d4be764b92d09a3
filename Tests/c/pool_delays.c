/* The pool with its threads held up at random where they look at what another has written: a
 * wake-up that can be lost there is lost here within seconds. Compiled from the pool's source,
 * whose loads wait behind themselves. */
#define _GNU_SOURCE
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static void hold_up(void) {
  static _Thread_local uint32_t state;
  if (state == 0) state = (uint32_t)(uintptr_t)&state;
  state = state * 1664525u + 1013904223u;
  if (state >> 29 == 0) usleep(state >> 16 & 1023);
}

#undef atomic_load
#define atomic_load(object)                                                      \
  ({                                                                             \
    __auto_type value = atomic_load_explicit(object, memory_order_seq_cst);      \
    hold_up();                                                                   \
    value;                                                                       \
  })

#include "../../Sources/CSupport/pool.c"

enum { TASKS = 8, CALLS = 600 };

static void count_up(void *context, int64_t index, smxk_scratch *scratch) {
  (void)scratch;
  ((int *)context)[index]++;
}

int main(void) {
  long passed = 0, failed = 0;
  alarm(60); /* a lost wake-up waits for ever */
  for (int round = 0; round < CALLS; round++) {
    int counts[TASKS] = {0}, right = 1;
    smxk_parallel(4, TASKS, 0, count_up, counts);
    for (int i = 0; i < TASKS; i++) right &= counts[i] == 1;
    if (round % 2) {
      pid_t child = fork();
      if (child == 0) _exit(0);
      int status = -1;
      waitpid(child, &status, 0);
      right &= status == 0;
    }
    if (right) passed++;
    else failed++;
  }
  printf("pool_delays\n%ld passed, %ld failed\n", passed, failed);
  return failed != 0;
}
