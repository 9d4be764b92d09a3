/* The tensor call: any rank, any strides, a boolean mask and a causal structure together.
 *
 * Scores of two sequences, (batch, query, key). The second sequence has only three keys: the
 * boolean mask, one row per sequence, excludes the fourth. A query sees no key after itself: the
 * structure says so without an array.
 */
#include <stdbool.h>
#include <stdio.h>

#include "swiftmax.h"

enum { BATCH = 2, QUERIES = 4, KEYS = 4 };

int main(void) {
  float scores[BATCH][QUERIES][KEYS], weights[BATCH][QUERIES][KEYS];
  for (int b = 0; b < BATCH; b++)
    for (int q = 0; q < QUERIES; q++)
      for (int k = 0; k < KEYS; k++) scores[b][q][k] = (float)(k - q) * (b ? 0.5f : 1.0f);

  /* Strides are in bytes. */
  const int64_t shape[3] = {BATCH, QUERIES, KEYS};
  const int64_t strides[3] = {sizeof scores[0], sizeof scores[0][0], sizeof scores[0][0][0]};
  const smx_tensor x = {scores, SMX_FLOAT32, 3, shape, strides};
  const smx_tensor out = {weights, SMX_FLOAT32, 3, shape, strides};

  /* (batch, 1, key): the axis of length 1 is repeated for every query. True = take part. */
  bool present[BATCH][1][KEYS] = {{{true, true, true, true}}, {{true, true, true, false}}};
  const int64_t mask_shape[3] = {BATCH, 1, KEYS};
  const int64_t mask_strides[3] = {sizeof present[0], sizeof present[0][0], sizeof(bool)};
  const smx_tensor mask = {present, SMX_BOOL, 3, mask_shape, mask_strides};

  const smx_mask causal = {.size = sizeof causal, .causal = 1};
  const smx_softmax_options options = {.size = sizeof options, .mask = &mask, .structure = &causal};

  if (smx_softmax(&x, &out, &options) != SMX_OK) {
    fprintf(stderr, "masked_tensor: %s\n", smx_last_error());
    return 1;
  }
  for (int b = 0; b < BATCH; b++) {
    printf("sequence %d\n", b);
    for (int q = 0; q < QUERIES; q++) {
      for (int k = 0; k < KEYS; k++) printf(" %.4f", weights[b][q][k]);
      printf("\n");
    }
  }
  return 0;
}
