/* Every option of the tensor calls against a slow reference in 113 bits, over random shapes, axes,
 * strides, masks, biases, weights, temperatures and structures; then rows of special values. */
#include "reference.h"
#include "scenario.h"

static double worst[OPERATIONS][4]; /* in ulp, by operation and dtype */
static double worst_cancelled;

static int64_t number_at(const smx_tensor *t, const int64_t *index) {
  return (int64_t)load_as(t->dtype, place_of(t, index));
}

/* The id of a query or key: the leading axes of index, then its place. */
static int64_t id_at(const smx_tensor *t, const int64_t *index, int64_t place) {
  int64_t own[RANK];
  for (int i = 0; i + 1 < t->ndim; i++) own[i] = index[i];
  own[t->ndim - 1] = place;
  return number_at(t, own);
}

static int structure_shows(const smx_mask *m, const view *x, const int64_t *index) {
  int rank = x->tensor.ndim;
  for (; m; m = m->also) {
    int64_t i = index[rank - 2], j = index[rank - 1];
    int64_t offset = m->query_offset ? number_at(m->query_offset, index)
                                     : x->shape[rank - 1] - x->shape[rank - 2];
    if (m->causal && j > i + offset) return 0;
    if (m->window && m->window_left != -1 && j < i + offset - m->window_left) return 0;
    if (m->window && m->window_right != -1 && j > i + offset + m->window_right) return 0;
    if (m->key_lengths && j >= number_at(m->key_lengths, index)) return 0;
    if (m->query_lengths && i >= number_at(m->query_lengths, index)) return 0;
    if (m->query_segments && id_at(m->query_segments, index, i) != id_at(m->key_segments, index, j))
      return 0;
  }
  return 1;
}

/* A tensor that has one element for each row: all axes of x, or the kept ones, or the last of
 * those. */
static const void *row_place(const smx_tensor *t, const scenario *s, const int64_t *index) {
  int64_t own[RANK], kept[RANK];
  int count = 0;
  for (int i = 0; i < s->rank; i++) {
    if (!s->reduced[i]) kept[count++] = index[i];
  }
  for (int i = 0; i < t->ndim; i++) {
    own[i] = t->ndim == s->rank ? (s->reduced[i] ? 0 : index[i]) : kept[count - t->ndim + i];
    if (t->shape[i] == 1) own[i] = 0;
  }
  return place_of(t, own);
}

static element element_at(const scenario *s, const int64_t *index) {
  const arguments *a = &s->arguments;
  element e = {.x = load_as(s->dtype, place_of(&s->x.tensor, index)), .visible = 1, .weight = 1};
  if (a->mask) e.visible = load_as(SMX_BOOL, broadcast_place_of(a->mask, s->rank, index)) != 0;
  if (a->structure) e.visible = e.visible && structure_shows(a->structure, &s->x, index);
  if (a->bias) e.bias = load_as(a->bias->dtype, broadcast_place_of(a->bias, s->rank, index));
  if (a->weights) e.weight = load_as(s->dtype, broadcast_place_of(a->weights, s->rank, index));
  return e;
}

static void note(double error, double *most) {
  if (isfinite(error) && error > *most) *most = error;
}

static void check_sum(const scenario *s, const int64_t *index, const row_result *result) {
  double got = load_as(s->dtype, row_place(&s->out.tensor, s, index));
  double value = (double)result->values[0], maximum = result->maximum;
  double scale = isfinite(maximum) && fabs(maximum) > fabs(value) ? maximum : value;
  /* A narrow type adds half an ulp of its own to the bound of float32. */
  int isNarrow = s->dtype < SMX_FLOAT32;
  smx_dtype inner = isNarrow ? SMX_FLOAT32 : s->dtype;
  double unit = ulp_of(s->dtype, isNarrow ? value : scale);
  double bound = isNarrow ? 0.5 + LOGSUMEXP_ULP * ulp_of(inner, scale) / unit : LOGSUMEXP_ULP;
  double error = error_of(s->dtype, got, result->values[0], isNarrow ? value : scale);
  /* The bound is for the normal range; below it one unit more. */
  double smallest = ldexp(ulp_of(inner, 0), format_of(inner).digits - 1);
  if (fabs(value) < smallest && fabs(scale) < smallest) bound += 1;
  if (s->arguments.weights && isfinite(value)) {
    note(error - bound, &worst_cancelled);
    /* Where everything cancels no digit is left to compare. */
    if (result->condition > 1e6) return;
    bound += result->condition * ulp_of(inner, 1) / unit;
  } else {
    note(error, &worst[LOGSUMEXP][s->dtype - SMX_FLOAT16]);
  }
  CHECK(error <= bound, "logsumexp is %a, not %a: %g ulp, at most %g", got, value, error, bound);
  if (s->arguments.sign) {
    double sign = load_as(s->dtype, row_place(&s->sign.tensor, s, index));
    CHECK(sign == result->sign || (isnan(sign) && isnan(result->sign)), "sign is %g, not %g", sign,
          result->sign);
  }
}

