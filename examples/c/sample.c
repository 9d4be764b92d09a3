/* A token from logits: filters, draws that can be repeated, and the distribution that they
 * follow. */
#include <inttypes.h>
#include <stdio.h>

#include "swiftmax.h"

enum { TOKENS = 8, DRAWS = 100000 };

static int fail(void) {
  fprintf(stderr, "sample: %s\n", smx_last_error());
  return 1;
}

int main(void) {
  const float logits[TOKENS] = {2.5f, 0.5f, 3, -1, 1.5f, 3, -2, 0};
  const int64_t shape[] = {TOKENS}, draws[] = {DRAWS};
  const smx_tensor x = {.data = (void *)logits, .dtype = SMX_FLOAT32, .ndim = 1, .shape = shape};

  /* Numbers for all rows are tensors without axes. */
  double temperature = 0.8, top_p = 0.9;
  int64_t top_k = 5;
  const smx_tensor t = {.data = &temperature, .dtype = SMX_FLOAT64};
  const smx_tensor k = {.data = &top_k, .dtype = SMX_INT64};
  const smx_tensor p = {.data = &top_p, .dtype = SMX_FLOAT64};

  static int64_t tokens[DRAWS];
  const smx_tensor out = {.data = tokens, .dtype = SMX_INT64, .ndim = 1, .shape = draws};
  const smx_sample_options options = {
      .size = sizeof options, .temperature = &t, .top_k = &k, .top_p = &p, .seed = 2026};
  if (smx_sample(&x, &out, &options) != SMX_OK) return fail();

  /* The exact distribution that the draws follow. */
  float probabilities[TOKENS];
  const smx_tensor exact = {.data = probabilities, .dtype = SMX_FLOAT32, .ndim = 1, .shape = shape};
  const smx_filter_options filters = {
      .size = sizeof filters, .temperature = &t, .top_k = &k, .top_p = &p};
  if (smx_filtered_softmax(&x, &exact, &filters) != SMX_OK) return fail();

  int counts[TOKENS] = {0};
  for (int i = 0; i < DRAWS; i++) counts[tokens[i]]++;
  printf("token  logit  probability  share of %d draws\n", DRAWS);
  for (int i = 0; i < TOKENS; i++)
    printf("%5d %6.1f %12.5f %12.5f\n", i, logits[i], probabilities[i], (double)counts[i] / DRAWS);

  /* Step 3 of a sequence of its own number: the same token whenever, wherever and in whatever
   * batch. */
  int64_t sequence = 17, step = 3, token;
  const smx_tensor of_sequence = {.data = &sequence, .dtype = SMX_INT64};
  const smx_tensor of_step = {.data = &step, .dtype = SMX_INT64};
  const smx_tensor one = {.data = &token, .dtype = SMX_INT64};
  smx_sample_options next = options;
  next.counter = &of_sequence;
  next.draw = &of_step;
  if (smx_sample(&x, &one, &next) != SMX_OK) return fail();
  printf("sequence %" PRId64 ", step %" PRId64 ": token %" PRId64 "\n", sequence, step, token);
  return 0;
}
