/* Attention: the typed call on plain arrays, and the tensor call on a padded batch.
 *
 * Two sequences share arrays of LENGTH places; the second has only SHORT tokens, which the key
 * lengths say. What lies behind them is never used, and the tokens' results have the same bits as
 * those of a call that has no padding at all.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "swiftmax.h"

enum { BATCH = 2, HEADS = 2, LENGTH = 6, SHORT = 4, SIZE = 8 };

static float query[BATCH][HEADS][LENGTH][SIZE], key[BATCH][1][LENGTH][SIZE],
    value[BATCH][1][LENGTH][SIZE], out[BATCH][HEADS][LENGTH][SIZE], alone[HEADS][SHORT][SIZE];

static void fill(float *x, size_t count, float step) {
  for (size_t i = 0; i < count; i++) x[i] = sinf(step * (float)(i + 1));
}

int main(void) {
  fill(query[0][0][0], sizeof query / sizeof(float), 0.7f);
  fill(key[0][0][0], sizeof key / sizeof(float), 1.3f);
  fill(value[0][0][0], sizeof value / sizeof(float), 0.4f);
  for (int d = 0; d < SIZE; d++) value[1][0][SHORT][d] = NAN;

  /* The second sequence without its padding: causal, two heads of queries and one of keys. A head
   * follows the one before it without a gap, so the queries are copied. */
  float few[HEADS][SHORT][SIZE];
  for (int h = 0; h < HEADS; h++) memcpy(few[h], query[1][h], sizeof few[h]);
  smx_status status = smx_attention_f32(few[0][0], key[1][0][0], value[1][0][0], alone[0][0], 1,
                                        HEADS, 1, SHORT, SHORT, SIZE, SIZE, 1);

  /* Both at once. Strides may be NULL where there are no gaps, but not in a mask. */
  const int64_t rows[4] = {BATCH, HEADS, LENGTH, SIZE}, cache[4] = {BATCH, 1, LENGTH, SIZE};
  const smx_tensor q = {query, SMX_FLOAT32, 4, rows, NULL}, o = {out, SMX_FLOAT32, 4, rows, NULL};
  const smx_tensor k = {key, SMX_FLOAT32, 4, cache, NULL}, v = {value, SMX_FLOAT32, 4, cache, NULL};
  int64_t tokens[BATCH] = {LENGTH, SHORT};
  const int64_t batch[1] = {BATCH}, stride[1] = {sizeof tokens[0]};
  const smx_tensor lengths = {tokens, SMX_INT64, 1, batch, stride};
  const smx_mask rule = {.size = sizeof rule, .causal = 1, .key_lengths = &lengths};
  const smx_attention_options options = {.size = sizeof options, .structure = &rule};
  if (status == SMX_OK) status = smx_attention(&q, &k, &v, &o, &options);
  if (status != SMX_OK) {
    fprintf(stderr, "attention: %s\n", smx_last_error());
    return 1;
  }

  int equal = 1;
  for (int h = 0; h < HEADS; h++) equal &= !memcmp(out[1][h], alone[h], sizeof alone[h]);
  printf("last token of the short sequence, head 0:");
  for (int d = 0; d < SIZE; d++) printf(" %.4f", out[1][0][SHORT - 1][d]);
  printf("\nthe same bits with and without padding: %s\n", equal ? "yes" : "no");
  return !equal;
}
