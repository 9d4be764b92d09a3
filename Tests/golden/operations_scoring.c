/* Golden cases of sigmoid, log-probabilities of sequences and rankings, and calibration. */
#include "operations.h"

#include <stdlib.h>
#include <string.h>

enum { IS_MEAN = 1, WITH_LENGTHS = 2, WITH_MASK = 4, WITH_TEMPERATURE = 8 };
enum { VARIATIONS = 4, OF_INTEGERS = OF_MASK };

/* The variations of a case: 0 plain, then the last axis two elements apart, all strides negative,
 * and the first axis fastest. */
static const layout layouts[VARIATIONS] = {
    {0}, {.step = 2, .offset = 2}, {.backwards = 1}, {.memory_order = 1}};
static const int none[MAX_RANK] = {0};

static void place_as(placed *p, const array *a, int variation) {
  place(p, a, &layouts[variation], none);
}

static void put(array *a, int64_t i, int64_t value) {
  if (a->dtype == SMX_INT32) ((int32_t *)(void *)a->data)[i] = (int32_t)value;
  else ((int64_t *)(void *)a->data)[i] = value;
}

static array integers_below(smx_dtype dtype, int rank, const int64_t *shape, int64_t most,
                            uint64_t seed, int which) {
  array a = new_array(dtype, rank, shape);
  for (int64_t i = 0; i < a.count; i++)
    put(&a, i, (int64_t)(stream(seed, which, (uint64_t)i) % (uint64_t)most));
  return a;
}

/* -- sigmoid ----------------------------------------------------------------------------------- */

static void run_sigmoid(operation_run *run, int variation, smx_dtype dtype, int e, uint64_t seed) {
  array x = uniform_array(dtype, 2, (const int64_t[]){3, 2777}, e, seed, OF_X);
  for (int is_log = 0; is_log < 2; is_log++) {
    array out = new_array(dtype, 2, x.shape);
    placed from, to;
    place_as(&from, &x, variation);
    place_as(&to, is_log ? &x : &out, variation);
    /* The logarithm in place. */
    smx_status status =
        is_log ? smx_log_sigmoid(&to.tensor, &to.tensor) : smx_sigmoid(&from.tensor, &to.tensor);
    if (succeeded(run, status)) {
      collect(&to, &out, &layouts[variation], none);
      emit(run, is_log ? "log" : "value", &out);
    }
    free(from.memory);
    free(to.memory);
    free(out.data);
  }
  free(x.data);
}

static void sigmoid_f16(operation_run *r, int v) { run_sigmoid(r, v, SMX_FLOAT16, 4, 11); }
static void sigmoid_bf16(operation_run *r, int v) { run_sigmoid(r, v, SMX_BFLOAT16, 7, 12); }
static void sigmoid_f32(operation_run *r, int v) { run_sigmoid(r, v, SMX_FLOAT32, 7, 13); }
static void sigmoid_f64(operation_run *r, int v) { run_sigmoid(r, v, SMX_FLOAT64, 10, 14); }

/* -- sequences --------------------------------------------------------------------------------- */

static void run_sequence(operation_run *run, int variation, smx_dtype dtype, int64_t classes,
                         int with, uint64_t seed) {
  const int64_t shape[] = {4, 9, classes};
  array logits = uniform_array(dtype, 3, shape, 4, seed, OF_X);
  array tokens = integers_below(SMX_INT64, 2, shape, classes, seed, OF_INTEGERS);
  array lengths = integers_below(SMX_INT32, 1, shape, shape[1] + 1, seed, OF_STRUCTURE);
  array mask = new_array(SMX_BOOL, 1, &classes);
  for (int64_t i = 0; i < classes; i++)
    mask.data[i] = stream(seed, OF_BIAS, (uint64_t)i) >> 61 != 0;
  array out = new_array(SMX_FLOAT64, 1, shape);
  array each = new_array(dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32, 2, shape);
  double number = 1.75;
  smx_tensor temperature = {.data = &number, .dtype = SMX_FLOAT64};
  placed from, chosen, ends, shown, to, of_each;
  place_as(&from, &logits, variation);
  place_as(&chosen, &tokens, variation);
  place_as(&ends, &lengths, variation);
  place_as(&shown, &mask, variation);
  place_as(&to, &out, variation);
  place_as(&of_each, &each, variation);
  smx_sequence_options options = {.size = sizeof options, .token_log_probs = &of_each.tensor};
  if (with & WITH_LENGTHS) options.lengths = &ends.tensor;
  if (with & WITH_MASK) options.mask = &shown.tensor;
  if (with & WITH_TEMPERATURE) options.temperature = &temperature;
  options.normalize = with & IS_MEAN;
  if (succeeded(run, smx_sequence_log_prob(&from.tensor, &chosen.tensor, &to.tensor, &options))) {
    collect(&to, &out, &layouts[variation], none);
    collect(&of_each, &each, &layouts[variation], none);
    emit(run, "sum", &out);
    emit(run, "tokens", &each);
  }
  placed *const all[] = {&from, &chosen, &ends, &shown, &to, &of_each};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]->memory);
  array *const arrays[] = {&logits, &tokens, &lengths, &mask, &out, &each};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) free(arrays[i]->data);
}

