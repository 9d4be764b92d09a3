/* Every error of sigmoid, of log-probabilities of sequences and rankings, and of calibration: of
 * test_scoring.c. */
#ifndef SCORING_ERRORS_H
#define SCORING_ERRORS_H

#include "view.h"

enum { BYTES = 4096 };
static unsigned char out_bytes[BYTES], each_bytes[BYTES];

static void reset(void) {
  memset(out_bytes, CANARY, BYTES);
  memset(each_bytes, CANARY, BYTES);
}

static void expect(const char *place, smx_status got, smx_status want, const char *const *words) {
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d, not %d: %s", got, want, sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  int is_touched = 0;
  for (int i = 0; i < BYTES; i++) is_touched |= out_bytes[i] != CANARY || each_bytes[i] != CANARY;
  check(!is_touched, place, "an output was written: %s", sentence);
  reset();
}

#define EXPECT(call, want, ...) \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), call, want, (const char *const[]){__VA_ARGS__, NULL})
/* A call with something changed, which is put back. */
#define BAD(what, change, call, want, ...) \
  do {                                     \
    __typeof__(what) good = what;          \
    change;                                \
    EXPECT(call, want, __VA_ARGS__);       \
    what = good;                           \
  } while (0)

static const int64_t shape234[] = {2, 3, 4}, shape23[] = {2, 3}, shape2[] = {2}, shape3[] = {3};
static float logits[24];
static double wide[24];
static int64_t tokens[6];
static int32_t lengths[2] = {3, 1};

static smx_tensor of(void *data, smx_dtype dtype, int ndim, const int64_t *shape) {
  return (smx_tensor){data, dtype, ndim, shape, NULL};
}

static void check_sigmoid_errors(void) {
  DESCRIBE("sigmoid");
  smx_tensor x = of(logits, SMX_FLOAT32, 2, shape23), out = of(out_bytes, SMX_FLOAT32, 2, shape23);
  EXPECT(smx_sigmoid(NULL, &out), SMX_ERROR_NULL, "x is NULL");
  EXPECT(smx_log_sigmoid(&x, NULL), SMX_ERROR_NULL, "out is NULL");
  BAD(x, x.data = NULL, smx_sigmoid(&x, &out), SMX_ERROR_NULL, "x.data");
  BAD(x, x.dtype = SMX_INT64, smx_sigmoid(&x, &out), SMX_ERROR_DTYPE, "x has dtype int64");
  BAD(out, out.dtype = SMX_FLOAT64, smx_sigmoid(&x, &out), SMX_ERROR_DTYPE, "out", "float32");
  BAD(out, out.shape = shape2;
      out.ndim = 1, smx_sigmoid(&x, &out), SMX_ERROR_SHAPE, "(2,)", "(2, 3)");
  int64_t zero[] = {0, 4};
  BAD(out, out.strides = zero, smx_sigmoid(&x, &out), SMX_ERROR_OVERLAP, "stride 0");
  smx_tensor shifted = of(out_bytes + 4, SMX_FLOAT32, 2, shape23);
  EXPECT(smx_log_sigmoid(&shifted, &out), SMX_ERROR_OVERLAP, "overlaps");
}