static void check_row(const scenario *s, int64_t number, element *row, wide *result) {
  int64_t index[RANK], reducedShape[RANK], keptShape[RANK], inner[RANK], outer[RANK];
  int reducedAxes[RANK], keptAxes[RANK], reduced = 0, kept = 0;
  for (int i = 0; i < s->rank; i++) {
    if (s->reduced[i]) reducedAxes[reduced] = i, reducedShape[reduced++] = s->x.shape[i];
    else keptAxes[kept] = i, keptShape[kept++] = s->x.shape[i];
  }
  memset(index, 0, sizeof index);
  unravel(number, kept, keptShape, outer);
  for (int i = 0; i < kept; i++) index[keptAxes[i]] = outer[i];
  row_options o = {s->arguments.bias != NULL, s->arguments.weights != NULL,
                   s->arguments.sign != NULL, 1};
  if (s->arguments.temperature) {
    o.temperature =
        load_as(s->arguments.temperature->dtype, row_place(s->arguments.temperature, s, index));
  }
  for (int64_t j = 0; j < s->cols; j++) {
    unravel(j, reduced, reducedShape, inner);
    for (int i = 0; i < reduced; i++) index[reducedAxes[i]] = inner[i];
    row[j] = element_at(s, index);
  }
  row_result expected = {.values = result};
  reference_row(s->operation, row, s->cols, &o, &expected);
  if (s->operation == LOGSUMEXP) {
    check_sum(s, index, &expected);
    return;
  }
  int ok = 1;
  for (int64_t j = 0; j < s->cols && ok; j++) {
    unravel(j, reduced, reducedShape, inner);
    for (int i = 0; i < reduced; i++) index[reducedAxes[i]] = inner[i];
    double got = load_as(s->dtype, place_of(&s->out.tensor, index));
    double error = error_of(s->dtype, got, result[j], (double)result[j]);
    double bound = bound_of(s->dtype, SOFTMAX_ULP);
    note(error, &worst[s->operation][s->dtype - SMX_FLOAT16]);
    ok = error <= bound;
    if (!ok) {
      CHECK(0,
            "row %" PRId64 " element %" PRId64
            " (x = %a, T = %g) is %a, not %a: %g ulp, at most %g",
            number, j, row[j].x, o.temperature, got, (double)result[j], error, bound);
    }
  }
  if (ok) CHECK(1, "row");
}

static void check_scenario(uint64_t seed, int64_t longest) {
  static scenario s;
  scenario_make(&s, seed, longest);
  scenario_describe(&s);
  smx_status status = scenario_run(&s);
  if (CHECK(status == SMX_OK, "status %d: %s", status, smx_last_error())) {
    element *row = malloc(sizeof *row * (size_t)(s.cols + 1));
    wide *result = malloc(sizeof *result * (size_t)(s.cols + 1));
    if (!row || !result) abort();
    for (int64_t i = 0; i < s.rows; i++) check_row(&s, i, row, result);
    CHECK(bytes_spoilt(&s.out) == 0, "bytes beside out were written");
    if (s.arguments.sign) CHECK(bytes_spoilt(&s.sign) == 0, "bytes beside sign were written");
    free(row);
    free(result);
  }
  scenario_free(&s);
}

/* -- rows written out
 * -------------------------------------------------------------------------------- */

/* One row, at one temperature, of every dtype and operation. */
static void check_values(const char *what, const double *values, int64_t n, double temperature) {
  for (int d = 0; d < 4; d++) {
    for (int operation = 0; operation < OPERATIONS; operation++) {
      static scenario s;
      memset(&s, 0, sizeof s);
      if (operation == LOGSUMEXP && temperature != 1) continue;
      s.operation = operation;
      s.dtype = float_dtypes[d];
      s.rank = s.reduced[0] = 1;
      s.rows = 1;
      s.cols = n;
      view_make(&s.x, s.dtype, 1, &n, 0, 0);
      for (int64_t i = 0; i < n; i++) store_as(s.dtype, place_of(&s.x.tensor, &i), values[i]);
      if (temperature != 1) {
        view_make(&s.temperature, SMX_FLOAT64, 0, NULL, 0, 0);
        store_as(SMX_FLOAT64, s.temperature.tensor.data, temperature);
        s.arguments.temperature = &s.temperature.tensor;
      }
      make_outputs(&s, 0);
      DESCRIBE("%s: %s of %s, %" PRId64 " elements, T = %g", what, operation_names[operation],
               name_of(s.dtype), n, temperature);
      static element row[64];
      static wide result[64];
      CHECK(scenario_run(&s) == SMX_OK, "%s", smx_last_error());
      check_row(&s, 0, row, result);
      scenario_free(&s);
    }
  }
}

