/* A fork-join pool. One parallel call runs at a time; others that arrive meanwhile, and calls from
 * inside a task, run on their own thread, which gives the same bits.
 *
 * Workers start when first needed and wait for the next call: a short while spinning, then asleep.
 * A call waits for the workers that came, never for one that is still waking up: `gate` counts who
 * is inside, and closes when no task is left. A small call stays on its own thread, unless such
 * calls follow one another so closely that the workers, once woken, are still awake for the next.
 * Who wakes a worker keeps it off the CPU it runs on itself until the worker is awake: a guest's
 * kernel may take every halted CPU for one that the host has given away, and then puts the worker
 * behind its caller, where it waits for milliseconds beside an idle CPU.
 * fork: the prepare handler waits for the call under way, then ends and joins the workers, so that
 * neither side ever holds a lock or a count that belongs to a thread it does not have. Both sides
 * start workers anew when they next need them. A fork inside a task, or in a signal handler that
 * interrupts a call, leaves them to the parent, whose call is under way; the child begins without.
 * A thread that cannot be created is done without. A call is no place to cancel its thread. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "runtime.h"

/* 25 to 50 microseconds on current x86 CPUs: longer than the gap between two calls of a loop,
 * shorter than anyone notices. */
enum { SPINS = 1000, STACK_BYTES = 1 << 20 };

/* Small calls are close when less than this, well within the time that a worker spins, lies between
 * the end of one and the beginning of the next; after so many the next shares its work. (Not from
 * beginning to beginning: the call that wakes a sleeper takes as long as several others.) */
enum { CLOSE_NANOSECONDS = 10000, CLOSE_CALLS = 8 };

static pthread_mutex_t region = PTHREAD_MUTEX_INITIALIZER; /* held by the call that uses the pool */
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;   /* guards sleeping and waking */
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static pthread_cond_t done = PTHREAD_COND_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_t workers[SMXK_MAX_THREADS];
static uint32_t started_at[SMXK_MAX_THREADS]; /* the ticket before each worker's first call */
/* Under lock, of each worker: whether it sleeps, and the CPU that it is kept off, plus one. */
static struct {
  int sleeps, kept_off;
} beds[SMXK_MAX_THREADS];
static int worker_count; /* under region */
/* Of this thread: calls run alone, for one is under way. HOLDING: and it has the region. ENTERING
 * is also the way out: a signal handler that forks between the two finds one or the other, never a
 * region held that is not said. */
enum { OUTSIDE, ENTERING, HOLDING };
static _Thread_local volatile sig_atomic_t inside;
static atomic_int asleep; /* workers that only a broadcast reaches */
static atomic_int stop;
static atomic_llong last_small; /* when the last small call ended */
static atomic_int close_calls;  /* how many came close one after the other, CLOSE_CALLS at most */

/* The call under way. A worker looks at it only while `gate` counts it.
 *
 * Of n threads, thread t takes the tasks t, t + n, t + 2n, … and then what others have left. So the
 * next call on the same arrays finds in a core's own cache what this one left there. When both took
 * whatever came next, softmax of 256 × 1024 on two threads took 49 microseconds or 60 to 65, by
 * chance; so it takes 48. */
static struct {
  smxk_task task;
  void *context;
  int64_t count;
  int threads;
  atomic_llong left; /* tasks that nobody has taken */
} call;
static struct {
  _Alignas(64) atomic_llong next;
} shares[SMXK_MAX_THREADS];

/* From the top: ticket of the call (32 bits), how many workers it takes (16), whether it is open
 * (1), how many are inside (15). */
static atomic_ullong gate;
#define GATE_OPEN 0x8000ull
#define GATE_INSIDE 0x7fffull
#define GATE_HELPERS(g) ((int)((g) >> 16 & 0xffff))
#define GATE_TICKET(g) ((uint32_t)((g) >> 32))