static void sequence_f16(operation_run *r, int v) { run_sequence(r, v, SMX_FLOAT16, 50, 0, 21); }
static void sequence_f32(operation_run *r, int v) { run_sequence(r, v, SMX_FLOAT32, 300, 0, 22); }
static void sequence_long(operation_run *r, int v) {
  run_sequence(r, v, SMX_FLOAT32, 9001, WITH_LENGTHS, 23);
}
static void sequence_f64(operation_run *r, int v) {
  run_sequence(r, v, SMX_FLOAT64, 129, WITH_LENGTHS | IS_MEAN, 24);
}
static void sequence_options(operation_run *r, int v) {
  run_sequence(r, v, SMX_FLOAT32, 65, WITH_LENGTHS | WITH_MASK | WITH_TEMPERATURE, 25);
}

/* -- rankings ---------------------------------------------------------------------------------- */

/* Where in order[from] ... the item with the largest score stands, the first of equals. */
static int64_t best_left(const array *scores, int64_t first, const int64_t *order, int64_t from,
                         int64_t items) {
  int64_t best = from;
  for (int64_t k = from + 1; k < items; k++) {
    double score = get(scores, first + order[k]), most = get(scores, first + order[best]);
    if (score > most || (score == most && order[k] < order[best])) best = k;
  }
  return best;
}

static void run_ranking(operation_run *run, int variation, smx_dtype dtype, int64_t items,
                        int64_t places, int e, uint64_t seed, int is_by_score) {
  const int64_t shape[] = {5, items}, ranked[] = {5, places};
  array scores = uniform_array(dtype, 2, shape, e, seed, OF_X);
  array ranking = new_array(SMX_INT32, 2, ranked);
  int64_t *order = allocate((size_t)items * sizeof *order);
  for (int64_t row = 0; row < 5; row++) {
    /* Fisher and Yates: each place takes one of those that are left; or the best of them, the first
     * of equals. */
    for (int64_t i = 0; i < items; i++) order[i] = i;
    for (int64_t i = 0; i < places; i++) {
      int64_t j = i + (int64_t)(stream(seed, OF_INTEGERS, (uint64_t)(row * places + i)) %
                                (uint64_t)(items - i));
      if (is_by_score) j = best_left(&scores, row * items, order, i, items);
      int64_t item = order[j];
      order[j] = order[i];
      order[i] = item;
      put(&ranking, row * places + i, item);
    }
  }
  free(order);
  array out = new_array(SMX_FLOAT64, 1, shape);
  placed from, by, to;
  place_as(&from, &scores, variation);
  place_as(&by, &ranking, variation);
  place_as(&to, &out, variation);
  if (succeeded(run, smx_plackett_luce_log_prob(&from.tensor, &by.tensor, &to.tensor, NULL))) {
    collect(&to, &out, &layouts[variation], none);
    emit(run, "value", &out);
  }
  free(from.memory), free(by.memory), free(to.memory);
  free(scores.data), free(ranking.data), free(out.data);
}

