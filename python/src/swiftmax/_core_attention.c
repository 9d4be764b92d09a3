/* attention.
 *
 * A call goes one of two ways. Plain: contiguous float32 arrays of 2, 3 or 4 axes and no option but
 * causal= and out=, the typed call of the library. General: everything else, as tensors. Both give
 * the same bits. */
#include "_core.h"

#include <math.h>
#include <string.h>

/* -- plain ------------------------------------------------------------------------------------- */

/* An array of shape (batch, heads, length, width), with or without the first one or two. */
typedef struct sizes {
  int64_t batch, heads, length, width;
} sizes;

static sizes sizes_of(PyObject *object) {
  PyArrayObject *array = (PyArrayObject *)object;
  int rank = PyArray_NDIM(array);
  const npy_intp *shape = PyArray_DIMS(array);
  return (sizes){
      .batch = rank == 4 ? shape[0] : 1,
      .heads = rank >= 3 ? shape[rank - 3] : 1,
      .length = shape[rank - 2],
      .width = shape[rank - 1],
  };
}

static int is_plain(PyObject *given, int rank) {
  if (!PyArray_CheckExact(given)) return 0;
  PyArrayObject *array = (PyArrayObject *)given;
  const int needed = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
  return PyArray_NDIM(array) == rank && (PyArray_FLAGS(array) & needed) == needed &&
         PyArray_TYPE(array) == NPY_FLOAT && PyArray_ISNOTSWAPPED(array);
}

/* Whether two contiguous arrays have no byte in common. */
static int lie_apart(PyObject *a, PyObject *b) {
  PyArrayObject *first = (PyArrayObject *)a, *second = (PyArrayObject *)b;
  uintptr_t of_first = (uintptr_t)PyArray_DATA(first), of_second = (uintptr_t)PyArray_DATA(second);
  return of_first + (uintptr_t)PyArray_NBYTES(first) <= of_second ||
         of_second + (uintptr_t)PyArray_NBYTES(second) <= of_first;
}

static int is_plain_out(PyObject *const given[SMXPY_NAMES], int rank) {
  PyObject *out = given[SMXPY_OUT];
  if (smxpy_is_absent(out)) return 1;
  if (!is_plain(out, rank) || !PyArray_ISWRITEABLE((PyArrayObject *)out)) return 0;
  sizes query = sizes_of(given[SMXPY_QUERY]), is = sizes_of(out);
  return is.batch == query.batch && is.heads == query.heads && is.length == query.length &&
         is.width == sizes_of(given[SMXPY_VALUE]).width && lie_apart(out, given[SMXPY_QUERY]) &&
         lie_apart(out, given[SMXPY_KEY]) && lie_apart(out, given[SMXPY_VALUE]);
}

static int has_options(PyObject *const given[SMXPY_NAMES]) {
  if (!smxpy_is_absent(given[SMXPY_MASK]) || !smxpy_is_absent(given[SMXPY_BIAS])) return 1;
  for (int i = SMXPY_QUERY_OFFSET; i < SMXPY_LAYOUT; i++)
    if (!smxpy_is_absent(given[i])) return 1;
  /* Of these None is not the default. */
  for (int i = SMXPY_LAYOUT; i < SMXPY_NAMES; i++)
    if (given[i]) return 1;
  return 0;
}

/* Shapes that do not fit go the general way, so that the sentences about them are the same. */
static int is_plain_call(PyObject *const given[SMXPY_NAMES]) {
  if (!PyArray_Check(given[SMXPY_QUERY])) return 0;
  int rank = PyArray_NDIM((PyArrayObject *)given[SMXPY_QUERY]);
  if (rank < 2 || rank > 4 || has_options(given)) return 0;
  for (int i = SMXPY_QUERY; i <= SMXPY_VALUE; i++)
    if (!is_plain(given[i], rank)) return 0;
  sizes query = sizes_of(given[SMXPY_QUERY]);
  sizes key = sizes_of(given[SMXPY_KEY]), value = sizes_of(given[SMXPY_VALUE]);
  return key.batch == query.batch && key.width == query.width && value.batch == key.batch &&
         value.heads == key.heads && value.length == key.length && key.heads > 0 &&
         query.heads % key.heads == 0 && is_plain_out(given, rank);
}

