/* Memory and threads of attention's gradient: workspace from the caller or one allocation of just
 * that size, an error where there is none, the same bits where threads cannot be had; what the
 * longest calls need; 256 KB of stack. */
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "attention_vjp.h"
#include "preload.h"

enum { CALLS = 30, LARGE = 3 };
static problem problems[CALLS];
static backward backwards[CALLS];

static void prepare(void) {
  for (int i = 0; i < CALLS; i++) {
    uint64_t seed = 80000 + (uint64_t)i, random = seed;
    /* The first have enough work for several threads. */
    if (i < LARGE)
      problem_plain(&problems[i], float_dtypes[i + 1], 1, 2, i == 1 ? 2 : 1, 100, 130, 64, 64);
    else problem_make(&problems[i], seed, 2e4, 0, 0);
    manner m = {.wanted = ALL, .layout = i % 2 ? SMX_BLHD : SMX_BHLD};
    if (i % 3) m.strides = random_bits(&random) | 1;
    backward_make(&backwards[i], &problems[i], m);
  }
}

static void reset_gradients(backward *b) {
  for (int k = 0; k < GRADIENTS; k++) {
    if (b->gradients[k].block) memset(b->gradients[k].block, CANARY, b->gradients[k].bytes);
  }
}

static int gradients_untouched(const backward *b) {
  for (int k = 0; k < GRADIENTS; k++) {
    for (size_t n = 0; b->gradients[k].block && n < b->gradients[k].bytes; n++) {
      if (b->gradients[k].block[n] != CANARY) return 0;
    }
  }
  return 1;
}

static uint64_t hash_of(const backward *b) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (int k = 0; k < GRADIENTS; k++) {
    for (size_t n = 0; b->gradients[k].block && n < b->gradients[k].bytes; n++)
      hash = (hash ^ b->gradients[k].block[n]) * 0x100000001b3u;
  }
  return hash;
}

static int64_t withWorkspace, without;

static void check_allocations(backward *b) {
  size_t need = 0;
  long allocations, threads;
  backward_describe(b, "allocations");
  smx_status status = backward_workspace(b, &need);
  if (!CHECK(status == SMX_OK, "%s", smx_last_error())) return;
  *(need ? &withWorkspace : &without) += 1;
  /* The caller's: none, though the first would fail, and so would threads. */
  reset_gradients(b);
  smx_attention_options options = b->options;
  void *space = aligned_alloc(64, need + 64);
  if (!space) abort();
  options.workspace = space, options.workspace_size = need;
  preload_begin(1, 1);
  status = backward_with(b, &options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == 0,
        "with a workspace: status %d, %ld allocations, %ld threads", status, allocations, threads);
  uint64_t hash = hash_of(b);
  /* One byte less than it needs. */
  if (need) {
    options.workspace_size = need - 1;
    reset_gradients(b);
    status = backward_with(b, &options);
    CHECK(status == SMX_ERROR_VALUE && gradients_untouched(b), "status %d", status);
  }
  /* Its own: one, of that size, and given back. */
  preload_begin(0, 1);
  status = backward_with(b, &b->options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == (need > 0) && preload_bytes() == (long)need,
        "status %d, %ld allocations of %ld bytes; needed are %zu", status, allocations,
        preload_bytes(), need);
  CHECK(hash_of(b) == hash, "other bits without a workspace");
  /* None to be had. */
  reset_gradients(b);
  preload_begin(1, 1);
  status = backward_with(b, &b->options);
  preload_end(&allocations, &threads);
  char number[24];
  snprintf(number, sizeof number, "%zu", need);
  if (need == 0) CHECK(status == SMX_OK && hash_of(b) == hash, "status %d", status);
  else {
    CHECK(status == SMX_ERROR_MEMORY && strstr(smx_last_error(), number), "status %d: %s", status,
          smx_last_error());
    CHECK(gradients_untouched(b), "a gradient was written");
  }
  free(space);
}

/* -- the longest calls ----------------------------------------------------------------------------
 */

enum { LONG = 16384, LONG_SIZE = 64 };
static const size_t most = (size_t)32 << 20;

/* Lq = Lk = 16384 at D 64 in float32 needs at most 32 MB beside its operands and gradients,
 * whatever the masks. Only addresses are needed to ask: no memory is behind them. */
