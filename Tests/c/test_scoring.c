/* Scoring and calibration: results against their definitions, every error with its sentence and
 * untouched outputs, any layout, and guard pages around every operand. */
#include <math.h>
#include <sys/mman.h>
#include <unistd.h>

#include "scoring_errors.h"
/* -- values in any layout ---------------------------------------------------------------------- */

/* log_softmax at one element: -log(1 + sum over the others of exp(x - own)). */
static long double log_prob(const view *v, const int64_t *index, int rank) {
  int64_t at[RANK], *last = &at[rank - 1];
  memcpy(at, index, sizeof(int64_t) * (size_t)rank);
  long double own = load_as(v->tensor.dtype, place_of(&v->tensor, index)), others = 0;
  for (*last = 0; *last < v->shape[rank - 1]; ++*last)
    if (*last != index[rank - 1])
      others += expl(load_as(v->tensor.dtype, place_of(&v->tensor, at)) - own);
  return -log1pl(others);
}

static void fill_numbers(const view *v, uint64_t *random, double spread) {
  int64_t index[RANK];
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    store_as(v->tensor.dtype, place_of(&v->tensor, index), random_between(random, -spread, spread));
  }
}

static void fill_integers(const view *v, uint64_t *random, int64_t most) {
  int64_t index[RANK];
  for (int64_t i = 0; i < v->count; i++) {
    unravel(i, v->tensor.ndim, v->shape, index);
    store_as(v->tensor.dtype, place_of(&v->tensor, index), (double)random_below(random, most));
  }
}

static void check_sequence(uint64_t seed) {
  uint64_t random = seed;
  smx_dtype dtype = float_dtypes[random_below(&random, 4)];
  int64_t shape[] = {1 + random_below(&random, 3), 1 + random_below(&random, 5),
                     1 + random_below(&random, 70)};
  view x, t, out, each;
  view_make(&x, dtype, 3, shape, seed, 1);
  view_make(&t, seed % 2 ? SMX_INT32 : SMX_INT64, 2, shape, seed * 3 + 1, 1);
  view_make(&out, SMX_FLOAT64, 1, shape, seed * 5 + 1, 0);
  view_make(&each, dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32, 2, shape, seed * 7 + 1, 0);
  char text[256];
  DESCRIBE("sequence, seed %" PRIu64 ", %s, logits %s", seed, name_of(dtype),
           view_text(&x, text, sizeof text));
  fill_numbers(&x, &random, 20);
  fill_integers(&t, &random, shape[2]);
  smx_sequence_options o = {.size = sizeof o, .token_log_probs = &each.tensor};
  smx_set_num_threads(1 + (int32_t)(seed % 3));
  CHECK(smx_sequence_log_prob(&x.tensor, &t.tensor, &out.tensor, &o) == SMX_OK, "%s",
        smx_last_error());
  for (int64_t b = 0; b < shape[0]; b++) {
    double sum = 0;
    for (int64_t i = 0; i < shape[1]; i++) {
      int64_t index[] = {b, i, 0};
      index[2] = (int64_t)load_as(t.tensor.dtype, place_of(&t.tensor, index));
      long double exact = log_prob(&x, index, 3);
      double got = load_as(each.tensor.dtype, place_of(&each.tensor, index));
      CHECK(fabsl(got - exact) <= 2.01L * ulp_of(each.tensor.dtype, (double)exact),
            "token %" PRId64 ": %a, not %La", i, got, exact);
      sum += got;
    }
    double got = load_as(SMX_FLOAT64, place_of(&out.tensor, &b));
    CHECK(got == sum, "sequence %" PRId64 ": %a, not %a", b, got, sum);
  }
  CHECK(bytes_spoilt(&out) == 0 && bytes_spoilt(&each) == 0, "bytes beside an output were written");
  view_free(&x), view_free(&t), view_free(&out), view_free(&each);
}