static PyObject *new_out(PyArrayObject *query, int rank, const int64_t *of_query, int64_t width) {
  npy_intp shape[4];
  for (int axis = 0; axis < rank - 1; axis++) shape[axis] = of_query[axis];
  shape[rank - 1] = width;
  return smxpy_new_like(query, rank, shape);
}

PyObject *smxpy_attention_out(const smxpy_operand *query, const smxpy_operand *value) {
  int rank = query->tensor.ndim;
  return new_out(query->array, rank, query->tensor.shape, value->tensor.shape[rank - 1]);
}

static const float *floats(PyObject *array) { return PyArray_DATA((PyArrayObject *)array); }

static smx_status plain_run(PyObject *const given[SMXPY_NAMES], float *out, int causal) {
  sizes q = sizes_of(given[SMXPY_QUERY]), k = sizes_of(given[SMXPY_KEY]);
  int64_t value_width = sizes_of(given[SMXPY_VALUE]).width;
  const float *query = floats(given[SMXPY_QUERY]);
  const float *key = floats(given[SMXPY_KEY]), *value = floats(given[SMXPY_VALUE]);
  double scores = (double)q.batch * (double)q.heads * (double)q.length * (double)k.length;
  if (smxpy_is_short(scores, (double)q.width, (double)value_width))
    return smx_attention_f32(query, key, value, out, q.batch, q.heads, k.heads, q.length, k.length,
                             q.width, value_width, causal);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = smx_attention_f32(query, key, value, out, q.batch, q.heads, k.heads, q.length, k.length,
                             q.width, value_width, causal);
  Py_END_ALLOW_THREADS;
  return status;
}

static PyObject *plain(PyObject *const given[SMXPY_NAMES], int causal) {
  PyObject *out = given[SMXPY_OUT];
  PyArrayObject *query = (PyArrayObject *)given[SMXPY_QUERY];
  if (smxpy_is_absent(out))
    out = new_out(query, PyArray_NDIM(query), (const int64_t *)PyArray_DIMS(query),
                  sizes_of(given[SMXPY_VALUE]).width);
  else
    Py_INCREF(out);
  if (!out) return NULL;
  smx_status status = plain_run(given, PyArray_DATA((PyArrayObject *)out), causal);
  if (status == SMX_OK) return out;
  Py_DECREF(out);
  return smxpy_raise(status);
}

/* -- general: arguments ------------------------------------------------------------------------ */

/* What one call takes and gives; all zero before it starts. */
typedef struct call {
  smxpy_scores scores;
  smxpy_operand past_key, past_value, block_table, query_starts, key_starts;
  smxpy_operand out, lse, weights;
  smx_precision precision;
  npy_intp rows[3]; /* the shape of lse: that of the scores but for the keys */
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->past_key,   &c->past_value, &c->block_table, &c->query_starts,
                                &c->key_starts, &c->out,        &c->lse,         &c->weights};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_scores_clear(&c->scores);
}

static int take_precision(call *c, PyObject *const given[SMXPY_NAMES]) {
  int precision = smxpy_choice(given[SMXPY_PRECISION], "precision", "exact", "fast");
  c->precision = precision ? SMX_FAST : SMX_EXACT;
  return precision < 0 ? -1 : 0;
}

static int take_past(smxpy_operand *operand, PyObject *given, const char *name) {
  return smxpy_is_absent(given) ? 0 : smxpy_floats(operand, given, name);
}

static int take_arrays(call *c, PyObject *const given[SMXPY_NAMES]) {
  if (take_past(&c->past_key, given[SMXPY_PAST_KEY], "past_key") < 0 ||
      take_past(&c->past_value, given[SMXPY_PAST_VALUE], "past_value") < 0 ||
      smxpy_integers(&c->block_table, given[SMXPY_BLOCK_TABLE], "block_table") < 0 ||
      smxpy_integers(&c->query_starts, given[SMXPY_QUERY_STARTS], "query_starts") < 0 ||
      smxpy_integers(&c->key_starts, given[SMXPY_KEY_STARTS], "key_starts") < 0)
    return -1;
  return smxpy_out(&c->out, given[SMXPY_OUT], "query");
}

