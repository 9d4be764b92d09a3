/* fork: before and after the pool has threads, in a loop, nested, while other threads compute, and
 * in a signal handler amid a call. Parent and child keep computing, on threads of their own, with
 * the same bits. And threads that are cancelled while they compute. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "values.h"

enum { COLS = 40000, ROWS = 4, LOOPS = 200, DEPTH = 5, CALLERS = 3 };
static float x[ROWS * COLS], want[2][ROWS * COLS];
static atomic_int stopping, wrong_calls;

/* Rows shared among threads, then one row shared among them; the number of wrong results. */
static int compute(int threads) {
  static _Thread_local float out[ROWS * COLS];
  int wrong = smx_set_num_threads_local(threads, NULL) != SMX_OK;
  for (int i = 0; i < 2; i++) {
    int64_t rows = i ? 1 : ROWS;
    memset(out, 0xa5, sizeof out);
    wrong += smx_softmax_f32(x, out, rows, ROWS * COLS / rows) != SMX_OK;
    wrong += memcmp(out, want[i], sizeof out) != 0;
  }
  return wrong;
}

/* Waits for a child; what it returned, or 1000 if it was killed. */
static int wait_for(pid_t child) {
  int status = -1;
  if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status)) return 1000;
  return WEXITSTATUS(status);
}

/* A child that hangs ends itself. */
static pid_t fork_child(void) {
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) alarm(50);
  return child;
}

static int loops(void) { return is_light() ? LOOPS / 5 : LOOPS; }

static int nest(int depth) {
  int wrong = compute(3);
  if (depth == 0) return wrong;
  pid_t child = fork_child();
  if (child == 0) _exit(nest(depth - 1));
  return wrong + compute(2) + wait_for(child);
}

static void *call_until_stopped(void *argument) {
  while (!stopping) wrong_calls += compute((int)(intptr_t)argument);
  return NULL;
}

static void *fork_often(void *argument) {
  (void)argument;
  for (int i = 0; i < loops() / 4; i++) {
    pid_t child = fork_child();
    if (child == 0) _exit(compute(2));
    wrong_calls += wait_for(child);
  }
  return NULL;
}

static atomic_int handled, failed_children;

/* In the child a call on any number of threads is run by this one. */
static void fork_in_handler(int signal) {
  (void)signal;
  static float out[64];
  pid_t child = fork();
  if (child == 0) {
    alarm(20);
    _exit(smx_softmax_f32(x, out, 1, 64) != SMX_OK ||
          smx_softmax_f32(x, want[0], ROWS, COLS) != SMX_OK);
  }
  int status = -1;
  while (waitpid(child, &status, 0) != child) continue;
  failed_children += !(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  handled++;
}

/* Calls whose workers are started anew after each fork: the signal that waits meanwhile comes amid
 * the call. */
static void check_fork_in_handlers(void) {
  struct sigaction action = {.sa_handler = fork_in_handler, .sa_flags = SA_RESTART}, before;
  struct itimerval often = {{0, 3000}, {0, 3000}}, never = {{0, 0}, {0, 0}};
  sigaction(SIGVTALRM, &action, &before);
  setitimer(ITIMER_VIRTUAL, &often, NULL);
  int wrong = 0;
  for (int i = 0; i < 100000 && handled < loops(); i++) wrong += compute(3);
  setitimer(ITIMER_VIRTUAL, &never, NULL);
  sigaction(SIGVTALRM, &before, NULL);
  CHECK(handled >= loops() && wrong == 0 && failed_children == 0,
        "%d forks, %d wrong, %d children failed", (int)handled, wrong, (int)failed_children);
}

static void *call_until_cancelled(void *argument) {
  while (wrong_calls == 0) {
    wrong_calls += compute((int)(intptr_t)argument);
    pthread_testcancel();
  }
  return NULL;
}

int main(void) {
  uint64_t random = 11;
  alarm(is_light() ? 180 : 60);
  for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)random_between(&random, -9, 9);

  DESCRIBE("the child is the first to call");
  pid_t child = fork_child();
  if (child == 0) {
    _exit(smx_set_num_threads(3) != SMX_OK || smx_softmax_f32(x, want[0], ROWS, COLS) != SMX_OK);
  }
  CHECK(wait_for(child) == 0, "the child failed");

  smx_set_num_threads(1);
  smx_softmax_f32(x, want[0], ROWS, COLS);
  smx_softmax_f32(x, want[1], 1, ROWS * COLS);
  for (int i = 0; i < loops(); i++) {
    DESCRIBE("fork %d in a loop", i);
    if (i % 2) CHECK(compute(3) == 0, "the parent before");
    child = fork_child();
    if (child == 0) _exit(compute(1 + i % 4));
    if (i % 3) CHECK(compute(2) == 0, "the parent meanwhile");
    CHECK(wait_for(child) == 0, "the child");
  }

  DESCRIBE("%d forks, one inside another", DEPTH);
  int nested = nest(DEPTH);
  CHECK(nested == 0, "%d wrong", nested);

  DESCRIBE("%d threads compute while two fork", CALLERS);
  pthread_t callers[CALLERS], forkers[2];
  for (intptr_t i = 0; i < CALLERS; i++)
    pthread_create(&callers[i], NULL, call_until_stopped, (void *)(i + 1));
  for (int i = 0; i < 2; i++) pthread_create(&forkers[i], NULL, fork_often, NULL);
  for (int i = 0; i < 2; i++) pthread_join(forkers[i], NULL);
  stopping = 1;
  for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
  CHECK(wrong_calls == 0, "%d wrong", (int)wrong_calls);
  CHECK(compute(4) == 0, "the parent afterwards");

  DESCRIBE("fork in a signal handler");
  check_fork_in_handlers();

  DESCRIBE("threads are cancelled while they compute");
  for (int i = 0; i < loops() / 4; i++) {
    pthread_t thread;
    pthread_create(&thread, NULL, call_until_cancelled, (void *)3);
    usleep((useconds_t)(500 + 37 * i % 1000));
    pthread_cancel(thread);
    pthread_join(thread, NULL);
    child = fork_child();
    if (child == 0) _exit(compute(2));
    CHECK(wait_for(child) == 0 && compute(3) == 0 && wrong_calls == 0, "after thread %d", i);
  }
  return finish("test_fork");
}