static void check_sigmoid(uint64_t seed) {
  uint64_t random = seed;
  smx_dtype dtype = float_dtypes[2 + random_below(&random, 2)];
  int64_t shape[] = {1 + random_below(&random, 4), 1 + random_below(&random, 40),
                     1 + random_below(&random, 9)};
  view x, out;
  view_make(&x, dtype, 3, shape, seed, 1);
  view_make(&out, dtype, 3, shape, seed * 5 + 1, 0);
  char text[256];
  DESCRIBE("sigmoid, seed %" PRIu64 ", %s, x %s", seed, name_of(dtype),
           view_text(&x, text, sizeof text));
  fill_numbers(&x, &random, dtype == SMX_FLOAT32 ? 110 : 750);
  for (int is_log = 0; is_log < 2; is_log++) {
    smx_status status = (is_log ? smx_log_sigmoid : smx_sigmoid)(&x.tensor, &out.tensor);
    CHECK(status == SMX_OK, "%s", smx_last_error());
    for (int64_t i = 0; i < x.count; i++) {
      int64_t index[RANK];
      unravel(i, 3, shape, index);
      long double v = load_as(dtype, place_of(&x.tensor, index));
      long double exact = is_log ? (v < 0 ? v : 0) - log1pl(expl(-fabsl(v)))
                          : v < 0 ? expl(v) / (1 + expl(v)) : 1 / (1 + expl(-v));
      double got = load_as(dtype, place_of(&out.tensor, index));
      CHECK(fabsl(got - exact) <= 2.01L * ulp_of(dtype, (double)exact), "%s of %La: %a, not %La",
            is_log ? "logarithm" : "value", v, got, exact);
    }
    CHECK(bytes_spoilt(&out) == 0, "bytes beside out were written");
  }
  view_free(&x), view_free(&out);
}

static void check_ranking(uint64_t seed) {
  uint64_t random = seed;
  int64_t items = 1 + random_below(&random, 30), places = random_below(&random, items + 1);
  int64_t shape[] = {3, items}, ranked[] = {3, places};
  view x, r, out;
  view_make(&x, float_dtypes[random_below(&random, 4)], 2, shape, seed, 1);
  view_make(&r, seed % 2 ? SMX_INT32 : SMX_INT64, 2, ranked, seed * 3 + 1, 0);
  view_make(&out, SMX_FLOAT64, 1, shape, seed * 5 + 1, 0);
  DESCRIBE("ranking, seed %" PRIu64 ", %" PRId64 " of %" PRId64, seed, places, items);
  fill_numbers(&x, &random, 15);
  for (int64_t row = 0; row < 3; row++) {
    for (int64_t i = 0; i < places; i++) {
      int64_t place[] = {row, i};
      /* Every second item from a random one on, as far as they go, then the others. */
      store_as(r.tensor.dtype, place_of(&r.tensor, place), (double)((i + row * 7) % items));
    }
  }
  CHECK(smx_plackett_luce_log_prob(&x.tensor, &r.tensor, &out.tensor, NULL) == SMX_OK, "%s",
        smx_last_error());
  for (int64_t row = 0; row < 3; row++) {
    long double exact = 0;
    for (int64_t i = 0; i < places; i++) {
      /* -log(1 + the sum of exp(other - own)): no cancellation, so that a long double of 64 bits
       * (valgrind) will do. */
      int64_t own_place[] = {row, (i + row * 7) % items};
      long double sum = 0, own = load_as(x.tensor.dtype, place_of(&x.tensor, own_place));
      for (int64_t j = i + 1; j < items; j++) {
        int64_t place[] = {row, (j + row * 7) % items};
        sum += expl(load_as(x.tensor.dtype, place_of(&x.tensor, place)) - own);
      }
      exact -= log1pl(sum);
    }
    double got = load_as(SMX_FLOAT64, place_of(&out.tensor, &row));
    CHECK(fabsl(got - exact) <= (items + 4) * 0x1p-52L * fabsl(exact) + 0x1p-58L,
          "row %" PRId64 ": %a, not %La", row, got, exact);
  }
  CHECK(bytes_spoilt(&out) == 0, "bytes beside out were written");
  view_free(&x), view_free(&r), view_free(&out);
}

/* Two thirds right at (z, 0): the best p is 2/3, so T = z / log 2. */
static void check_fit(void) {
  DESCRIBE("fit_temperature of three rows");
  float x[] = {5, 0, 5, 0, 5, 0};
  int32_t y[] = {0, 0, 1};
  smx_tensor t = of(x, SMX_FLOAT32, 2, (const int64_t[]){3, 2}),
             labels = of(y, SMX_INT32, 1, shape3);
  double edges[5], confidences[4], accuracies[4];
  int64_t counts[4];
  smx_calibration plain = {.size = sizeof plain};
  smx_temperature_fit fit = {.size = sizeof fit, .before = plain, .after = plain};
  fit.after.edges = edges, fit.after.counts = counts;
  fit.after.confidences = confidences, fit.after.accuracies = accuracies;
  smx_fit_options o = {.size = sizeof o, .bins = 4};
  CHECK(smx_fit_temperature(&t, &labels, &o, &fit) == SMX_OK, "%s", smx_last_error());
  CHECK(fabs(fit.temperature - 5 / log(2)) < 1e-11 && fit.bound == 0, "T is %a", fit.temperature);
  CHECK(fabs(fit.after.loss - (log(3) - 2 * log(2) / 3)) < 1e-14, "loss is %a", fit.after.loss);
  CHECK(fit.after.expected_error < 1e-12 &&
            fabs(fit.before.expected_error - (1 / (1 + exp(-5)) - 2.0 / 3)) < 1e-14,
        "errors are %a and %a", fit.before.expected_error, fit.after.expected_error);
  CHECK(edges[1] == 0.25 && edges[4] == 1 && counts[2] == 3 &&
            fabs(confidences[2] - 2.0 / 3) < 1e-12 && accuracies[2] == 2.0 / 3 && counts[3] == 0 &&
            confidences[3] == 0 && accuracies[3] == 0,
        "the diagram");
  CHECK(fit.after.accuracy == 2.0 / 3, "accuracy is %a", fit.after.accuracy);
  smx_calibration result = {.size = sizeof result};
  CHECK(
      smx_calibration_error(&t, &labels, NULL, &result) == SMX_OK && result.loss == fit.before.loss,
      "calibration_error at T = 1 differs from the fit's");
}

