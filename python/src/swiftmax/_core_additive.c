/* _additive_attention: every argument of additive_attention in its place, _additive.py. */
#include "_core.h"

/* Up to this many products a call ends within microseconds (_core_attention.c). */
static const double GIL_THRESHOLD = 1 << 16;
/* Products that take as long as a tanh. */
static const double TANH_COST = 28;

enum { PARAMETERS = 3 };

typedef struct call {
  smxpy_operand query, key, value, bias;
  smxpy_operand parameters[PARAMETERS]; /* w_query, w_key, v */
  smxpy_mask mask;
  smxpy_operand out, lse, weights;
  smx_layout layout;
  npy_intp rows[3];   /* the shape of lse */
  npy_intp scores[4]; /* their shape */
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->query, &c->key, &c->value,  &c->bias,
                                &c->out,   &c->lse, &c->weights};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  for (int i = 0; i < PARAMETERS; i++) smxpy_operand_clear(&c->parameters[i]);
  smxpy_mask_clear(&c->mask);
}

static int take_arrays(call *c, PyObject *const given[SMXPY_NAMES], PyObject *const *parameters) {
  static const char *const names[PARAMETERS] = {"w_query", "w_key", "v"};
  int layout = smxpy_choice(given[SMXPY_LAYOUT], "layout", "BHLD", "BLHD");
  if (layout < 0) return -1;
  c->layout = layout ? SMX_BLHD : SMX_BHLD;
  if (smxpy_floats(&c->query, given[SMXPY_QUERY], "query") < 0 ||
      smxpy_floats(&c->key, given[SMXPY_KEY], "key") < 0 ||
      smxpy_floats(&c->value, given[SMXPY_VALUE], "value") < 0)
    return -1;
  for (int i = 0; i < PARAMETERS; i++)
    if (smxpy_floats(&c->parameters[i], parameters[i], names[i]) < 0) return -1;
  if (smxpy_bias(&c->bias, given[SMXPY_BIAS], c->query.tensor.dtype) < 0) return -1;
  return smxpy_out(&c->out, given[SMXPY_OUT], "query");
}

/* Only what the shapes of the results are made from; the rest is checked by the library. */
static int find_shapes(call *c) {
  const smxpy_operand *query = &c->query;
  int rank = query->tensor.ndim;
  if (rank < 2 || rank > 4)
    return smxpy_refuse("query of shape %S must have 2, 3 or 4 axes", query, query);
  if (c->key.tensor.ndim != rank)
    return smxpy_refuse("key of shape %S must have as many axes as query of shape %S", &c->key,
                        query);
  if (c->value.tensor.ndim != rank)
    return smxpy_refuse("value of shape %S must have as many axes as query of shape %S", &c->value,
                        query);
  const int64_t *shape = query->tensor.shape;
  int is_swapped = c->layout == SMX_BLHD && rank > 2;
  int length_axis = is_swapped ? rank - 3 : rank - 2, head_axis = is_swapped ? rank - 2 : rank - 3;
  npy_intp *axis = c->rows;
  if (rank == 4) *axis++ = shape[0];
  if (rank >= 3) *axis++ = shape[head_axis];
  *axis = shape[length_axis];
  for (int i = 0; i < rank - 1; i++) c->scores[i] = c->rows[i];
  c->scores[rank - 1] = c->key.tensor.shape[length_axis];
  return 0;
}

static int make_results(call *c, int with_lse, int with_weights) {
  int rank = c->query.tensor.ndim;
  int sums = c->query.tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  if (!c->out.array &&
      smxpy_operand_take(&c->out, smxpy_attention_out(c->query.array, c->value.array)) < 0)
    return -1;
  if (with_lse && smxpy_operand_take(&c->lse, PyArray_SimpleNew(rank - 1, c->rows, sums)) < 0)
    return -1;
  if (!with_weights) return 0;
  return smxpy_operand_take(&c->weights, smxpy_new_like(c->query.array, rank, c->scores));
}

static smx_status run_now(const call *c, const smx_tensor *out) {
  smx_additive_attention_options options = {
      .size = sizeof options,
      .layout = c->layout,
      .mask = smxpy_tensor(&c->mask.array),
      .bias = smxpy_tensor(&c->bias),
      .structure = c->mask.conditions,
      .lse = smxpy_tensor(&c->lse),
      .weights = smxpy_tensor(&c->weights),
  };
  return smx_additive_attention(&c->query.tensor, &c->key.tensor, &c->value.tensor,
                                &c->parameters[0].tensor, &c->parameters[1].tensor,
                                &c->parameters[2].tensor, out, &options);
}

static double last_of(const smxpy_operand *operand) {
  int rank = operand->tensor.ndim;
  return rank ? (double)operand->tensor.shape[rank - 1] : 0;
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  double scores = 1, width = last_of(&c->parameters[2]);
  for (int axis = 0; axis < c->query.tensor.ndim; axis++) scores *= (double)c->scores[axis];
  double projections =
      width * ((double)PyArray_SIZE(c->query.array) + (double)PyArray_SIZE(c->key.array));
  if (scores * (TANH_COST * width + last_of(&c->value)) + projections <= GIL_THRESHOLD)
    return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_operand *const inputs[] = {
      &c->query,         &c->key,           &c->value,     &c->parameters[0],
      &c->parameters[1], &c->parameters[2], &c->mask.array, &c->bias};
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
  if (take_arrays(&c, given, args + 3) == 0 && find_shapes(&c) == 0 &&
      smxpy_structure_of(&c.mask, given, c.query.tensor.ndim, c.scores) == 0 &&
      make_results(&c, with_lse, with_weights) == 0 && execute(&c) == 0)
    result = smxpy_attention_results(&c.out, &c.lse, &c.weights);
  clear(&c);
  return result;
}