/* -- general: shapes --------------------------------------------------------------------------- */

static int check_starts(const call *c) {
  const smxpy_operand *of_queries = &c->query_starts, *of_keys = &c->key_starts;
  if (!of_queries->array && !of_keys->array) return 0;
  if (!of_queries->array || !of_keys->array) {
    PyErr_SetString(PyExc_ValueError, "query_starts and key_starts must be given together");
    return -1;
  }
  if (of_queries->tensor.ndim != 1 || of_keys->tensor.ndim != 1)
    return smxpy_refuse("query_starts and key_starts of shapes %S and %S must have 1 axis each",
                        of_queries, of_keys);
  const smxpy_operand *query = &c->scores.query;
  if (query->tensor.ndim != 3)
    return smxpy_refuse(
        "query_starts needs 3 axes, those of packed entries, but query has shape %S", query, query);
  return 0;
}

static int check_ranks(const call *c) {
  const smxpy_operand *query = &c->scores.query;
  if (c->past_key.array && c->past_key.tensor.ndim != query->tensor.ndim)
    return smxpy_refuse("past_key of shape %S must have as many axes as query of shape %S",
                        &c->past_key, query);
  if (c->block_table.array && c->block_table.tensor.ndim != 2)
    return smxpy_refuse("block_table of shape %S must have 2 axes, of batch entries and of blocks",
                        &c->block_table, query);
  return check_starts(c);
}

static int is_packed(const call *c) { return c->query_starts.array != NULL; }

/* How many keys there are. Views that repeat their elements can have more than any memory; what
 * then wraps around the library refuses. */
static int64_t key_count(const call *c) {
  int axis = smxpy_length_axis(&c->scores);
  uint64_t count = (uint64_t)c->scores.key.tensor.shape[axis];
  if (c->block_table.array) count *= (uint64_t)c->block_table.tensor.shape[1];
  if (c->past_key.array) count += (uint64_t)c->past_key.tensor.shape[axis];
  return (int64_t)count;
}

static void find_packed_scores(call *c) {
  int64_t count = c->query_starts.tensor.shape[0];
  npy_intp *shape = c->scores.shape;
  shape[0] = count > 0 ? count - 1 : 0;
  shape[1] = c->rows[0];
  shape[2] = smxpy_longest(&c->query_starts);
  shape[3] = smxpy_longest(&c->key_starts);
  c->scores.rank = 4;
}

/* With the keys that do not stand in `key` alone. */
static void find_scores(call *c) {
  int last = c->scores.rank - 1;
  for (int i = 0; i < last; i++) c->rows[i] = c->scores.shape[i];
  if (is_packed(c)) find_packed_scores(c);
  else c->scores.shape[last] = key_count(c);
}

/* What rows hold that belong to no entry: the results of a query that sees no key. */
static int fill_unpacked_rows(const call *c, int is_fresh) {
  if (is_fresh) memset(PyArray_DATA(c->out.array), 0, (size_t)PyArray_NBYTES(c->out.array));
  if (!c->lse.array) return 0;
  PyObject *nothing = PyFloat_FromDouble(-INFINITY);
  int status = nothing ? PyArray_FillWithScalar(c->lse.array, nothing) : -1;
  Py_XDECREF(nothing);
  return status;
}

/* The results: fresh arrays in C order, and the caller's out. */
static int make_results(call *c, int with_lse, int with_weights) {
  const smxpy_operand *query = &c->scores.query;
  int rank = query->tensor.ndim;
  int sums = query->tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  int is_fresh = !c->out.array;
  if (is_fresh &&
      smxpy_operand_take(&c->out, smxpy_attention_out(query, &c->scores.value)) < 0)
    return -1;
  if (with_lse && smxpy_operand_take(&c->lse, PyArray_SimpleNew(rank - 1, c->rows, sums)) < 0)
    return -1;
  if (is_packed(c) && fill_unpacked_rows(c, is_fresh) < 0) return -1;
  if (!with_weights) return 0;
  /* Those of packed entries the library refuses, whatever their shape. */
  int of_weights = is_packed(c) ? 0 : c->scores.rank;
  return smxpy_operand_take(&c->weights, smxpy_new_like(query->array, of_weights, c->scores.shape));
}