/* -- guard pages ------------------------------------------------------------------------------- */

/* `bytes` that end, or begin, at a page that may not be touched; inputs may not be written. */
static void *guarded(const void *from, size_t bytes, int at_end, int is_input) {
  size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (bytes + page - 1) / page * page + page;
  unsigned char *p = mmap(NULL, room + page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED || mprotect(p + page, room - page, PROT_READ | PROT_WRITE) != 0) abort();
  unsigned char *start = at_end ? p + room - bytes : p + page;
  if (from) memcpy(start, from, bytes);
  if (is_input && mprotect(p + page, room - page, PROT_READ) != 0) abort();
  return start;
}

static void check_guards(int64_t cols, smx_dtype dtype, int at_end) {
  enum { ROWS = 3 };
  DESCRIBE("guard pages, %s, %" PRId64 " columns", name_of(dtype), cols);
  size_t bytes = (size_t)(ROWS * cols) * size_of(dtype);
  unsigned char *numbers = malloc(bytes);
  uint64_t random = (uint64_t)cols;
  for (int64_t i = 0; i < ROWS * cols; i++)
    store_as(dtype, numbers + (size_t)i * size_of(dtype), random_between(&random, -9, 9));
  int64_t shape[] = {ROWS, cols}, picks[ROWS], order[ROWS][2];
  for (int i = 0; i < ROWS; i++) {
    picks[i] = cols - 1 - i % cols;
    order[i][0] = cols - 1;
    order[i][1] = 0;
  }
  smx_tensor x = of(guarded(numbers, bytes, at_end, 1), dtype, 2, shape);
  smx_tensor y = of(guarded(picks, sizeof picks, at_end, 1), SMX_INT64, 1, shape);
  smx_tensor r =
      of(guarded(order, sizeof order, at_end, 1), SMX_INT64, 2, (const int64_t[]){ROWS, 2});
  smx_tensor same = of(guarded(NULL, bytes, at_end, 0), dtype, 2, shape);
  smx_tensor sums = of(guarded(NULL, ROWS * 8, at_end, 0), SMX_FLOAT64, 1, shape);
  smx_tensor one = of(guarded(NULL, 8, at_end, 0), SMX_FLOAT64, 0, NULL);
  smx_calibration result = {.size = sizeof result};
  smx_temperature_fit fit = {.size = sizeof fit, .before = result, .after = result};
  fit.after.edges = guarded(NULL, 16 * 8, at_end, 0);
  fit.after.counts = guarded(NULL, 15 * 8, at_end, 0);
  CHECK(smx_sigmoid(&x, &same) == SMX_OK && smx_log_sigmoid(&x, &same) == SMX_OK, "%s",
        smx_last_error());
  CHECK(smx_sequence_log_prob(&x, &y, &one, NULL) == SMX_OK, "%s", smx_last_error());
  if (cols > 1)
    CHECK(smx_plackett_luce_log_prob(&x, &r, &sums, NULL) == SMX_OK, "%s", smx_last_error());
  CHECK(smx_fit_temperature(&x, &y, NULL, &fit) == SMX_OK, "%s", smx_last_error());
  free(numbers);
}

int main(void) {
  reset();
  check_sigmoid_errors();
  check_sequence_errors();
  check_ranking_errors();
  check_calibration_errors();
  for (uint64_t seed = 1; seed <= (is_light() ? 20 : 150); seed++) {
    check_sequence(seed);
    check_sigmoid(seed);
    check_ranking(seed);
  }
  check_fit();
  static const int64_t widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 33, 100, 4095, 4096, 4097, 8200};
  for (size_t i = 0; i < sizeof widths / sizeof *widths; i++)
    for (int d = 0; d < 4; d++)
      for (int at_end = 0; at_end < 2; at_end++) check_guards(widths[i], float_dtypes[d], at_end);
  return finish("test_scoring");
}
