/* Memory and threads of attention: workspace from the caller or one allocation of just that size,
 * an error where there is none, the same bits where threads cannot be had; what the longest calls
 * need; 256 KB of stack. */
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attention_random.h"
#include "preload.h"

enum { CALLS = 40, LARGE = 4 };
static problem problems[CALLS];
static call calls[CALLS];

/* Made before the first failure is due: their own memory must not fail. The first have enough work
 * for several threads, and rows so long that each thread needs a workspace; most others need none.
 */
static void prepare(void) {
  for (int i = 0; i < CALLS; i++) {
    uint64_t seed = 60000 + (uint64_t)i;
    /* Those are slow without FMA: of two dtypes, then. */
    if (i < (is_light() ? 2 : LARGE))
      problem_plain(&problems[i], float_dtypes[3 - i], 1, 2, 2, 60, 20, 500, 500);
    else problem_make(&problems[i], seed, 2e4, i % 8 == 4 ? 2500 : 0, 0);
    choice o = random_choice(&problems[i], seed);
    o.lse = 1;
    call_make(&calls[i], &problems[i], o);
  }
}

static int is_output(int v) { return v == OUT || v == LSE || v == WEIGHTS; }

static void reset_outputs(call *c) {
  for (int v = OUT; v < VIEWS; v++) {
    if (c->views[v].block) memset(c->views[v].block, CANARY, c->views[v].bytes);
  }
}

static int outputs_untouched(const call *c) {
  for (int v = OUT; v < VIEWS; v++) {
    for (size_t n = 0; is_output(v) && c->views[v].block && n < c->views[v].bytes; n++) {
      if (c->views[v].block[n] != CANARY) return 0;
    }
  }
  return 1;
}

/* Hash of all outputs, so that bits cross from one process to another. */
static uint64_t hash_of(const call *c, uint64_t hash) {
  for (int v = OUT; v < VIEWS; v++) {
    for (size_t n = 0; c->views[v].block && n < c->views[v].bytes; n++)
      hash = (hash ^ c->views[v].block[n]) * 0x100000001b3u;
  }
  return hash;
}

/* All calls without a workspace of ours. One that is out of memory must say so, leave its outputs
 * alone and succeed when asked again. */
static uint64_t call_all(int *wrong, int *refused) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int i = 0; i < CALLS; i++) {
    reset_outputs(&calls[i]);
    smx_status status = call_with(&calls[i], &calls[i].options);
    if (status == SMX_ERROR_MEMORY) {
      ++*refused;
      *wrong += !outputs_untouched(&calls[i]) || !strstr(smx_last_error(), "workspace");
      status = call_with(&calls[i], &calls[i].options);
    }
    *wrong += status != SMX_OK;
    hash = hash_of(&calls[i], hash);
  }
  return hash;
}

/* -- failures in a new process
 * ---------------------------------------------------------------------
 */

typedef struct report {
  uint64_t hash;
  long allocations, threads;
  int wrong, refused;
} report;