static void check_sequence_errors(void) {
  DESCRIBE("sequence_log_prob");
  smx_tensor x = of(logits, SMX_FLOAT32, 3, shape234), t = of(tokens, SMX_INT64, 2, shape23);
  smx_tensor out = of(out_bytes, SMX_FLOAT64, 1, shape2),
             each = of(each_bytes, SMX_FLOAT32, 2, shape23);
  smx_tensor ends = of(lengths, SMX_INT32, 1, shape2);
  double cold = -1;
  smx_tensor temperature = {.data = &cold, .dtype = SMX_FLOAT64};
  smx_tensor mask = of(tokens, SMX_BOOL, 1, shape3);
  smx_sequence_options o = {.size = sizeof o, .lengths = &ends, .token_log_probs = &each};
#define CALL smx_sequence_log_prob(&x, &t, &out, &o)
  EXPECT(smx_sequence_log_prob(NULL, &t, &out, &o), SMX_ERROR_NULL, "logits is NULL");
  EXPECT(smx_sequence_log_prob(&x, NULL, &out, &o), SMX_ERROR_NULL, "tokens is NULL");
  EXPECT(smx_sequence_log_prob(&x, &t, NULL, &o), SMX_ERROR_NULL, "out is NULL");
  BAD(o, o.size = 8, CALL, SMX_ERROR_SIZE, "options.size is 8");
  BAD(x, x.dtype = SMX_INT32, CALL, SMX_ERROR_DTYPE, "logits", "int32");
  BAD(x, (x.ndim = 1, x.shape = shape3), CALL, SMX_ERROR_SHAPE, "logits must have at least 2 axes",
      "(3,)");
  BAD(t, t.dtype = SMX_FLOAT64, CALL, SMX_ERROR_DTYPE, "tokens", "int64");
  BAD(t, (t.ndim = 1, t.shape = shape2), CALL, SMX_ERROR_SHAPE, "tokens of shape (2,)",
      "(2, 3, 4)");
  BAD(out, out.dtype = SMX_FLOAT32, CALL, SMX_ERROR_DTYPE, "out", "float64");
  BAD(out, out.shape = shape3, CALL, SMX_ERROR_SHAPE, "out of shape (3,)", "(2, 3, 4)");
  BAD(ends, ends.shape = shape3, CALL, SMX_ERROR_SHAPE, "lengths of shape (3,)");
  BAD(ends, ends.dtype = SMX_BOOL, CALL, SMX_ERROR_DTYPE, "lengths", "bool");
  BAD(each, each.dtype = SMX_FLOAT64, CALL, SMX_ERROR_DTYPE, "token_log_probs", "float32");
  BAD(each, (each.ndim = 1, each.shape = shape2), CALL, SMX_ERROR_SHAPE, "token_log_probs");
  BAD(each, each.data = out_bytes + 8, CALL, SMX_ERROR_OVERLAP, "token_log_probs", "out");
  BAD(x, (x.data = each_bytes), CALL, SMX_ERROR_OVERLAP, "token_log_probs", "logits");
  BAD(t, (t.data = out_bytes), CALL, SMX_ERROR_OVERLAP, "out", "tokens");
  BAD(o, o.temperature = &temperature, CALL, SMX_ERROR_VALUE, "temperature");
  BAD(o, o.mask = &mask, CALL, SMX_ERROR_SHAPE, "mask of shape (3,)");
  BAD(lengths[1], lengths[1] = 4, CALL, SMX_ERROR_VALUE, "lengths[1] is 4", "0 to 3");
  BAD(lengths[0], lengths[0] = -1, CALL, SMX_ERROR_VALUE, "lengths[0] is -1");
  BAD(tokens[2], tokens[2] = 4, CALL, SMX_ERROR_VALUE, "tokens[0, 2] is 4", "(2, 3, 4)", "0 to 3");
  BAD(tokens[3], tokens[3] = INT64_MIN, CALL, SMX_ERROR_VALUE,
      "tokens[1, 0] is -9223372036854775808");
  /* Behind the length nothing is looked at. */
  tokens[5] = 77;
  logits[23] = NAN;
  CHECK(CALL == SMX_OK, "%s", smx_last_error());
  double sums[2];
  memcpy(sums, out_bytes, sizeof sums);
  CHECK(fabs(sums[0] - 3 * log(0.25)) < 1e-6 && fabs(sums[1] - log(0.25)) < 1e-6, "sums %g and %g",
        sums[0], sums[1]);
  tokens[5] = 0;
  logits[23] = 0;
  reset();
#undef CALL
}

static void check_ranking_errors(void) {
  DESCRIBE("plackett_luce_log_prob");
  int32_t ranking[6] = {0, 2, 1, 3, 0, 1};
  smx_tensor x = of(logits, SMX_FLOAT32, 2, (const int64_t[]){2, 4}),
             r = of(ranking, SMX_INT32, 2, shape23);
  smx_tensor out = of(out_bytes, SMX_FLOAT64, 1, shape2);
#define CALL smx_plackett_luce_log_prob(&x, &r, &out, NULL)
  EXPECT(smx_plackett_luce_log_prob(NULL, &r, &out, NULL), SMX_ERROR_NULL, "scores is NULL");
  EXPECT(smx_plackett_luce_log_prob(&x, NULL, &out, NULL), SMX_ERROR_NULL, "ranking is NULL");
  EXPECT(smx_plackett_luce_log_prob(&x, &r, NULL, NULL), SMX_ERROR_NULL, "out is NULL");
  BAD(x, x.dtype = SMX_BOOL, CALL, SMX_ERROR_DTYPE, "scores");
  BAD(r, r.dtype = SMX_FLOAT32, CALL, SMX_ERROR_DTYPE, "ranking");
  BAD(x, x.ndim = 0, CALL, SMX_ERROR_SHAPE, "scores must have at least 1 axis");
  BAD(x, (x.shape = (const int64_t[]){2, 2}), CALL, SMX_ERROR_SHAPE, "ranking", "more places",
      "(2, 2)");
  BAD(x, (x.shape = (const int64_t[]){3, 4}), CALL, SMX_ERROR_SHAPE, "leading axes", "(3, 4)");
  BAD(out, out.dtype = SMX_FLOAT32, CALL, SMX_ERROR_DTYPE, "float64");
  BAD(out, out.shape = shape3, CALL, SMX_ERROR_SHAPE, "(3,)");
  BAD(x, x.data = out_bytes, CALL, SMX_ERROR_OVERLAP, "out", "scores");
  BAD(ranking[4], ranking[4] = 4, CALL, SMX_ERROR_VALUE, "ranking[1, 1] is 4", "0 to 3");
  BAD(ranking[4], ranking[4] = -1, CALL, SMX_ERROR_VALUE, "ranking[1, 1] is -1");
  BAD(ranking[5], ranking[5] = 3, CALL, SMX_ERROR_VALUE, "ranking[1, 2] is 3", "before");
#undef CALL
}

