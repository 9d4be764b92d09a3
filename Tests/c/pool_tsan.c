/* The pool itself under the thread sanitizer, which understands C11 atomics: compiled from its
 * sources, with work that would show a missing order between a call, its workers and the next call.
 */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "runtime.h"

enum { TASKS = 64, CALLS = 400, CALLERS = 4 };

/* Plain memory on purpose: every access is a witness. */
typedef struct work {
  int64_t input[TASKS], output[TASKS];
} work;

static void square(void *context, int64_t index, smxk_scratch *scratch) {
  work *w = context;
  scratch->high[0] = (double)w->input[index];
  w->output[index] = (int64_t)(scratch->high[0] * scratch->high[0]);
}

static void *call_often(void *argument) {
  intptr_t self = (intptr_t)argument, wrong = 0;
  for (int64_t call = 0; call < CALLS; call++) {
    work w;
    int64_t count = 1 + (call * 7 + self) % TASKS;
    for (int64_t i = 0; i < count; i++) w.input[i] = call + i;
    smxk_parallel(1 + (int32_t)(call % 4), count, call / 3 % 2, square, &w);
    for (int64_t i = 0; i < count; i++) wrong += w.output[i] != (call + i) * (call + i);
    if (self == 0 && call % 100 == 50) {
      pid_t child = fork();
      if (child == 0) _exit(0);
      int status = -1;
      waitpid(child, &status, 0);
      wrong += status != 0;
    }
  }
  return (void *)wrong;
}

int main(void) {
  pthread_t callers[CALLERS];
  long passed = 0, failed = 0;
  for (intptr_t i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call_often, (void *)i);
  for (int i = 0; i < CALLERS; i++) {
    void *wrong = NULL;
    pthread_join(callers[i], &wrong);
    if (wrong) failed++;
    else passed++;
  }
  printf("pool_tsan\n%ld passed, %ld failed\n", passed, failed);
  return failed != 0;
}
