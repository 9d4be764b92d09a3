/* attention.
 *
 * A call goes one of two ways. Plain: contiguous float32 arrays of 2, 3 or 4 axes and no option but
 * causal= and out=, the typed call of the library. General: everything else, as tensors. Both give
 * the same bits. */
#include "_core.h"

#include <math.h>
#include <string.h>

/* Up to this many products of two elements a call ends within microseconds, which is less than
 * other threads would gain from the GIL (_core_operations.c says what giving it up costs). */
static const double GIL_THRESHOLD = 1 << 16;

/* -- plain ----------------------------------------------------------------------------------- */

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

static int keeps_gil(double scores, double width, double value_width) {
  return scores * (width + value_width) <= GIL_THRESHOLD;
}

PyObject *smxpy_attention_out(PyArrayObject *query, PyArrayObject *value) {
  int rank = PyArray_NDIM(query);
  npy_intp shape[4];
  for (int axis = 0; axis < rank; axis++) shape[axis] = PyArray_DIM(query, axis);
  shape[rank - 1] = PyArray_DIM(value, rank - 1);
  return smxpy_new_like(query, rank, shape);
}

static const float *floats(PyObject *array) { return PyArray_DATA((PyArrayObject *)array); }

static smx_status plain_run(PyObject *const given[SMXPY_NAMES], float *out, int causal) {
  sizes q = sizes_of(given[SMXPY_QUERY]), k = sizes_of(given[SMXPY_KEY]);
  int64_t value_width = sizes_of(given[SMXPY_VALUE]).width;
  const float *query = floats(given[SMXPY_QUERY]);
  const float *key = floats(given[SMXPY_KEY]), *value = floats(given[SMXPY_VALUE]);
  double scores = (double)q.batch * (double)q.heads * (double)q.length * (double)k.length;
  if (keeps_gil(scores, (double)q.width, (double)value_width))
    return smx_attention_f32(query, key, value, out, q.batch, q.heads, k.heads, q.length, k.length,
                             q.width, value_width, causal);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = smx_attention_f32(query, key, value, out, q.batch, q.heads, k.heads, q.length, k.length,
                             q.width, value_width, causal);
  Py_END_ALLOW_THREADS;
  return status;
}

static PyObject *plain(PyObject *const given[SMXPY_NAMES]) {
  int causal = smxpy_flag(given[SMXPY_CAUSAL], "causal");
  if (causal < 0) return NULL;
  PyObject *out = given[SMXPY_OUT];
  if (smxpy_is_absent(out))
    out = smxpy_attention_out((PyArrayObject *)given[SMXPY_QUERY],
                              (PyArrayObject *)given[SMXPY_VALUE]);
  else
    Py_INCREF(out);
  if (!out) return NULL;
  smx_status status = plain_run(given, PyArray_DATA((PyArrayObject *)out), causal);
  if (status == SMX_OK) return out;
  Py_DECREF(out);
  return smxpy_raise(status);
}

/* -- general: arguments ---------------------------------------------------------------------- */

/* What one call takes and gives; all zero before it starts. */
typedef struct call {
  smxpy_operand query, key, value, past_key, past_value;
  smxpy_operand bias, alibi_slopes, sinks, block_table;
  smxpy_operand query_starts, key_starts;
  smxpy_mask mask;
  smxpy_operand out, lse, weights;
  smx_layout layout;
  smx_precision precision;
  int has_scale;
  double scale, softcap;
  npy_intp rows[3];   /* the shape of lse: query's but for its last axis, heads first */
  npy_intp scores[4]; /* their shape */
  int scores_rank;
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {
      &c->query,        &c->key,   &c->value,       &c->past_key,     &c->past_value, &c->bias,
      &c->alibi_slopes, &c->sinks, &c->block_table, &c->query_starts, &c->key_starts, &c->out,
      &c->lse,          &c->weights};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_mask_clear(&c->mask);
}

static int take_choices(call *c, PyObject *const given[SMXPY_NAMES]) {
  int layout = smxpy_choice(given[SMXPY_LAYOUT], "layout", "BHLD", "BLHD");
  if (layout < 0) return -1;
  int precision = smxpy_choice(given[SMXPY_PRECISION], "precision", "exact", "fast");
  if (precision < 0) return -1;
  c->layout = layout ? SMX_BLHD : SMX_BHLD;
  c->precision = precision ? SMX_FAST : SMX_EXACT;
  c->has_scale = smxpy_number(given[SMXPY_SCALE], "scale", &c->scale);
  if (c->has_scale < 0) return -1;
  return smxpy_number(given[SMXPY_SOFTCAP], "softcap", &c->softcap) < 0 ? -1 : 0;
}

