/* Memory of sampling: none for few tokens and short lists, and where there is none for many, an
 * error and outputs untouched. */
#include "preload.h"
#include "values.h"

enum { ROWS = 64, COLS = 3000, SIZE = 50, K = 2000 };

static float x[ROWS * COLS], out[ROWS * COLS], untouched[ROWS * COLS];
static int64_t tokens[ROWS * SIZE], indices[ROWS * K], no_tokens[ROWS * K];

enum { FEW, MANY, FILTERED, SHORT_LIST, LONG_LIST, NOISE, CALLS };
static const char *const names[CALLS] = {"few tokens", "many tokens", "filtered",
                                         "short list", "long list",   "noise"};
static const int allocates[CALLS] = {[MANY] = 1, [LONG_LIST] = 1, [NOISE] = 1};

static smx_status call(int which) {
  static const int64_t shape[] = {ROWS, COLS}, rows[] = {ROWS}, many[] = {ROWS, SIZE},
                       few_best[] = {ROWS, 20}, best[] = {ROWS, K};
  smx_tensor of_x = {x, SMX_FLOAT32, 2, shape, NULL}, of_out = {out, SMX_FLOAT32, 2, shape, NULL};
  const int64_t *k = which == LONG_LIST ? best : few_best;
  smx_tensor of_tokens = {tokens, SMX_INT64, which == FEW ? 1 : 2, which == FEW ? rows : many,
                          NULL};
  smx_tensor found = {out, SMX_FLOAT32, 2, k, NULL}, places = {indices, SMX_INT64, 2, k, NULL};
  switch (which) {
    case FEW:
    case MANY: return smx_sample(&of_x, &of_tokens, NULL);
    case FILTERED: return smx_filtered_softmax(&of_x, &of_out, NULL);
    case NOISE: return smx_gumbel_softmax(&of_x, &of_out, NULL);
    default: return smx_top_k(&of_x, &found, &places, NULL);
  }
}

int main(void) {
  uint64_t seed = 1;
  for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)random_between(&seed, -4, 4);
  smx_set_num_threads(2);
  for (int which = 0; which < CALLS; which++) {
    long allocations, threads;
    DESCRIBE("%s", names[which]);
    CHECK(call(which) == SMX_OK, "%s", smx_last_error());
    preload_begin(0, 0);
    smx_status status = call(which);
    preload_end(&allocations, &threads);
    CHECK(status == SMX_OK && allocations == allocates[which], "%ld allocations", allocations);
    if (!allocates[which]) continue;
    memset(out, 0, sizeof out);
    memset(tokens, 0, sizeof tokens);
    memset(indices, 0, sizeof indices);
    preload_begin(1, 0);
    status = call(which);
    preload_end(&allocations, &threads);
    CHECK(status == SMX_ERROR_MEMORY && strstr(smx_last_error(), "out of memory"), "status %d: %s",
          status, smx_last_error());
    CHECK(memcmp(out, untouched, sizeof out) == 0 &&
              memcmp(tokens, no_tokens, sizeof tokens) == 0 &&
              memcmp(indices, no_tokens, sizeof indices) == 0,
          "an output was written");
  }
  return finish("resources of sampling");
}