/* -- general: the call ------------------------------------------------------------------------- */

static smx_status run_now(const call *c, const smx_tensor *out) {
  smx_attention_options options = smxpy_scores_options(&c->scores);
  options.precision = c->precision;
  options.past_key = smxpy_tensor(&c->past_key);
  options.past_value = smxpy_tensor(&c->past_value);
  options.block_table = smxpy_tensor(&c->block_table);
  options.query_starts = smxpy_tensor(&c->query_starts);
  options.key_starts = smxpy_tensor(&c->key_starts);
  options.lse = smxpy_tensor(&c->lse);
  options.weights = smxpy_tensor(&c->weights);
  const smxpy_scores *s = &c->scores;
  return smx_attention(&s->query.tensor, &s->key.tensor, &s->value.tensor, out, &options);
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  if (smxpy_scores_are_short(&c->scores)) return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_scores *s = &c->scores;
  const smxpy_operand *const inputs[] = {
      &s->query,      &s->key,         &s->value,        &c->past_key,
      &c->past_value, &s->mask.array,  &s->bias,         &s->alibi_slopes,
      &s->sinks,      &c->block_table, &c->query_starts, &c->key_starts};
  return smxpy_execute(run, c, &c->out, inputs, sizeof inputs / sizeof *inputs);
}

/* out alone, or a tuple of it and what else was asked for. */
PyObject *smxpy_attention_results(const smxpy_operand *out, const smxpy_operand *lse,
                                  const smxpy_operand *weights) {
  PyObject *first = (PyObject *)out->array, *last = (PyObject *)weights->array;
  if (lse->array && last) return PyTuple_Pack(3, first, lse->array, last);
  if (lse->array || last) return PyTuple_Pack(2, first, last ? last : (PyObject *)lse->array);
  Py_INCREF(first);
  return first;
}

static PyObject *general(PyObject *const given[SMXPY_NAMES]) {
  int with_lse = smxpy_flag(given[SMXPY_RETURN_LSE], "return_lse");
  if (with_lse < 0) return NULL;
  int with_weights = smxpy_flag(given[SMXPY_RETURN_WEIGHTS], "return_weights");
  if (with_weights < 0) return NULL;
  call c = {0};
  PyObject *result = NULL;
  smxpy_scores *s = &c.scores;
  if (take_precision(&c, given) == 0 && smxpy_scores_take(s, given) == 0 &&
      take_arrays(&c, given) == 0 && check_ranks(&c) == 0) {
    find_scores(&c);
    if (smxpy_structure_of(&s->mask, given, s->rank, s->shape) == 0 &&
        make_results(&c, with_lse, with_weights) == 0 && execute(&c) == 0)
      result = smxpy_attention_results(&c.out, &c.lse, &c.weights);
  }
  clear(&c);
  return result;
}

PyObject *smxpy_attention(PyObject *module, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
  /* Its own names follow one another up to the last of all. */
  static const smxpy_signature signature = {
      "attention", SMXPY_QUERY, 3, 3,
      ((UINT64_C(1) << SMXPY_NAMES) - (UINT64_C(1) << SMXPY_QUERY)) | 1 << SMXPY_MASK |
          1 << SMXPY_BIAS | 1 << SMXPY_OUT};
  PyObject *given[SMXPY_NAMES];
  if (smxpy_parse(PyModule_GetState(module), &signature, args, count, keywords, given) < 0)
    return NULL;
  /* Before shapes are looked at: a truth value may run code, and that may set them. */
  int causal = smxpy_flag(given[SMXPY_CAUSAL], "causal");
  if (causal < 0) return NULL;
  return is_plain_call(given) ? plain(given, causal) : general(given);
}
