/* The common case: softmax of the rows of a plain array, and what an error looks like. */
#include <inttypes.h>
#include <stdio.h>

#include "swiftmax.h"

enum { ROWS = 3, COLS = 3 };

int main(void) {
  /* The second row would overflow exp on its own; the third has a tie. */
  const float logits[ROWS][COLS] = {{2, 1, 0}, {1000, 1001, 999}, {3, -1, 3}};
  float probabilities[ROWS][COLS];

  smx_status status = smx_softmax_f32(logits[0], probabilities[0], ROWS, COLS);
  if (status != SMX_OK) {
    fprintf(stderr, "softmax_rows: %s\n", smx_last_error());
    return 1;
  }
  for (int row = 0; row < ROWS; row++) {
    for (int col = 0; col < COLS; col++) printf(" %.6f", probabilities[row][col]);
    printf("\n");
  }

  /* In place: the output may be the input. log_softmax keeps what softmax would round to 1. */
  float pair[2] = {0, -20};
  status = smx_log_softmax_f32(pair, pair, 1, 2);
  if (status != SMX_OK) return 1;
  printf("log_softmax([0, -20]) = [%.7e, %.7e]\n", pair[0], pair[1]);

  /* Every call returns a status; the sentence says what was wrong, and nothing was written. */
  status = smx_softmax_f32(logits[0], probabilities[0], -1, COLS);
  printf("status %" PRId32 " (%s): %s\n", status, smx_status_string(status), smx_last_error());
  return status == SMX_OK;
}
