/* Attention against a slow reference in 113 bits, over random shapes, dtypes, layouts, strides and
 * options ("fuzzed shapes"); then the special values that swiftmax.h speaks of. */
#include "attention_random.h"
#include "attention_reference.h"

enum { ABOUT_OUT, ABOUT_LSE, ABOUT_WEIGHTS, ABOUT_OPEN, KINDS };
static double worst[KINDS][4]; /* share of the bound, by dtype */
static int64_t compared, calls;

/* One number of a result. The narrow dtypes are rounded once more, at the end. */
static int check_number(const char *what, int kind, smx_dtype dtype, double got, wide exact,
                        double error, int64_t at) {
  double nearest = (double)exact;
  compared++;
  if (isnan(nearest) || isinf(nearest)) {
    /* The one positive quiet NaN. */
    int ok = isnan(nearest) ? isnan(got) && !signbit(got) : got == nearest;
    return ok || CHECK(0, "%s %" PRId64 " is %a, not %a", what, at, got, nearest);
  }
  if (exact == 0 && signbit(got)) return CHECK(0, "%s %" PRId64 " is -0", what, at);
  double bound = error;
  if (dtype < SMX_FLOAT32) {
    bound += ulp_of(dtype, fabs(nearest) + error) / 2;
    /* On either side of the largest number is next to it. */
    if (isinf(got) && isinf(rounded_to(dtype, nearest + copysign(error, nearest)))) return 1;
  }
  double distance = (double)size_of_wide((wide)got - exact);
  double share = bound > 0 ? distance / bound : distance > 0 ? INFINITY : 0;
  double *most = &worst[kind][dtype - SMX_FLOAT16];
  if (isfinite(share) && share > *most) *most = share;
  return share <= 1 || CHECK(0, "%s %" PRId64 " is %a, not %a: off by %g, at most %g", what, at,
                             got, nearest, distance, bound);
}

/* The results of one call, in the problem's order. */
typedef struct results {
  unsigned char *out, *lse, *weights;
} results;

static void check_query(const call *c, const results *got, int64_t row, answer *a) {
  const problem *p = c->problem;
  smx_dtype single = p->dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  size_t size = size_of(p->dtype);
  int64_t i = row % p->queries, h = row / p->queries % p->heads;
  int ok = 1;
  answer_query(p, row / p->queries / p->heads, h, i, a);
  int open = a->is_open ? ABOUT_OPEN : 0;
  for (int64_t k = 0; k < p->value_size && ok; k++) {
    int64_t at = row * p->value_size + k;
    double v = load_as(p->dtype, got->out + (size_t)at * size);
    if (a->may_be_nan[k]) continue;
    ok = check_number("out", open ? open : ABOUT_OUT, p->dtype, v, a->out[k], a->out_error[k], at);
  }
  if (c->choice.lse && ok) {
    double v = load_as(single, got->lse + (size_t)row * size_of(single));
    ok = check_number("lse", open ? open : ABOUT_LSE, single, v, a->lse, a->lse_error, row);
  }
  for (int64_t j = 0; j < p->keys && c->choice.weights && ok; j++) {
    int64_t at = row * p->keys + j;
    double v = load_as(p->dtype, got->weights + (size_t)at * size);
    /* In a row of NaN a score of -inf keeps its weight, 0 (contract S7). */
    if (isnan((double)a->weights[j]) && a->visible[j] == 2 && v == 0) continue;
    ok = check_number("weight", open ? open : ABOUT_WEIGHTS, p->dtype, v, a->weights[j],
                      a->weights_error[j], at);
    if (ok && !a->visible[j]) ok = v == 0 || CHECK(0, "weight of hidden key %" PRId64, j);
  }
  if (ok) CHECK(1, "row");
}