static int run_apart(long allocation, long thread, int32_t count, report *r) {
  int ends[2], status = -1;
  if (pipe(ends) != 0) abort();
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    memset(r, 0, sizeof *r);
    preload_begin(allocation, thread);
    smx_set_num_threads(count);
    r->hash = call_all(&r->wrong, &r->refused);
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

static void check_failures(void) {
  report whole, r;
  DESCRIBE("nothing fails");
  if (!run_apart(0, 0, 4, &whole)) return;
  CHECK(whole.wrong == 0 && whole.refused == 0, "%d calls failed, %d were refused", whole.wrong,
        whole.refused);
  CHECK(whole.threads == 3, "4 threads made %ld workers, not 3", whole.threads);
  CHECK(whole.allocations > 0, "no call needed memory: nothing to test");
  long refusals = 0;
  for (long n = 1; n <= whole.allocations; n++) {
    DESCRIBE("allocation %ld of %ld fails", n, whole.allocations);
    if (!run_apart(n, 0, 4, &r)) continue;
    CHECK(r.hash == whole.hash, "hash %016" PRIx64 ", not %016" PRIx64, r.hash, whole.hash);
    CHECK(r.wrong == 0 && r.refused <= 1, "%d wrong calls, %d refused", r.wrong, r.refused);
    refusals += r.refused;
  }
  CHECK(refusals > 0, "no failure of memory was met");
  for (long n = 1; n <= 7; n += is_light() ? 3 : 1) {
    DESCRIBE("thread %ld and all after it fail", n);
    if (!run_apart(0, n, 7, &r)) continue;
    CHECK(r.hash == whole.hash, "hash %016" PRIx64 ", not %016" PRIx64, r.hash, whole.hash);
    CHECK(r.wrong == 0 && r.refused == 0, "%d wrong calls, %d refused", r.wrong, r.refused);
  }
  DESCRIBE("one thread");
  if (run_apart(0, 0, 1, &r))
    CHECK(r.hash == whole.hash && r.threads == 0, "hash %016" PRIx64 ", %ld threads", r.hash,
          r.threads);
  printf("%ld allocations fail one by one, %ld calls refused\n", whole.allocations, refusals);
}

/* -- what a call allocates
 * ---------------------------------------------------------------------------
 */

static int64_t withWorkspace, without;

static void check_allocations(call *c) {
  size_t need = 0;
  long allocations, threads;
  call_describe(c, "allocations");
  smx_status status = workspace_of(c, &need);
  if (!CHECK(status == SMX_OK, "%s", smx_last_error())) return;
  *(need ? &withWorkspace : &without) += 1;
  /* The caller's: none, though the first would fail. */
  smx_attention_options options = c->options;
  void *space = aligned_alloc(64, need + 64);
  if (!space) abort();
  options.workspace = space, options.workspace_size = need;
  preload_begin(1, 1);
  status = call_with(c, &options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == 0 && threads == 0,
        "with a workspace: status %d, %ld allocations, %ld threads", status, allocations, threads);
  /* Its own: one, of that size, and given back. */
  preload_begin(0, 1);
  status = call_with(c, &c->options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == (need > 0) && preload_bytes() == (long)need,
        "status %d, %ld allocations of %ld bytes; needed are %zu", status, allocations,
        preload_bytes(), need);
  /* None to be had. */
  reset_outputs(c);
  preload_begin(1, 1);
  status = call_with(c, &c->options);
  preload_end(&allocations, &threads);
  char number[24];
  snprintf(number, sizeof number, "%zu", need);
  if (need == 0) CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error());
  else {
    CHECK(status == SMX_ERROR_MEMORY && strstr(smx_last_error(), number), "status %d: %s", status,
          smx_last_error());
    CHECK(outputs_untouched(c), "an output was written");
  }
  free(space);
}

/* swiftmax.h: small calls need no workspace. */
static void check_small(void) {
  static const int64_t shapes[][4] = {
      {1, 8, 8, 16}, {1, 1, 1, 1}, {2, 16, 16, 64}, {8, 1, 1000, 64}, {32, 1, 64, 128}};
  for (int k = 0; k < 20; k++) {
    static problem p;
    static call c;
    const int64_t *s = shapes[k / 4];
    size_t need = 1;
    problem_plain(&p, k % 4 == 3 ? SMX_FLOAT64 : SMX_FLOAT32, 1, s[0], s[0], s[1], s[2], s[3],
                  s[3]);
    if (k % 4 == 1) p.parts[0].causal = 1, p.part_count = 1;
    call_make(&c, &p, (choice){.past = -1, .lse = k % 4 == 2});
    call_describe(&c, "small");
    CHECK(workspace_of(&c, &need) == SMX_OK && (need == 0 || p.dtype == SMX_FLOAT64),
          "%zu bytes of workspace", need);
    check_allocations(&c);
    call_free(&c);
    problem_free(&p);
  }
}

/* -- the longest calls
 * -----------------------------------------------------------------------------
 */

enum { LONG = 32768, LONG_HEADS = 4, LONG_SIZE = 64 };
static const size_t most = (size_t)16 << 20;

/* Lq = Lk = 32768 at D 64 needs at most 16 MB beside its operands, whatever the masks. Only
 * addresses are needed to ask: no memory is behind them. */
