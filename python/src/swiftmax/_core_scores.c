/* What attention and its gradient share: query, key and value, what changes and masks the scores,
 * the numbers, and the shape of the scores. */
#include "_core.h"

/* Up to this many products of two elements a call ends within microseconds, which is less than
 * other threads would gain from the GIL (_core_operations.c says what giving it up costs). */
static const double GIL_THRESHOLD = 1 << 16;

int smxpy_is_short(double scores, double width, double value_width) {
  return scores * (width + value_width) <= GIL_THRESHOLD;
}

int smxpy_refuse(const char *format, const smxpy_operand *a, const smxpy_operand *b) {
  PyObject *first = PyArray_IntTupleFromIntp(a->tensor.ndim, smxpy_dims(a));
  PyObject *second = PyArray_IntTupleFromIntp(b->tensor.ndim, smxpy_dims(b));
  if (first && second) PyErr_Format(PyExc_ValueError, format, first, second);
  Py_XDECREF(first);
  Py_XDECREF(second);
  return -1;
}

static int take_numbers(smxpy_scores *s, PyObject *const given[SMXPY_NAMES]) {
  int layout = smxpy_choice(given[SMXPY_LAYOUT], "layout", "BHLD", "BLHD");
  if (layout < 0) return -1;
  s->layout = layout ? SMX_BLHD : SMX_BHLD;
  s->has_scale = smxpy_number(given[SMXPY_SCALE], "scale", &s->scale);
  if (s->has_scale < 0) return -1;
  return smxpy_number(given[SMXPY_SOFTCAP], "softcap", &s->softcap) < 0 ? -1 : 0;
}

static int take_arrays(smxpy_scores *s, PyObject *const given[SMXPY_NAMES]) {
  if (smxpy_floats(&s->query, given[SMXPY_QUERY], "query") < 0 ||
      smxpy_floats(&s->key, given[SMXPY_KEY], "key") < 0 ||
      smxpy_floats(&s->value, given[SMXPY_VALUE], "value") < 0)
    return -1;
  smx_dtype dtype = s->query.tensor.dtype;
  if (smxpy_bias(&s->bias, given[SMXPY_BIAS], dtype) < 0 ||
      smxpy_wide_floats(&s->alibi_slopes, given[SMXPY_ALIBI_SLOPES], "alibi_slopes", dtype) < 0)
    return -1;
  return smxpy_wide_floats(&s->sinks, given[SMXPY_SINKS], "sinks", dtype);
}

/* Only what the shapes of the results are made from; the rest is checked by the library. */
static int check_ranks(const smxpy_scores *s) {
  const smxpy_operand *query = &s->query;
  int rank = query->tensor.ndim;
  if (rank < 2 || rank > 4)
    return smxpy_refuse("query of shape %S must have 2, 3 or 4 axes", query, query);
  if (s->key.tensor.ndim != rank)
    return smxpy_refuse("key of shape %S must have as many axes as query of shape %S", &s->key,
                        query);
  if (s->value.tensor.ndim != rank)
    return smxpy_refuse("value of shape %S must have as many axes as query of shape %S", &s->value,
                        query);
  return 0;
}

static void find_shape(smxpy_scores *s) {
  const int64_t *query = s->query.tensor.shape;
  int rank = s->query.tensor.ndim, length_axis = smxpy_length_axis(s);
  npy_intp *axis = s->shape;
  if (rank == 4) *axis++ = query[0];
  if (rank >= 3) *axis++ = query[s->layout == SMX_BLHD ? rank - 2 : rank - 3];
  *axis++ = query[length_axis];
  *axis = s->key.tensor.shape[length_axis];
  s->rank = rank;
}

int smxpy_scores_take(smxpy_scores *s, PyObject *const given[SMXPY_NAMES]) {
  if (take_numbers(s, given) < 0 || take_arrays(s, given) < 0 || check_ranks(s) < 0) return -1;
  find_shape(s);
  return 0;
}

void smxpy_scores_clear(smxpy_scores *s) {
  smxpy_operand *const all[] = {&s->query, &s->key,          &s->value,
                                &s->bias,  &s->alibi_slopes, &s->sinks};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_mask_clear(&s->mask);
}

smx_attention_options smxpy_scores_options(const smxpy_scores *s) {
  return (smx_attention_options){
      .size = sizeof(smx_attention_options),
      .layout = s->layout,
      .has_scale = s->has_scale,
      .scale = s->scale,
      .softcap = s->softcap,
      .mask = smxpy_tensor(&s->mask.array),
      .bias = smxpy_tensor(&s->bias),
      .structure = s->mask.conditions,
      .alibi_slopes = smxpy_tensor(&s->alibi_slopes),
      .sinks = smxpy_tensor(&s->sinks),
  };
}

int smxpy_scores_are_short(const smxpy_scores *s) {
  int last = s->query.tensor.ndim - 1;
  double scores = 1;
  for (int axis = 0; axis < s->rank; axis++) scores *= (double)s->shape[axis];
  return smxpy_is_short(scores, (double)s->query.tensor.shape[last],
                        (double)s->value.tensor.shape[last]);
}