static inline void pause_briefly(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

/* Takes tasks of the call under way, until none is left. */
static void run_tasks(int worker) {
  _Alignas(64) smxk_scratch scratch;
  scratch.worker = worker;
  smxk_task task = call.task;
  void *context = call.context;
  int64_t count = call.count;
  int threads = call.threads, share = worker, taken_up = 0;
  while (taken_up < threads && atomic_load_explicit(&call.left, memory_order_relaxed) > 0) {
    int64_t index = atomic_fetch_add_explicit(&shares[share].next, threads, memory_order_relaxed);
    if (index < count) {
      atomic_fetch_sub_explicit(&call.left, 1, memory_order_relaxed);
      task(context, index, &scratch);
    } else {
      taken_up++;
      share = share + 1 < threads ? share + 1 : 0;
    }
  }
}

/* Under lock: the sleeping worker wakes up on another CPU than this one, if it has another. */
static void keep_off_this_cpu(int worker) {
  cpu_set_t cpus;
  int cpu = sched_getcpu();
  if (cpu < 0 || cpu >= CPU_SETSIZE ||
      pthread_getaffinity_np(workers[worker], sizeof cpus, &cpus) != 0 || !CPU_ISSET(cpu, &cpus) ||
      CPU_COUNT(&cpus) < 2) {
    return;
  }
  CPU_CLR(cpu, &cpus);
  if (pthread_setaffinity_np(workers[worker], sizeof cpus, &cpus) == 0)
    beds[worker].kept_off = cpu + 1;
}

/* Gives this thread back the CPU that it was kept off. */
static void allow_cpu(int cpu) {
  cpu_set_t cpus;
  if (pthread_getaffinity_np(pthread_self(), sizeof cpus, &cpus) != 0) return;
  CPU_SET(cpu, &cpus);
  pthread_setaffinity_np(pthread_self(), sizeof cpus, &cpus);
}

/* Worker `self` sleeps until the ticket is no longer `seen`. */
static void sleep_until_called(int self, uint32_t seen) {
  pthread_mutex_lock(&lock);
  atomic_fetch_add(&asleep, 1);
  beds[self].sleeps = 1;
  while (GATE_TICKET(atomic_load(&gate)) == seen) pthread_cond_wait(&wake, &lock);
  int kept_off = beds[self].kept_off;
  beds[self].sleeps = beds[self].kept_off = 0;
  atomic_fetch_sub(&asleep, 1);
  pthread_mutex_unlock(&lock);
  if (kept_off) allow_cpu(kept_off - 1);
}

/* Enters the call under way, if it is open and takes worker `self`. */
static int enter_call(int self, uint32_t *seen) {
  unsigned long long g = atomic_load_explicit(&gate, memory_order_acquire);
  for (;;) {
    *seen = GATE_TICKET(g);
    if (!(g & GATE_OPEN) || self >= GATE_HELPERS(g)) return 0;
    if (atomic_compare_exchange_weak_explicit(&gate, &g, g + 1, memory_order_acq_rel,
                                              memory_order_acquire)) {
      return 1;
    }
  }
}

static void *work(void *argument) {
  int self = (int)(intptr_t)argument;
  uint32_t seen = started_at[self];
  inside = HOLDING;
  smxk_enter_mode();
  for (;;) {
    int spins = 0;
    while (GATE_TICKET(atomic_load_explicit(&gate, memory_order_acquire)) == seen) {
      if (spins++ < SPINS) pause_briefly();
      else sleep_until_called(self, seen);
    }
    if (!enter_call(self, &seen)) {
      /* Asked behind the ticket: a stop that is published later has a ticket of its own. */
      if (atomic_load(&stop)) return NULL;
      continue;
    }
    run_tasks(self + 1);
    unsigned long long before = atomic_fetch_sub_explicit(&gate, 1, memory_order_acq_rel);
    if (!(before & GATE_OPEN) && (before & GATE_INSIDE) == 1) {
      pthread_mutex_lock(&lock);
      pthread_cond_signal(&done);
      pthread_mutex_unlock(&lock);
    }
  }
}

/* Under region: a new ticket, for which sleepers are woken. */
static void publish(int helpers, unsigned long long open) {
  unsigned long long ticket = GATE_TICKET(atomic_load_explicit(&gate, memory_order_relaxed)) + 1u;
  atomic_store(&gate, (ticket << 32) | (unsigned long long)helpers << 16 | open);
  if (atomic_load(&asleep) == 0) return;
  pthread_mutex_lock(&lock);
  for (int i = 0; i < helpers; i++) {
    if (beds[i].sleeps && !beds[i].kept_off) keep_off_this_cpu(i);
  }
  pthread_cond_broadcast(&wake);
  pthread_mutex_unlock(&lock);
}

/* No more workers may enter; waits for those inside. */
static void close_call(void) {
  unsigned long long g = atomic_fetch_and(&gate, ~GATE_OPEN);
  for (int spins = 0; (g & GATE_INSIDE) != 0 && spins < SPINS; spins++) {
    pause_briefly();
    g = atomic_load_explicit(&gate, memory_order_acquire);
  }
  if ((g & GATE_INSIDE) == 0) return;
  pthread_mutex_lock(&lock);
  while ((atomic_load_explicit(&gate, memory_order_acquire) & GATE_INSIDE) != 0) {
    pthread_cond_wait(&done, &lock);
  }
  pthread_mutex_unlock(&lock);
}

/* Under region: ends all workers. */
static void stop_workers(void) {
  if (worker_count == 0) return;
  atomic_store(&stop, 1);
  publish(0, 0);
  int cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  for (int i = 0; i < worker_count; i++) pthread_join(workers[i], NULL);
  pthread_setcancelstate(cancellable, NULL);
  atomic_store(&stop, 0);
  worker_count = 0;
}

static void before_fork(void) {
  if (inside) return;
  pthread_mutex_lock(&region);
  stop_workers();
}

static void after_fork(void) {
  if (!inside) pthread_mutex_unlock(&region);
}

/* A fork amid a call: the child has none of the workers, nor what they hold. */
static void after_fork_in_child(void) {
  if (!inside) {
    pthread_mutex_unlock(&region);
    return;
  }
  if (inside == ENTERING) pthread_mutex_init(&region, NULL);
  pthread_mutex_init(&lock, NULL);
  pthread_cond_init(&wake, NULL);
  pthread_cond_init(&done, NULL);
  atomic_store(&asleep, 0);
  atomic_fetch_and(&gate, ~GATE_INSIDE);
  memset(beds, 0, sizeof beds);
  worker_count = 0;
}

/* Without them no worker is started: a fork would leave the child with locks that nobody opens. */
static int has_handlers; /* under once */
static void install_handlers(void) {
  has_handlers = pthread_atfork(before_fork, after_fork, after_fork_in_child) == 0;
}

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
    started_at[worker_count] = GATE_TICKET(atomic_load_explicit(&gate, memory_order_relaxed));
    void *self = (void *)(intptr_t)worker_count;
    if (pthread_create(&workers[worker_count], &attributes, work, self) != 0) break;
    worker_count++;
  }
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  pthread_attr_destroy(&attributes);
}