static void check_long(void) {
  static const int64_t shape[] = {1, 4, LONG, LONG_SIZE}, lse_shape[] = {1, 4, LONG};
  size_t worst = 0, bytes = (size_t)4 * LONG * LONG_SIZE * sizeof(float);
  smx_tensor t[9];
  for (int k = 0; k < 9; k++) {
    void *p = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) abort();
    t[k] = (smx_tensor){p, SMX_FLOAT32, k == 5 ? 3 : 4, k == 5 ? lse_shape : shape, NULL};
  }
  smx_attention_gradients list = {sizeof list, &t[6], &t[7], &t[8], NULL, NULL};
  for (int n = 0; n < 3 * 4; n++) {
    static const int32_t counts[] = {1, 2, 16};
    smx_mask m = {.size = sizeof m, .causal = n & 1, .window = n >> 1 & 1, .window_left = 255};
    smx_attention_options options = {.size = sizeof options, .structure = &m};
    int32_t threads = counts[n / 4];
    size_t need = SIZE_MAX;
    smx_set_num_threads(threads);
    DESCRIBE("Lq = Lk = %d, %s%s, %d threads", LONG, n & 1 ? "causal " : "", n & 2 ? "window" : "",
             threads);
    smx_status status = smx_attention_vjp_workspace_size(&t[0], &t[1], &t[2], &t[3], &t[4], &t[5],
                                                         &list, &options, &need);
    CHECK(status == SMX_OK && need <= most, "status %d, %zu bytes: %s", status, need,
          smx_last_error());
    if (need > worst) worst = need;
  }
  for (int k = 0; k < 9; k++) munmap(t[k].data, bytes);
  printf("Lq = Lk = %d needs up to %zu bytes for 16 threads\n", LONG, worst);
}

/* The same asked in earnest of one head, with a window that makes it short. */
static void check_long_call(void) {
  static problem p;
  static backward b;
  int64_t length = is_light() ? LONG / 16 : LONG;
  problem_plain(&p, SMX_FLOAT32, 1, 1, 1, length, length, LONG_SIZE, LONG_SIZE);
  p.part_count = 1;
  p.parts[0].causal = p.parts[0].window = 1, p.parts[0].window_left = 255;
  smx_set_num_threads(2);
  backward_make(&b, &p, (manner){.wanted = ALL});
  check_allocations(&b);
  backward_free(&b);
  problem_free(&p);
}

/* -- threads and stack ----------------------------------------------------------------------------
 */

static uint64_t hash_all(int *wrong) {
  uint64_t hash = 0;
  for (int i = 0; i < CALLS; i++) {
    reset_gradients(&backwards[i]);
    *wrong += backward_run(&backwards[i]) != SMX_OK;
    hash = hash * 31 + hash_of(&backwards[i]);
  }
  return hash;
}

static uint64_t small_stack_hash;
static void *call_on_small_stack(void *argument) {
  int wrong = 0;
  smx_set_num_threads_local((int32_t)(intptr_t)argument, NULL);
  small_stack_hash = hash_all(&wrong);
  return (void *)(intptr_t)wrong;
}

static void check_stack(uint64_t hash) {
  int wrong = 0;
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
  int wrong = 0;
  long allocations, threads;
  alarm(240);
  prepare();
  smx_set_num_threads(1);
  uint64_t hash = hash_all(&wrong);
  /* No worker yet, and none can be made. */
  smx_set_num_threads(7);
  preload_begin(0, 1);
  uint64_t alone = hash_all(&wrong);
  preload_end(&allocations, &threads);
  DESCRIBE("no threads to be had");
  CHECK(wrong == 0 && alone == hash && threads > 0, "%d wrong calls, %ld threads", wrong, threads);
  smx_set_num_threads(4);
  DESCRIBE("4 threads");
  CHECK(hash_all(&wrong) == hash && wrong == 0, "%d wrong calls", wrong);
  for (int i = 0; i < CALLS; i++) check_allocations(&backwards[i]);
  check_stack(hash);
  check_long();
  check_long_call();
  printf("%" PRId64 " calls needed a workspace, %" PRId64 " none\n", withWorkspace, without);
  for (int i = 0; i < CALLS; i++) backward_free(&backwards[i]), problem_free(&problems[i]);
  return finish("test_attention_vjp_resources");
}