static void check_call(call *c, const char *how) {
  const problem *p = c->problem;
  size_t rows = (size_t)(p->batch * p->heads * p->queries), keys = (size_t)p->keys + 1;
  size_t columns = (size_t)p->value_size + 1;
  results got = {malloc(rows * columns * 8 + 8), malloc(rows * 8 + 8), malloc(rows * keys * 8 + 8)};
  answer a = {malloc(columns * sizeof(wide)),
              malloc(keys * sizeof(wide)),
              0,
              malloc(columns * 8),
              malloc(keys * 8),
              0,
              malloc(keys * sizeof(int)),
              malloc(columns * sizeof(int)),
              0};
  if (!got.out || !got.lse || !got.weights || !a.out || !a.weights || !a.out_error ||
      !a.weights_error || !a.visible || !a.may_be_nan)
    abort();
  call_describe(c, how);
  smx_status status = call_run(c);
  calls++;
  if (CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error())) {
    call_read(c, OUT, got.out);
    CHECK(bytes_spoilt(&c->views[OUT]) == 0, "bytes beside out were written");
    if (c->choice.lse) call_read(c, LSE, got.lse);
    if (c->choice.lse) CHECK(bytes_spoilt(&c->views[LSE]) == 0, "bytes beside lse");
    if (c->choice.weights) call_read(c, WEIGHTS, got.weights);
    if (c->choice.weights) CHECK(bytes_spoilt(&c->views[WEIGHTS]) == 0, "bytes beside weights");
    for (size_t row = 0; row < rows; row++) check_query(c, &got, (int64_t)row, &a);
  }
  free(got.out), free(got.lse), free(got.weights), free(a.out), free(a.weights);
  free(a.out_error), free(a.weights_error), free(a.visible), free(a.may_be_nan);
}

static void check_seed(uint64_t seed, double most, int64_t longest) {
  static problem p;
  static call c;
  problem_make(&p, seed, most, longest, 0);
  call_make(&c, &p, random_choice(&p, seed));
  check_call(&c, "random");
  call_free(&c);
  problem_free(&p);
}

/* -- special values, written out ------------------------------------------------------------------
 */

/* Nothing to sum, nothing to multiply, nothing to write: all valid. */
static void check_empty(smx_dtype dtype) {
  static const int64_t shapes[][7] = {
      {2, 4, 2, 3, 0, 5, 6}, {2, 4, 2, 3, 7, 0, 6}, {2, 4, 2, 3, 7, 5, 0}, {2, 4, 2, 0, 7, 5, 6},
      {0, 4, 2, 3, 7, 5, 6}, {2, 0, 2, 3, 7, 5, 6}, {2, 0, 0, 3, 7, 5, 6}, {1, 1, 1, 1, 0, 0, 0}};
  for (int k = 0; k < 16; k++) {
    static problem p;
    static call c;
    const int64_t *s = shapes[k % 8];
    problem_plain(&p, dtype, s[0], s[1], s[2], s[3], s[4], s[5], s[6]);
    if (k >= 8) {
      grid_make(&p.grids[SINKS], 1, 1, s[1], 1, 1);
      for (int64_t h = 0; h < s[1]; h++) p.grids[SINKS].numbers[h] = (double)h - 1.5;
    }
    call_make(&c, &p, (choice){.past = -1, .lse = 1, .weights = 1});
    check_call(&c, "empty");
    call_free(&c);
    problem_free(&p);
  }
}

/* One query, two keys of head size 1, values 1 and 2: scores are written as query and keys. */
static void check_pair(const char *what, smx_dtype dtype, double query, const double *keys,
                       const double *bias, double softcap, double out, double lse) {
  static problem p;
  static call c;
  unsigned char got[8], log[8];
  problem_plain(&p, dtype, 1, 1, 1, 1, 2, 1, 1);
  p.has_scale = 1, p.scale = 1, p.softcap = softcap;
  p.grids[QUERY].numbers[0] = query;
  for (int k = 0; k < 2; k++) {
    p.grids[KEY].numbers[k] = keys[k];
    p.grids[VALUE].numbers[k] = k + 1;
  }
  if (bias) {
    grid_make(&p.grids[BIAS], 4, 1, 1, 1, 2);
    memcpy(p.grids[BIAS].numbers, bias, 2 * sizeof *bias);
  }
  call_make(&c, &p, (choice){.past = -1, .lse = 1});
  call_describe(&c, what);
  CHECK(call_run(&c) == SMX_OK, "%s", smx_last_error());
  call_read(&c, OUT, got), call_read(&c, LSE, log);
  double a = load_as(dtype, got), b = load_as(dtype, log);
  CHECK(a == out || (isnan(a) && isnan(out)), "out is %a, not %a", a, out);
  int isNear = isfinite(lse) && fabs(b - lse) <= 2 * ulp_of(dtype, lse);
  CHECK(isNear || b == lse || (isnan(b) && isnan(lse)), "lse is %a, not %a", b, lse);
  call_free(&c);
  problem_free(&p);
}