static void check_calibration_errors(void) {
  DESCRIBE("calibration");
  int64_t labels[] = {1, 2};
  smx_tensor x = of(wide, SMX_FLOAT64, 2, (const int64_t[]){2, 4}),
             y = of(labels, SMX_INT64, 1, shape2);
  smx_calibration_options o = {.size = sizeof o};
  smx_fit_options f = {.size = sizeof f};
  smx_calibration result = {.size = sizeof result,
                            .edges = (double *)(void *)out_bytes,
                            .counts = (int64_t *)(void *)(out_bytes + 512),
                            .confidences = (double *)(void *)each_bytes,
                            .accuracies = (double *)(void *)(each_bytes + 512),
                            .loss = 7};
  smx_temperature_fit fit = {
      .size = sizeof fit, .before = result, .after = result, .temperature = 7};
#define ERROR smx_calibration_error(&x, &y, &o, &result)
#define FIT smx_fit_temperature(&x, &y, &f, &fit)
  EXPECT(smx_calibration_error(NULL, &y, &o, &result), SMX_ERROR_NULL, "logits is NULL");
  EXPECT(smx_calibration_error(&x, NULL, &o, &result), SMX_ERROR_NULL, "labels is NULL");
  EXPECT(smx_calibration_error(&x, &y, &o, NULL), SMX_ERROR_NULL, "result is NULL");
  EXPECT(smx_fit_temperature(&x, &y, &f, NULL), SMX_ERROR_NULL, "result is NULL");
  BAD(o, o.size++, ERROR, SMX_ERROR_SIZE, "options.size");
  BAD(f, f.size++, FIT, SMX_ERROR_SIZE, "options.size");
  BAD(result, result.size++, ERROR, SMX_ERROR_SIZE, "result.size");
  BAD(fit, fit.size++, FIT, SMX_ERROR_SIZE, "result.size");
  BAD(fit, fit.before.size = 0, FIT, SMX_ERROR_SIZE, "result.before.size");
  BAD(fit, fit.after.size = 0, FIT, SMX_ERROR_SIZE, "result.after.size");
  BAD(o, o.bins = -1, ERROR, SMX_ERROR_VALUE, "bins", "-1");
  BAD(f, f.bins = (1 << 20) + 1, FIT, SMX_ERROR_VALUE, "bins", "1048577");
  BAD(o, o.temperature = -1, ERROR, SMX_ERROR_VALUE, "temperature");
  BAD(o, o.temperature = NAN, ERROR, SMX_ERROR_VALUE, "temperature");
  BAD(o, (o.temperature = 2, o.probabilities = 1), ERROR, SMX_ERROR_VALUE, "probabilities");
  BAD(f, f.lowest = -1, FIT, SMX_ERROR_VALUE, "lowest");
  BAD(f, f.highest = INFINITY, FIT, SMX_ERROR_VALUE, "highest");
  BAD(f, (f.lowest = 2, f.highest = 1), FIT, SMX_ERROR_VALUE, "lowest");
  BAD(x, x.dtype = SMX_INT32, FIT, SMX_ERROR_DTYPE, "logits");
  BAD(y, y.dtype = SMX_FLOAT64, FIT, SMX_ERROR_DTYPE, "labels");
  BAD(y, y.shape = shape3, FIT, SMX_ERROR_SHAPE, "labels of shape (3,)", "(2, 4)");
  BAD(x, (x.shape = (const int64_t[]){2, 0}), ERROR, SMX_ERROR_SHAPE, "no row");
  BAD(labels[1], labels[1] = 4, FIT, SMX_ERROR_VALUE, "labels[1] is 4", "0 to 3");
  BAD(labels[0], labels[0] = -1, ERROR, SMX_ERROR_VALUE, "labels[0] is -1");
  BAD(wide[5], wide[5] = NAN, FIT, SMX_ERROR_VALUE, "logits[1]", "NaN");
  BAD(wide[5], wide[5] = INFINITY, ERROR, SMX_ERROR_VALUE, "logits[1]");
  BAD(wide[6], wide[6] = -INFINITY, FIT, SMX_ERROR_VALUE, "logits[1]", "label 2");
  CHECK(result.loss == 7 && fit.temperature == 7 && fit.before.loss == 7 && fit.after.loss == 7,
        "a result was written");
#undef ERROR
#undef FIT
}

#endif