static void ranking_f16(operation_run *r, int v) { run_ranking(r, v, SMX_FLOAT16, 7, 7, 2, 31, 0); }
static void ranking_f32(operation_run *r, int v) {
  run_ranking(r, v, SMX_FLOAT32, 100, 10, 3, 32, 0);
}
static void ranking_f64(operation_run *r, int v) {
  run_ranking(r, v, SMX_FLOAT64, 1000, 1000, 6, 33, 0);
}
/* The largest score changes with every place, from the last to the first. */
static void ranking_best(operation_run *r, int v) {
  run_ranking(r, v, SMX_FLOAT64, 300, 300, 3, 39, 1);
}

/* -- calibration ------------------------------------------------------------------------------- */

static void run_fit(operation_run *run, int variation, smx_dtype dtype, int64_t rows,
                    int64_t classes, int e, uint64_t seed) {
  enum { BINS = 10 };
  const int64_t shape[] = {rows, classes}, numbers = 8, bins = BINS;
  array logits = uniform_array(dtype, 2, shape, e, seed, OF_X);
  array labels = integers_below(SMX_INT64, 1, shape, classes, seed, OF_INTEGERS);
  /* Three rows of four have the largest logit as their label. */
  for (int64_t row = 0; row < rows; row++) {
    int64_t best = 0;
    for (int64_t c = 1; c < classes; c++)
      if (get(&logits, row * classes + c) > get(&logits, row * classes + best)) best = c;
    if (row % 4) put(&labels, row, best);
  }
  double confidences[BINS], accuracies[BINS];
  int64_t counts[BINS];
  smx_fit_options options = {.size = sizeof options, .bins = BINS};
  smx_calibration plain = {.size = sizeof plain};
  smx_temperature_fit fit = {.size = sizeof fit, .before = plain, .after = plain};
  fit.after.counts = counts;
  fit.after.confidences = confidences;
  fit.after.accuracies = accuracies;
  placed from, by;
  place_as(&from, &logits, variation);
  place_as(&by, &labels, variation);
  if (succeeded(run, smx_fit_temperature(&from.tensor, &by.tensor, &options, &fit))) {
    const double found[] = {fit.temperature,           fit.iterations,
                            fit.before.loss,           fit.after.loss,
                            fit.before.expected_error, fit.after.expected_error,
                            fit.after.accuracy,        fit.after.confidence};
    array result = new_array(SMX_FLOAT64, 1, &numbers), of_bins = new_array(SMX_FLOAT64, 1, &bins);
    memcpy(result.data, found, sizeof found);
    emit(run, "fit", &result);
    memcpy(of_bins.data, confidences, sizeof confidences);
    emit(run, "confidences", &of_bins);
    memcpy(of_bins.data, accuracies, sizeof accuracies);
    emit(run, "accuracies", &of_bins);
    free(result.data), free(of_bins.data);
  }
  free(from.memory), free(by.memory);
  free(logits.data), free(labels.data);
}

static void fit_bf16(operation_run *r, int v) { run_fit(r, v, SMX_BFLOAT16, 200, 5, 3, 41); }
static void fit_f32(operation_run *r, int v) { run_fit(r, v, SMX_FLOAT32, 500, 17, 4, 42); }
static void fit_f64(operation_run *r, int v) { run_fit(r, v, SMX_FLOAT64, 40, 5001, 4, 43); }

const operation_case operations_scoring[] = {
    {"sigmoid_f16", VARIATIONS, sigmoid_f16},
    {"sigmoid_bf16", VARIATIONS, sigmoid_bf16},
    {"sigmoid_f32", VARIATIONS, sigmoid_f32},
    {"sigmoid_f64", VARIATIONS, sigmoid_f64},
    {"sequence_f16", VARIATIONS, sequence_f16},
    {"sequence_f32", VARIATIONS, sequence_f32},
    {"sequence_long", VARIATIONS, sequence_long},
    {"sequence_f64", VARIATIONS, sequence_f64},
    {"sequence_options", VARIATIONS, sequence_options},
    {"ranking_f16", VARIATIONS, ranking_f16},
    {"ranking_f32", VARIATIONS, ranking_f32},
    {"ranking_f64", VARIATIONS, ranking_f64},
    {"ranking_best", VARIATIONS, ranking_best},
    {"fit_bf16", VARIATIONS, fit_bf16},
    {"fit_f32", VARIATIONS, fit_f32},
    {"fit_f64", VARIATIONS, fit_f64},
    {NULL, 0, NULL},
};