/* Weights that are NaN, or that meet infinite scores: as scipy.special.logsumexp has them. */
static void check_special_weights(void) {
  static const double x[][2] = {
      {INFINITY, 0},          {INFINITY, INFINITY},  {INFINITY, 0}, {1, 2},
      {-INFINITY, -INFINITY}, {INFINITY, -INFINITY}, {1, 1},        {NAN, 0}};
  static const double weights[][2] = {{-1, 1},  {1, -1},  {1, NAN}, {NAN, 1},
                                      {1, NAN}, {-2, -3}, {1, -1},  {0, 2}};
  for (int i = 0; i < 64; i++) {
    static scenario s;
    int64_t two = 2;
    memset(&s, 0, sizeof s);
    s.operation = LOGSUMEXP;
    s.dtype = float_dtypes[i / 8 % 4];
    s.rank = s.reduced[0] = 1;
    s.rows = 1;
    s.cols = two;
    view_make(&s.x, s.dtype, 1, &two, 0, 0);
    view_make(&s.weights, s.dtype, 1, &two, 0, 0);
    for (int64_t j = 0; j < two; j++) {
      store_as(s.dtype, place_of(&s.x.tensor, &j), x[i % 8][j]);
      store_as(s.dtype, place_of(&s.weights.tensor, &j), weights[i % 8][j]);
    }
    s.arguments.weights = &s.weights.tensor;
    s.arguments.sign = i < 32 ? &s.sign.tensor : NULL;
    make_outputs(&s, 0);
    DESCRIBE("logsumexp of %s {%g, %g}, weights {%g, %g}%s", name_of(s.dtype), x[i % 8][0],
             x[i % 8][1], weights[i % 8][0], weights[i % 8][1], i < 32 ? ", sign" : "");
    element row[2];
    wide result[2];
    CHECK(scenario_run(&s) == SMX_OK, "%s", smx_last_error());
    check_row(&s, 0, row, result);
    scenario_free(&s);
  }
}

static void check_special_rows(void) {
  static const double rows[][8] = {{NAN, 1, 2},
                                   {1, INFINITY, 2},
                                   {INFINITY, NAN},
                                   {NAN, -INFINITY},
                                   {-INFINITY, -INFINITY},
                                   {-INFINITY, 0, -INFINITY},
                                   {INFINITY, -INFINITY},
                                   {INFINITY, INFINITY},
                                   {NAN, INFINITY, -INFINITY},
                                   {0, -20},
                                   {0, -0.0},
                                   {0, -87},
                                   {0, -103.5},
                                   {0, -745},
                                   {0, -1e4},
                                   {3e38, -3e38},
                                   {3e38, 3e38, 1},
                                   {-3e38, -3e38},
                                   {1e-40, 2e-40},
                                   {1e-45, 0, -1e-45},
                                   {4e-310, 1e-310},
                                   {65504, 65503, 1},
                                   {1048576, 1048575.5},
                                   {-1048576, -1048576.25},
                                   {16777216, 16777215},
                                   {1e300, 1e300},
                                   {-1e308, 1e308},
                                   {2, 1, 0},
                                   {1000, 1001, 999},
                                   {4, 4, 2},
                                   {4, 4, 12},
                                   {6, 3, 0.5, 0.5},
                                   {-1e-7, -17},
                                   {0.5, -0.7}};
  static const int lengths[] = {3, 3, 2, 2, 2, 3, 2, 2, 3, 2, 2, 2, 2, 2, 2, 2, 3,
                                2, 2, 3, 2, 3, 2, 2, 2, 2, 2, 3, 3, 3, 3, 4, 2, 2};
  static const double temperatures[] = {1,    0,     INFINITY, 0.5,   2,      1e-300,
                                        1e38, 1e300, 5e-324,   1e-38, 1.7e308};
  for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
    for (size_t t = 0; t < sizeof temperatures / sizeof *temperatures; t++) {
      check_values("special row", rows[i], lengths[i], temperatures[t]);
    }
  }
  /* Subnormal probabilities, all around the smallest. */
  for (double x = -80; x > -110; x -= 0.37)
    check_values("subnormal float32", (double[]){0, x, x - 1}, 3, 1);
  for (double x = -700; x > -750; x -= 0.61)
    check_values("subnormal float64", (double[]){0, x, x - 1}, 3, 1);
}

int main(void) {
  int isLight = is_light();
  for (uint64_t seed = 1; seed <= (isLight ? 300 : 20000); seed++) check_scenario(seed, 0);
  for (uint64_t seed = 1; seed <= (isLight ? 4 : 150); seed++)
    check_scenario(1000000 + seed, 14000);
  check_special_weights();
  check_special_rows();
  for (int o = 0; o < OPERATIONS; o++) {
    printf("worst error of %s in ulp: float16 %.4f, bfloat16 %.4f, float32 %.3f, float64 %.3f\n",
           operation_names[o], worst[o][0], worst[o][1], worst[o][2], worst[o][3]);
  }
  printf("weights cost up to %.3f ulp more\n", worst_cancelled);
  return finish("test_reference");
}
