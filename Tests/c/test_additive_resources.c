/* Memory and threads of additive attention: one allocation of just the size that is asked for and
 * none with a workspace; an error, with outputs as they were, where there is no memory; the same
 * bits where threads cannot be had; workspace linear in the lengths. */
#include "additive.h"
#include "preload.h"

static unsigned char want[1 << 20], got[1 << 20];

static void read_outputs(const call *c, unsigned char *to) {
  for (int v = OUT; v < VIEWS; v++) {
    view_read(&c->views[v], to);
    to += (size_t)c->views[v].count * size_of(c->views[v].tensor.dtype);
  }
}

static int64_t output_bytes(const call *c) {
  int64_t bytes = 0;
  for (int v = OUT; v < VIEWS; v++)
    bytes += c->views[v].count * (int64_t)size_of(c->views[v].tensor.dtype);
  return bytes;
}

static void check_allocations(call *c) {
  long allocations, threads;
  size_t need = 0;
  CHECK(workspace_of(c, &need) == SMX_OK && need > 0, "%zu bytes", need);
  void *space = aligned_alloc(64, need);
  if (!space) abort();
  smx_additive_attention_options own = c->options;
  own.workspace = space, own.workspace_size = need;
  preload_begin(0, 0);
  smx_status status = call_with(c, &own);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == 0, "status %d, %ld allocations", status, allocations);
  read_outputs(c, want);
  reset_outputs(c);
  preload_begin(0, 0);
  status = call_with(c, &c->options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && allocations == 1 && preload_bytes() == (long)need,
        "status %d, %ld allocations of %ld bytes, not %zu", status, allocations, preload_bytes(),
        need);
  read_outputs(c, got);
  same_bits("outputs", 1, got, want, output_bytes(c));
  reset_outputs(c);
  preload_begin(1, 0);
  status = call_with(c, &c->options);
  preload_end(&allocations, &threads);
  char number[24];
  snprintf(number, sizeof number, "%zu", need);
  CHECK(status == SMX_ERROR_MEMORY && strstr(smx_last_error(), number), "status %d: %s", status,
        smx_last_error());
  CHECK(outputs_untouched(c), "an output was written");
  CHECK(call_with(c, &c->options) == SMX_OK, "asked again: %s", smx_last_error());
  read_outputs(c, got);
  same_bits("outputs", 1, got, want, output_bytes(c));
  free(space);
}

/* The first calls of the process, so that all threads are yet to be created. */
static void check_threads(void) {
  static const sizes s = {2, 4, 2, 60, 200, 30, 40, 20, 24, 1, 1};
  static call c;
  long allocations, threads;
  call_make(&c, &s, SMX_FLOAT32, 0, 7);
  DESCRIBE("threads that cannot be had");
  smx_set_num_threads(4);
  preload_begin(0, 1);
  smx_status status = call_with(&c, &c.options);
  preload_end(&allocations, &threads);
  CHECK(status == SMX_OK && threads > 0, "status %d, %ld threads were wanted", status, threads);
  read_outputs(&c, want);
  reset_outputs(&c);
  CHECK(call_with(&c, &c.options) == SMX_OK, "%s", smx_last_error());
  read_outputs(&c, got);
  same_bits("outputs", 1, got, want, output_bytes(&c));
  call_free(&c);
}

/* Twice the keys, about twice the bytes; never Lq · Lk. Nothing is behind the addresses. */
static void check_lengths(void) {
  static int64_t shape[2], matrix[] = {64, 64}, vector[] = {64};
  size_t before = 0, need = 0;
  for (int64_t length = 4096; length <= 1 << 18; length *= 2, before = need) {
    shape[0] = length, shape[1] = 64;
    smx_tensor rows = {(void *)4096, SMX_FLOAT32, 2, shape, NULL}, out = rows;
    smx_tensor w = {(void *)4096, SMX_FLOAT32, 2, matrix, NULL},
               v = {(void *)4096, SMX_FLOAT32, 1, vector, NULL};
    out.data = (void *)((uintptr_t)1 << 40);
    DESCRIBE("%" PRId64 " queries and keys", length);
    smx_status status =
        smx_additive_attention_workspace_size(&rows, &rows, &rows, &w, &w, &v, &out, NULL, &need);
    CHECK(status == SMX_OK && need < (size_t)length * 2 * 64 * 4 + (4 << 20),
          "status %d, %zu bytes", status, need);
    CHECK(need < 2 * before + (1 << 20) || !before, "%zu bytes after %zu", need, before);
  }
}

int main(void) {
  check_threads();
  for (uint64_t seed = 0; seed < (is_light() ? 8 : 40); seed++) {
    static call c;
    uint64_t r = seed + 70;
    sizes s = random_sizes(&r);
    if (s.queries == 0) s.queries = 1 + random_below(&r, 70);
    if (seed % 8 == 5) s.keys = 2100, s.queries = 2;
    smx_dtype dtype = float_dtypes[seed % 4];
    smx_set_num_threads(1 + (int32_t)(seed % 3));
    call_make(&c, &s, dtype, seed % 3, seed);
    call_describe(&s, dtype, seed % 3, seed);
    if (output_bytes(&c) > (int64_t)sizeof want) abort();
    check_allocations(&c);
    call_free(&c);
  }
  check_lengths();
  return finish("test_additive_resources");
}
