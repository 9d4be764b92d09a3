/* Memory and threads that run out: every allocation and every thread creation fails once, in a
 * process that has not called the library before, and the results have the same bits. Then: a call
 * allocates nothing, and 256 KB of stack are enough for every kind of call. */
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload.h"
#include "scenario.h"

enum { SEEDS = 60, COLS = 50000 };
static float row[COLS], result[COLS];

/* Hash of bytes, so that bits cross from one process to another. */
static uint64_t hash_of(uint64_t hash, const void *bytes, size_t count) {
  const unsigned char *p = bytes;
  for (size_t i = 0; i < count; i++) hash = (hash ^ p[i]) * 0x100000001b3u;
  return hash;
}

/* The scenarios are made before the first failure is due: their own memory must not fail. */
static scenario scenarios[SEEDS];

static void prepare(void) {
  uint64_t random = 17;
  for (int i = 0; i < COLS; i++) row[i] = (float)random_between(&random, -9, 9);
  for (int i = 0; i < SEEDS; i++)
    scenario_make(&scenarios[i], 4000000 + (uint64_t)i, i % 4 ? 0 : 12000);
}

/* Every kind of call, threads among them; *wrong counts bad statuses. */
static uint64_t call_all(int *wrong) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int o = 0; o < OPERATIONS; o++) {
    for (int64_t rows = 1; rows <= 25; rows += 24) {
      *wrong += call_rows(o, SMX_FLOAT32, row, result, rows, COLS / rows) != SMX_OK;
      hash = hash_of(hash, result, o == LOGSUMEXP ? (size_t)rows * 4 : sizeof result);
    }
  }
  for (int i = 0; i < SEEDS; i++) {
    *wrong += scenario_run(&scenarios[i]) != SMX_OK;
    hash = hash_of(hash, scenarios[i].out.block, scenarios[i].out.bytes);
  }
  return hash;
}

typedef struct report {
  uint64_t hash;
  long allocations, threads;
  int wrong, count_is_right, error_is_right;
} report;

/* In a new process, with failures from the library's very first call on. */
static int run_apart(long allocation, long thread, int32_t count, report *r) {
  int ends[2], status = -1;
  if (pipe(ends) != 0) abort();
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    int32_t now = 0;
    memset(r, 0, sizeof *r);
    preload_begin(allocation, thread);
    /* The default count reads files; then threads are asked for. */
    r->count_is_right = smx_get_num_threads(&now) == SMX_OK && now >= 1;
    smx_set_num_threads(count);
    r->hash = call_all(&r->wrong);
    r->error_is_right =
        smx_set_num_threads(0) == SMX_ERROR_VALUE && strstr(smx_last_error(), "256");
    preload_end(&r->allocations, &r->threads);
    ssize_t written = write(ends[1], r, sizeof *r);
    _exit(written == sizeof *r ? 0 : 1);
  }
  close(ends[1]);
  ssize_t got = read(ends[0], r, sizeof *r);
  close(ends[0]);
  waitpid(child, &status, 0);
  return CHECK(got == sizeof *r && WIFEXITED(status) && WEXITSTATUS(status) == 0,
               "the process ended with 0x%x", status);
}

static void check_report(const report *r, const report *whole) {
  CHECK(r->hash == whole->hash, "hash %016" PRIx64 ", not %016" PRIx64, r->hash, whole->hash);
  CHECK(r->wrong == 0, "%d calls failed", r->wrong);
  CHECK(r->count_is_right && r->error_is_right, "thread count or error sentence");
}

static void check_failures(void) {
  report whole, alone, r;
  long points = 0;
  DESCRIBE("nothing fails");
  if (!run_apart(0, 0, 4, &whole) || !run_apart(0, 0, 1, &alone)) return;
  check_report(&alone, &whole);
  CHECK(whole.threads == 3, "4 threads made %ld workers, not 3", whole.threads);
  CHECK(alone.threads == 0, "1 thread made %ld workers", alone.threads);
  for (long n = 1; n <= whole.allocations; n++, points++) {
    DESCRIBE("allocation %ld of %ld fails", n, whole.allocations);
    if (run_apart(n, 0, 4, &r)) check_report(&r, &whole);
  }
  for (long n = 1; n <= 7; n++, points++) {
    DESCRIBE("thread %ld and all after it fail", n);
    if (run_apart(0, n, 7, &r)) check_report(&r, &whole);
  }
  printf("%ld points of failure; starting up (files read, threads made) takes %ld allocations\n",
         points, whole.allocations);
}

static void check_no_allocation(void) {
  long allocations, threads;
  int wrong = 0;
  smx_set_num_threads(4);
  call_all(&wrong);
  DESCRIBE("calls after the first ones");
  for (int i = 0; i < SEEDS; i++) {
    scenario_describe(&scenarios[i]);
    preload_begin(1, 1);
    smx_status status = scenario_run(&scenarios[i]);
    preload_end(&allocations, &threads);
    CHECK(status == SMX_OK && allocations == 0 && threads == 0,
          "status %d, %ld allocations, %ld threads", status, allocations, threads);
  }
  preload_begin(1, 1);
  call_all(&wrong);
  preload_end(&allocations, &threads);
  CHECK(allocations == 0 && threads == 0 && wrong == 0,
        "%ld allocations, %ld threads, %d failed calls", allocations, threads, wrong);
}

static uint64_t hash_on_small_stack;
static void *call_on_small_stack(void *argument) {
  int32_t count = (int32_t)(intptr_t)argument;
  int wrong = 0;
  smx_set_num_threads_local(count, NULL);
  hash_on_small_stack = call_all(&wrong);
  return (void *)(intptr_t)wrong;
}

static void check_stack(void) {
  int wrong = 0;
  smx_set_num_threads(1);
  uint64_t hash = call_all(&wrong);
  for (intptr_t count = 1; count <= 4; count += 3) {
    pthread_attr_t attributes;
    pthread_t thread;
    void *failures = &wrong;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 << 10);
    DESCRIBE("256 KB of stack, %d threads", (int)count);
    if (CHECK(pthread_create(&thread, &attributes, call_on_small_stack, (void *)count) == 0,
              "pthread_create")) {
      pthread_join(thread, &failures);
      CHECK(failures == NULL && hash_on_small_stack == hash, "hash %016" PRIx64 ", not %016" PRIx64,
            hash_on_small_stack, hash);
    }
    pthread_attr_destroy(&attributes);
  }
}

int main(void) {
  alarm(120);
  prepare();
  check_failures();
  check_no_allocation();
  check_stack();
  for (int i = 0; i < SEEDS; i++) scenario_free(&scenarios[i]);
  return finish("test_resources");
}