static void run_alone(int64_t count, smxk_task task, void *context) {
  _Alignas(64) smxk_scratch scratch;
  scratch.worker = 0;
  for (int64_t index = 0; index < count; index++) task(context, index, &scratch);
}

static long long nanoseconds(void) {
  struct timespec t;
  return clock_gettime(CLOCK_MONOTONIC, &t) == 0 ? t.tv_sec * 1000000000ll + t.tv_nsec : 0;
}

/* Whether small calls come so closely that this one may use the pool. */
static int small_call_is_close(void) {
  long long before = atomic_load_explicit(&last_small, memory_order_relaxed);
  if (nanoseconds() - before > CLOSE_NANOSECONDS) {
    atomic_store_explicit(&close_calls, 0, memory_order_relaxed);
    return 0;
  }
  int calls = atomic_load_explicit(&close_calls, memory_order_relaxed);
  if (calls >= CLOSE_CALLS) return 1;
  atomic_store_explicit(&close_calls, calls + 1, memory_order_relaxed);
  return 0;
}

static void run_shared(int32_t threads, int64_t count, smxk_task task, void *context) {
  int saved = errno, cancellable;
  pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancellable);
  inside = ENTERING;
  int helpers = 0;
  if (pthread_mutex_trylock(&region) == 0) {
    inside = HOLDING;
    start_workers(threads - 1);
    helpers = worker_count < threads - 1 ? worker_count : threads - 1;
    if (helpers > 0) {
      call.task = task;
      call.context = context;
      call.count = count;
      call.threads = helpers + 1;
      atomic_store_explicit(&call.left, count, memory_order_relaxed);
      for (int i = 0; i <= helpers; i++) {
        atomic_store_explicit(&shares[i].next, i, memory_order_relaxed);
      }
      publish(helpers, GATE_OPEN);
      run_tasks(0);
      close_call();
    }
    inside = ENTERING;
    pthread_mutex_unlock(&region);
  }
  inside = OUTSIDE;
  pthread_setcancelstate(cancellable, NULL);
  errno = saved;
  if (helpers == 0) run_alone(count, task, context);
}

void smxk_parallel(int32_t threads, int64_t count, int32_t is_small, smxk_task task,
                   void *context) {
  if (threads > count) threads = (int32_t)count;
  if (threads <= 1 || inside) {
    run_alone(count, task, context);
    return;
  }
  if ((!is_small || small_call_is_close()) && pthread_once(&once, install_handlers) == 0 &&
      has_handlers) {
    run_shared(threads, count, task, context);
  } else {
    run_alone(count, task, context);
  }
  if (is_small) atomic_store_explicit(&last_small, nanoseconds(), memory_order_relaxed);
}