static void check_long(void) {
  static const int64_t shape[] = {1, LONG_HEADS, LONG, LONG_SIZE}, stride[] = {8};
  int64_t length = LONG - 1000;
  size_t worst = 0;
  smx_tensor t[4], lengths = {&length, SMX_INT64, 0, NULL, stride};
  for (int k = 0; k < 4; k++) {
    void *p = mmap(NULL, (size_t)LONG * LONG_HEADS * LONG_SIZE * 8, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    t[k] = (smx_tensor){p, SMX_FLOAT32, 4, shape, NULL};
  }
  for (int n = 0; n < 4 * 8 * 3; n++) {
    smx_mask m = {.size = sizeof m, .causal = n & 1, .window = n >> 1 & 1, .window_left = 255};
    if (n >> 2 & 1) m.key_lengths = &lengths;
    smx_attention_options options = {.size = sizeof options, .structure = &m};
    smx_dtype dtype = float_dtypes[n >> 3 & 3];
    int32_t threads = n / 32 == 0 ? 1 : n / 32 == 1 ? 2 : 16;
    size_t need = SIZE_MAX;
    smx_set_num_threads(threads);
    for (int k = 0; k < 4; k++) t[k].dtype = dtype;
    DESCRIBE("Lq = Lk = %d of %s, %s%s%s, %d threads", LONG, name_of(dtype), n & 1 ? "causal " : "",
             n & 2 ? "window " : "", n & 4 ? "lengths" : "", threads);
    smx_status status = smx_attention_workspace_size(&t[0], &t[1], &t[2], &t[3], &options, &need);
    CHECK(status == SMX_OK && need <= most, "status %d, %zu bytes", status, need);
    if (threads == 2 && need > worst) worst = need;
  }
  for (int k = 0; k < 4; k++) munmap(t[k].data, (size_t)LONG * LONG_HEADS * LONG_SIZE * 8);
  printf("Lq = Lk = %d needs up to %zu bytes for 2 threads\n", LONG, worst);
}

/* The same asked in earnest of one head, with a window that makes it short. */
static void check_long_call(void) {
  static problem p;
  static call c;
  int64_t length = is_light() ? LONG / 16 : LONG;
  problem_plain(&p, SMX_FLOAT32, 1, 1, 1, length, length, LONG_SIZE, LONG_SIZE);
  p.part_count = 1;
  p.parts[0].causal = p.parts[0].window = 1, p.parts[0].window_left = 255;
  smx_set_num_threads(2);
  call_make(&c, &p, (choice){.past = -1, .lse = 1});
  check_allocations(&c);
  call_free(&c);
  problem_free(&p);
}

/* -- stack
 * -----------------------------------------------------------------------------------------
 */

static uint64_t small_stack_hash;
static void *call_on_small_stack(void *argument) {
  int wrong = 0, refused = 0;
  smx_set_num_threads_local((int32_t)(intptr_t)argument, NULL);
  small_stack_hash = call_all(&wrong, &refused);
  return (void *)(intptr_t)(wrong + refused);
}

static void check_stack(void) {
  int wrong = 0, refused = 0;
  smx_set_num_threads(1);
  uint64_t hash = call_all(&wrong, &refused);
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
      CHECK(failures == NULL && small_stack_hash == hash, "hash %016" PRIx64 ", not %016" PRIx64,
            small_stack_hash, hash);
    }
    pthread_attr_destroy(&attributes);
  }
}

int main(void) {
  int wrong = 0, refused = 0;
  alarm(240);
  prepare();
  check_failures();
  smx_set_num_threads(4);
  call_all(&wrong, &refused);
  for (int i = 0; i < CALLS; i++) check_allocations(&calls[i]);
  check_small();
  check_stack();
  check_long();
  check_long_call();
  printf("%" PRId64 " calls needed a workspace, %" PRId64 " none\n", withWorkspace, without);
  for (int i = 0; i < CALLS; i++) call_free(&calls[i]), problem_free(&problems[i]);
  return finish("test_attention_resources");
}
