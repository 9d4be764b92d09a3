/* A fork-join pool. One parallel call runs at a time; others that arrive meanwhile, and calls from
 * inside a task, run on their own thread, which gives the same bits.
 *
 * Workers start when first needed and wait for the next call: a short while spinning, then asleep.
 * fork: the prepare handler waits for the call under way, then ends and joins the workers, so that
 * neither side ever holds a lock or a count that belongs to a thread it does not have. Both sides
 * start workers anew when they next need them. A thread that cannot be created is done without. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include "runtime.h"

/* About 50 microseconds on current CPUs: longer than the gap between two calls of a loop, shorter than
 * anyone notices. */
enum { SPINS = 1000, STACK_BYTES = 1 << 20 };

static pthread_mutex_t region = PTHREAD_MUTEX_INITIALIZER; /* held by the call that uses the pool */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* guards sleeping and waking */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_t workers[SMXK_MAX_THREADS];
static unsigned started_at[SMXK_MAX_THREADS]; /* the ticket before each worker's first call */
static int worker_count; /* under region */
static _Thread_local int inside;

/* The call under way. `ticket` changes last and publishes the rest; every worker answers every ticket,
 * so that none can still look at one call while the next is being written. */
static struct {
  smxk_task task;
  void *context;
  int64_t count;
  int helpers; /* workers 0 ..< helpers take part */
  int stop;
  atomic_llong next;
  atomic_int running; /* workers that have not answered */
  atomic_uint ticket;
} call;

static inline void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

static void run_tasks(smxk_task task, void *context, int64_t count) {
  _Alignas(64) smxk_scratch scratch;
  for (;;) {
    int64_t index = atomic_fetch_add_explicit(&call.next, 1, memory_order_relaxed);
    if (index >= count) return;
    task(context, index, &scratch);
  }
}

static void *work(void *argument) {
  int self = (int)(intptr_t)argument;
  unsigned seen = started_at[self];
  inside = 1;
  smxk_enter_mode();
  for (;;) {
    unsigned ticket;
    int spins = 0;
    while ((ticket = atomic_load_explicit(&call.ticket, memory_order_acquire)) == seen &&
           spins++ < SPINS) {
      pause_briefly();
    }
    if (ticket == seen) {
      pthread_mutex_lock(&lock);
      while ((ticket = atomic_load_explicit(&call.ticket, memory_order_acquire)) == seen) {
        pthread_cond_wait(&wake, &lock);
      }
      pthread_mutex_unlock(&lock);
    }
    seen = ticket;
    if (call.stop) return NULL;
    if (self < call.helpers) run_tasks(call.task, call.context, call.count);
    if (atomic_fetch_sub_explicit(&call.running, 1, memory_order_acq_rel) == 1) {
      pthread_mutex_lock(&lock);
      pthread_cond_signal(&done);
      pthread_mutex_unlock(&lock);
    }
  }
}

static void publish(void) {
  pthread_mutex_lock(&lock);
  atomic_fetch_add_explicit(&call.ticket, 1, memory_order_release);
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&lock);
}

/* Under region: ends all workers. */
static void stop_workers(void) {
  if (worker_count == 0) return;
  call.stop = 1;
  publish();
  for (int i = 0; i < worker_count; i++) pthread_join(workers[i], NULL);
  call.stop = 0;
  worker_count = 0;
}

static void before_fork(void) {
  /* A task that forks holds the region itself; its child has no use for the pool's threads. */
  if (inside) return;
  pthread_mutex_lock(&region);
  stop_workers();
}

static void after_fork(void) {
  if (!inside) pthread_mutex_unlock(&region);
}

static void install_handlers(void) { pthread_atfork(before_fork, after_fork, after_fork); }

/* Under region: starts workers until there are `wanted`, or as many as the system gives. */
static void start_workers(int wanted) {
  if (worker_count >= wanted) return;
  pthread_attr_t attributes;
  if (pthread_attr_init(&attributes) != 0) return;
  pthread_attr_setstacksize(&attributes, STACK_BYTES);
  /* Signals are for the program's own threads. */
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  while (worker_count < wanted) {
    started_at[worker_count] = atomic_load_explicit(&call.ticket, memory_order_relaxed);
    void *self = (void *)(intptr_t)worker_count;
    if (pthread_create(&workers[worker_count], &attributes, work, self) != 0) break;
    worker_count++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

static void run_alone(int64_t count, smxk_task task, void *context) {
  _Alignas(64) smxk_scratch scratch;
  for (int64_t index = 0; index < count; index++) task(context, index, &scratch);
}

void smxk_parallel(int32_t threads, int64_t count, smxk_task task, void *context) {
  if (threads > count) threads = (int32_t)count;
  if (threads <= 1 || inside || pthread_once(&once, install_handlers) != 0 ||
      pthread_mutex_trylock(&region) != 0) {
    run_alone(count, task, context);
    return;
  }
  int saved = errno;
  start_workers(threads - 1);
  int helpers = worker_count < threads - 1 ? worker_count : threads - 1;
  if (helpers == 0) {
    pthread_mutex_unlock(&region);
    errno = saved;
    run_alone(count, task, context);
    return;
  }
  call.task = task;
  call.context = context;
  call.count = count;
  call.helpers = helpers;
  atomic_store_explicit(&call.next, 0, memory_order_relaxed);
  atomic_store_explicit(&call.running, worker_count, memory_order_relaxed);
  publish();

  inside = 1;
  run_tasks(task, context, count);
  inside = 0;

  for (int spins = 0; spins < SPINS; spins++) {
    if (atomic_load_explicit(&call.running, memory_order_acquire) == 0) break;
    pause_briefly();
  }
  if (atomic_load_explicit(&call.running, memory_order_acquire) != 0) {
    pthread_mutex_lock(&lock);
    while (atomic_load_explicit(&call.running, memory_order_acquire) != 0) {
      pthread_cond_wait(&done, &lock);
    }
    pthread_mutex_unlock(&lock);
  }
  pthread_mutex_unlock(&region);
  errno = saved;
}

void smxk_with_partials(void (*body)(void *, smxk_partial *), void *context) {
  smxk_partial partials[SMXK_WAVE];
  body(context, partials);
}

void smxk_with_row(void (*body)(void *, smxk_row *), void *context) {
  smxk_row row;
  body(context, &row);
}

void smxk_with_plan(void (*body)(void *, smxk_plan *), void *context) {
  smxk_plan plan;
  body(context, &plan);
}