static void check_extremes(smx_dtype dtype) {
  double limit = dtype == SMX_FLOAT32 ? 0x1p126 : 0x1p1022, root = sqrt(limit), i = INFINITY;
#define PAIR(what, query, key, other, ...) \
  check_pair(what, dtype, query, (double[]){key, other}, __VA_ARGS__)
#define BIAS(a, b) (double[]){a, b}
  PAIR("both beyond the limit", root, 2 * root, 1.5 * root, NULL, 0, 1.5, limit);
  PAIR("both beyond the lower limit", root, -2 * root, -3 * root, NULL, 0, 1.5, -limit);
  PAIR("at both ends", root, 2 * root, -2 * root, NULL, 0, 1, limit);
  PAIR("the limit by a bias", 1, 0, 0, BIAS(2 * limit, limit), 0, 1.5, limit);
  PAIR("one bias at the end", 1, 0, 0, BIAS(-2 * limit, 3), 0, 2, 3);
  PAIR("beyond the limit, capped", root, 2 * root, -2 * root, NULL, 200, 1, 200);
  PAIR("an infinite product", 1, i, 0, NULL, 0, NAN, NAN);
  PAIR("a product of -inf", 1, -i, 3, NULL, 0, 2, 3);
  PAIR("both products -inf", 1, -i, -i, NULL, 0, 0, -i);
  PAIR("an infinite product, capped", 1, i, -i, NULL, 200, 1, 200);
  PAIR("0 times infinity", 0, i, 1, NULL, 0, NAN, NAN);
  PAIR("a bias of -inf", 1, 5, 3, BIAS(-i, 0), 0, 2, 3);
  PAIR("a bias of +inf", 1, 5, 3, BIAS(i, 0), 0, NAN, NAN);
  PAIR("both bias -inf", 1, 5, 3, BIAS(-i, -i), 0, 0, -i);
  PAIR("far below", 1, -1e30, -1e30, NULL, 0, 1.5, (double)(dtype == SMX_FLOAT32 ? -1e30f : -1e30));
  PAIR("subnormal keys", 1, 1e-41, 0, NULL, 0, 1.5, dtype == SMX_FLOAT32 ? (float)log(2) : log(2));
#undef PAIR
#undef BIAS
}

int main(void) {
  int isLight = is_light();
  smx_set_num_threads(2);
  for (uint64_t seed = 1; seed <= (isLight ? 150 : 4000); seed++) check_seed(seed, 1e4, 0);
  for (uint64_t seed = 1; seed <= (isLight ? 2 : 60); seed++) check_seed(10000 + seed, 3e5, 0);
  for (uint64_t seed = 1; seed <= (isLight ? 2 : 60); seed++) check_seed(20000 + seed, 1e5, 2500);
  for (int d = 0; d < 4; d++) check_empty(float_dtypes[d]);
  check_extremes(SMX_FLOAT32);
  check_extremes(SMX_FLOAT64);
  printf("%" PRId64 " calls, %" PRId64 " numbers compared\n", calls, compared);
  for (int k = ABOUT_OUT; k <= ABOUT_WEIGHTS; k++) {
    static const char *const names[] = {"out", "lse", "weights"};
    printf(
        "worst %s, share of its bound: float16 %.3f, bfloat16 %.3f, float32 %.3f, float64 %.3f\n",
        names[k], worst[k][0], worst[k][1], worst[k][2], worst[k][3]);
  }
  return finish("test_attention");
}