static int take_past(smxpy_operand *operand, PyObject *given, const char *name) {
  return smxpy_is_absent(given) ? 0 : smxpy_floats(operand, given, name);
}

static int take_block_table(smxpy_operand *operand, PyObject *given) {
  if (smxpy_is_absent(given)) return 0;
  if (PyArray_CheckExact(given) && smxpy_dtype_of((PyArrayObject *)given) == SMX_INT32) {
    Py_INCREF(given);
    return smxpy_operand_take(operand, given);
  }
  PyObject *args[] = {given};
  return smxpy_operand_take(operand, smxpy_help("as_block_table", 1, args));
}

static int take_arrays(call *c, PyObject *const given[SMXPY_NAMES]) {
  if (smxpy_floats(&c->query, given[SMXPY_QUERY], "query") < 0 ||
      smxpy_floats(&c->key, given[SMXPY_KEY], "key") < 0 ||
      smxpy_floats(&c->value, given[SMXPY_VALUE], "value") < 0)
    return -1;
  smx_dtype dtype = c->query.tensor.dtype;
  if (take_past(&c->past_key, given[SMXPY_PAST_KEY], "past_key") < 0 ||
      take_past(&c->past_value, given[SMXPY_PAST_VALUE], "past_value") < 0 ||
      take_block_table(&c->block_table, given[SMXPY_BLOCK_TABLE]) < 0 ||
      smxpy_starts(&c->query_starts, given[SMXPY_QUERY_STARTS], "query_starts") < 0 ||
      smxpy_starts(&c->key_starts, given[SMXPY_KEY_STARTS], "key_starts") < 0 ||
      smxpy_bias(&c->bias, given[SMXPY_BIAS], dtype) < 0 ||
      smxpy_wide_floats(&c->alibi_slopes, given[SMXPY_ALIBI_SLOPES], "alibi_slopes", dtype) < 0 ||
      smxpy_wide_floats(&c->sinks, given[SMXPY_SINKS], "sinks", dtype) < 0)
    return -1;
  return smxpy_out(&c->out, given[SMXPY_OUT], "query");
}

/* -- general: shapes ------------------------------------------------------------------------- */

int smxpy_refuse(const char *format, const smxpy_operand *a, const smxpy_operand *b) {
  PyObject *first = PyArray_IntTupleFromIntp(a->tensor.ndim, PyArray_DIMS(a->array));
  PyObject *second = PyArray_IntTupleFromIntp(b->tensor.ndim, PyArray_DIMS(b->array));
  if (first && second) PyErr_Format(PyExc_ValueError, format, first, second);
  Py_XDECREF(first);
  Py_XDECREF(second);
  return -1;
}

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
  if (c->query.tensor.ndim != 3)
    return smxpy_refuse("query_starts needs 3 axes, those of packed entries, but query has shape %S",
                  &c->query, &c->query);
  return 0;
}

/* Only what the shapes of the results are made from; the rest is checked by the library. */
static int check_ranks(const call *c) {
  const smxpy_operand *query = &c->query;
  int rank = query->tensor.ndim;
  if (rank < 2 || rank > 4)
    return smxpy_refuse("query of shape %S must have 2, 3 or 4 axes", query, query);
  if (c->key.tensor.ndim != rank)
    return smxpy_refuse("key of shape %S must have as many axes as query of shape %S", &c->key, query);
  if (c->value.tensor.ndim != rank)
    return smxpy_refuse("value of shape %S must have as many axes as query of shape %S", &c->value,
                  query);
  if (c->past_key.array && c->past_key.tensor.ndim != rank)
    return smxpy_refuse("past_key of shape %S must have as many axes as query of shape %S", &c->past_key,
                  query);
  if (c->block_table.array && c->block_table.tensor.ndim != 2)
    return smxpy_refuse("block_table of shape %S must have 2 axes, of batch entries and of blocks",
                  &c->block_table, query);
  return check_starts(c);
}

static int is_packed(const call *c) { return c->query_starts.array != NULL; }

/* How many keys there are. Views that repeat their elements can have more than any memory; what
 * then wraps around the library refuses. */
static int64_t key_count(const call *c, int length_axis) {
  uint64_t count = (uint64_t)c->key.tensor.shape[length_axis];
  if (c->block_table.array) count *= (uint64_t)c->block_table.tensor.shape[1];
  if (c->past_key.array) count += (uint64_t)c->past_key.tensor.shape[length_axis];
  return (int64_t)count;
}

static void find_packed_scores(call *c) {
  int64_t count = c->query_starts.tensor.shape[0];
  c->scores[0] = count > 0 ? count - 1 : 0;
  c->scores[1] = c->rows[0];
  c->scores[2] = smxpy_longest(&c->query_starts);
  c->scores[3] = smxpy_longest(&c->key_starts);
  c->scores_rank = 4;
}

