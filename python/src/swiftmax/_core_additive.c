/* _additive_attention: every argument of additive_attention in its place, _additive.py. */
#include "_core.h"

/* Products that take as long as a tanh. */
static const double TANH_COST = 28;

enum { PARAMETERS = 3 };

typedef struct call {
  smxpy_scores scores;
  smxpy_operand parameters[PARAMETERS]; /* w_query, w_key, v */
  smxpy_operand out, lse, weights;
} call;

static void clear(call *c) {
  smxpy_scores_clear(&c->scores);
  for (int i = 0; i < PARAMETERS; i++) smxpy_operand_clear(&c->parameters[i]);
  smxpy_operand_clear(&c->out);
  smxpy_operand_clear(&c->lse);
  smxpy_operand_clear(&c->weights);
}

static int take_arrays(call *c, PyObject *const given[SMXPY_NAMES], PyObject *const *parameters) {
  static const char *const names[PARAMETERS] = {"w_query", "w_key", "v"};
  if (smxpy_scores_take(&c->scores, given) < 0) return -1;
  for (int i = 0; i < PARAMETERS; i++)
    if (smxpy_floats(&c->parameters[i], parameters[i], names[i]) < 0) return -1;
  return smxpy_out(&c->out, given[SMXPY_OUT], "query");
}

static int make_results(call *c, int with_lse, int with_weights) {
  const smxpy_scores *s = &c->scores;
  int sums = s->query.tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  if (!c->out.array &&
      smxpy_operand_take(&c->out, smxpy_attention_out(&s->query, &s->value)) < 0)
    return -1;
  if (with_lse &&
      smxpy_operand_take(&c->lse, PyArray_SimpleNew(s->rank - 1, (npy_intp *)s->shape, sums)) < 0)
    return -1;
  if (!with_weights) return 0;
  return smxpy_operand_take(&c->weights, smxpy_new_like(s->query.array, s->rank, s->shape));
}

static smx_status run_now(const call *c, const smx_tensor *out) {
  const smxpy_scores *s = &c->scores;
  smx_additive_attention_options options = {
      .size = sizeof options,
      .layout = s->layout,
      .mask = smxpy_tensor(&s->mask.array),
      .bias = smxpy_tensor(&s->bias),
      .structure = s->mask.conditions,
      .lse = smxpy_tensor(&c->lse),
      .weights = smxpy_tensor(&c->weights),
  };
  return smx_additive_attention(&s->query.tensor, &s->key.tensor, &s->value.tensor,
                                &c->parameters[0].tensor, &c->parameters[1].tensor,
                                &c->parameters[2].tensor, out, &options);
}

static double last_of(const smxpy_operand *operand) {
  int rank = operand->tensor.ndim;
  return rank ? (double)operand->tensor.shape[rank - 1] : 0;
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  const smxpy_scores *s = &c->scores;
  double scores = 1, width = last_of(&c->parameters[2]);
  for (int axis = 0; axis < s->rank; axis++) scores *= (double)s->shape[axis];
  double projections =
      width * ((double)PyArray_SIZE(s->query.array) + (double)PyArray_SIZE(s->key.array));
  if (smxpy_is_short(scores, TANH_COST * width, last_of(&s->value)) &&
      smxpy_is_short(1, projections, 0))
    return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_scores *s = &c->scores;
  const smxpy_operand *const inputs[] = {
      &s->query,         &s->key,           &s->value,      &c->parameters[0],
      &c->parameters[1], &c->parameters[2], &s->mask.array, &s->bias};
  return smxpy_execute(run, c, &c->out, inputs, sizeof inputs / sizeof *inputs);
}

PyObject *smxpy_additive_attention(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  /* Behind query, key, value and the parameters. */
  static const int places[] = {
      SMXPY_MASK,          SMXPY_BIAS,        SMXPY_CAUSAL, SMXPY_QUERY_OFFSET, SMXPY_WINDOW,
      SMXPY_KEY_LENGTHS,   SMXPY_QUERY_LENGTHS, SMXPY_SEGMENT_IDS, SMXPY_LAYOUT, SMXPY_OUT,
      SMXPY_RETURN_LSE,    SMXPY_RETURN_WEIGHTS};
  enum { NAMED = sizeof places / sizeof *places, FIRST = 3 + PARAMETERS };
  if (count != FIRST + NAMED) {
    PyErr_SetString(PyExc_TypeError, "_additive_attention() takes 18 arguments");
    return NULL;
  }
  PyObject *given[SMXPY_NAMES] = {NULL};
  for (int i = 0; i < 3; i++) given[SMXPY_QUERY + i] = args[i];
  for (int i = 0; i < NAMED; i++) given[places[i]] = args[FIRST + i];
  int with_lse = smxpy_flag(given[SMXPY_RETURN_LSE], "return_lse");
  if (with_lse < 0) return NULL;
  int with_weights = smxpy_flag(given[SMXPY_RETURN_WEIGHTS], "return_weights");
  if (with_weights < 0) return NULL;
  call c = {0};
  PyObject *result = NULL;
  if (take_arrays(&c, given, args + 3) == 0 &&
      smxpy_structure_of(&c.scores.mask, given, c.scores.rank, c.scores.shape) == 0 &&
      make_results(&c, with_lse, with_weights) == 0 && execute(&c) == 0)
    result = smxpy_attention_results(&c.out, &c.lse, &c.weights);
  clear(&c);
  return result;
}