static void find_scores(call *c) {
  const int64_t *query = c->query.tensor.shape;
  int rank = c->query.tensor.ndim;
  int is_swapped = c->layout == SMX_BLHD && rank > 2;
  int length_axis = is_swapped ? rank - 3 : rank - 2, head_axis = is_swapped ? rank - 2 : rank - 3;
  npy_intp *axis = c->rows;
  if (rank == 4) *axis++ = query[0];
  if (rank >= 3) *axis++ = query[head_axis];
  *axis = query[length_axis];
  if (is_packed(c)) {
    find_packed_scores(c);
    return;
  }
  for (int i = 0; i < rank - 1; i++) c->scores[i] = c->rows[i];
  c->scores[rank - 1] = key_count(c, length_axis);
  c->scores_rank = rank;
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
  int rank = c->query.tensor.ndim;
  int sums = c->query.tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  int is_fresh = !c->out.array;
  if (is_fresh && smxpy_operand_take(&c->out, smxpy_attention_out(c->query.array, c->value.array)) < 0)
    return -1;
  if (with_lse && smxpy_operand_take(&c->lse, PyArray_SimpleNew(rank - 1, c->rows, sums)) < 0)
    return -1;
  if (is_packed(c) && fill_unpacked_rows(c, is_fresh) < 0) return -1;
  if (!with_weights) return 0;
  /* Those of packed entries the library refuses, whatever their shape. */
  int of_weights = is_packed(c) ? 0 : c->scores_rank;
  return smxpy_operand_take(&c->weights, smxpy_new_like(c->query.array, of_weights, c->scores));
}

/* -- general: the call ----------------------------------------------------------------------- */

static smx_status run_now(const call *c, const smx_tensor *out) {
  smx_attention_options options = {
      .size = sizeof options,
      .layout = c->layout,
      .precision = c->precision,
      .has_scale = c->has_scale,
      .scale = c->scale,
      .softcap = c->softcap,
      .mask = smxpy_tensor(&c->mask.array),
      .bias = smxpy_tensor(&c->bias),
      .structure = c->mask.conditions,
      .alibi_slopes = smxpy_tensor(&c->alibi_slopes),
      .sinks = smxpy_tensor(&c->sinks),
      .past_key = smxpy_tensor(&c->past_key),
      .past_value = smxpy_tensor(&c->past_value),
      .block_table = smxpy_tensor(&c->block_table),
      .query_starts = smxpy_tensor(&c->query_starts),
      .key_starts = smxpy_tensor(&c->key_starts),
      .lse = smxpy_tensor(&c->lse),
      .weights = smxpy_tensor(&c->weights),
  };
  return smx_attention(&c->query.tensor, &c->key.tensor, &c->value.tensor, out, &options);
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  int last = c->query.tensor.ndim - 1;
  double scores = 1;
  for (int axis = 0; axis < c->scores_rank; axis++) scores *= (double)c->scores[axis];
  if (keeps_gil(scores, (double)c->query.tensor.shape[last], (double)c->value.tensor.shape[last]))
    return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_operand *const inputs[] = {
      &c->query,      &c->key,         &c->value,        &c->past_key,
      &c->past_value, &c->mask.array,  &c->bias,         &c->alibi_slopes,
      &c->sinks,      &c->block_table, &c->query_starts, &c->key_starts};
  return smxpy_execute(run, c, &c->out, inputs, sizeof inputs / sizeof *inputs);
}

PyObject *smxpy_attention_results(const smxpy_operand *out, const smxpy_operand *lse,
                                  const smxpy_operand *weights) {
  if (lse->array && weights->array)
    return PyTuple_Pack(3, (PyObject *)out->array, lse->array, weights->array);
  if (lse->array || weights->array)
    return PyTuple_Pack(2, (PyObject *)out->array, lse->array ? lse->array : weights->array);
  Py_INCREF(out->array);
  return (PyObject *)out->array;
}

static PyObject *general(PyObject *const given[SMXPY_NAMES]) {
  int with_lse = smxpy_flag(given[SMXPY_RETURN_LSE], "return_lse");
  if (with_lse < 0) return NULL;
  int with_weights = smxpy_flag(given[SMXPY_RETURN_WEIGHTS], "return_weights");
  if (with_weights < 0) return NULL;
  call c = {0};
  PyObject *result = NULL;
  if (take_choices(&c, given) == 0 && take_arrays(&c, given) == 0 && check_ranks(&c) == 0) {
    find_scores(&c);
    if (smxpy_structure_of(&c.mask, given, c.scores_rank, c.scores) == 0 &&
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
  return is_plain_call(given) ? plain(given) : general(given);
}
