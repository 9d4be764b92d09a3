/* softmax, log_softmax, logsumexp.
 *
 * A call goes one of two ways. Plain: rows of one contiguous array along its last axis and no
 * option, the typed calls of the library. General: everything else, as tensors. Both give the same
 * bits. */
#include "_core.h"

typedef enum { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP } operation;

/* Below this many elements a call ends within about 2 microseconds, which is less than other
 * threads would gain: giving the GIL up and taking it again costs 0.05, and under contention may
 * cost a switch interval of 5 milliseconds. */
enum { GIL_THRESHOLD = 4096 };

/* -- plain ------------------------------------------------------------------------------------- */

static smx_status plain_rows(operation what, smx_dtype dtype, const void *x, void *out,
                             int64_t rows, int64_t cols) {
  switch (what * 32 + dtype) {
    case SOFTMAX * 32 + SMX_FLOAT16: return smx_softmax_f16(x, out, rows, cols);
    case SOFTMAX * 32 + SMX_BFLOAT16: return smx_softmax_bf16(x, out, rows, cols);
    case SOFTMAX * 32 + SMX_FLOAT32: return smx_softmax_f32(x, out, rows, cols);
    case SOFTMAX * 32 + SMX_FLOAT64: return smx_softmax_f64(x, out, rows, cols);
    case LOG_SOFTMAX * 32 + SMX_FLOAT16: return smx_log_softmax_f16(x, out, rows, cols);
    case LOG_SOFTMAX * 32 + SMX_BFLOAT16: return smx_log_softmax_bf16(x, out, rows, cols);
    case LOG_SOFTMAX * 32 + SMX_FLOAT32: return smx_log_softmax_f32(x, out, rows, cols);
    case LOG_SOFTMAX * 32 + SMX_FLOAT64: return smx_log_softmax_f64(x, out, rows, cols);
    case LOGSUMEXP * 32 + SMX_FLOAT16: return smx_logsumexp_f16(x, out, rows, cols);
    case LOGSUMEXP * 32 + SMX_BFLOAT16: return smx_logsumexp_bf16(x, out, rows, cols);
    case LOGSUMEXP * 32 + SMX_FLOAT32: return smx_logsumexp_f32(x, out, rows, cols);
    case LOGSUMEXP * 32 + SMX_FLOAT64: return smx_logsumexp_f64(x, out, rows, cols);
    default: return SMX_ERROR_DTYPE;
  }
}

static int is_plain(PyObject *given) {
  if (!PyArray_CheckExact(given)) return 0;
  PyArrayObject *x = (PyArrayObject *)given;
  const int needed = NPY_ARRAY_C_CONTIGUOUS | NPY_ARRAY_ALIGNED;
  return PyArray_NDIM(x) > 0 && (PyArray_FLAGS(x) & needed) == needed &&
         smxpy_dtype_of(x) >= SMX_FLOAT16;
}

/* Whether a call with keywords asks for no more: x, and perhaps an axis that is the last. */
static int is_plain_call(PyObject *const given[SMXPY_NAMES]) {
  for (int i = SMXPY_AXIS + 1; i < SMXPY_QUERY; i++)
    if (given[i]) return 0;
  if (!is_plain(given[SMXPY_X])) return 0;
  if (!given[SMXPY_AXIS]) return 1;
  if (!PyLong_Check(given[SMXPY_AXIS])) return 0;
  int overflow;
  long axis = PyLong_AsLongAndOverflow(given[SMXPY_AXIS], &overflow);
  return !overflow && (axis == -1 || axis == PyArray_NDIM((PyArrayObject *)given[SMXPY_X]) - 1);
}

static PyObject *plain(operation what, PyArrayObject *x) {
  int rank = PyArray_NDIM(x);
  npy_intp *shape = PyArray_DIMS(x);
  int64_t rows = 1, cols = shape[rank - 1];
  for (int axis = 0; axis < rank - 1; axis++) rows *= shape[axis];
  PyObject *out = smxpy_new_like(x, what == LOGSUMEXP ? rank - 1 : rank, shape);
  if (!out) return NULL;
  smx_dtype dtype = smxpy_dtype_of(x);
  void *from = PyArray_DATA(x), *to = PyArray_DATA((PyArrayObject *)out);
  smx_status status;
  if (rows * cols > GIL_THRESHOLD) {
    Py_BEGIN_ALLOW_THREADS;
    status = plain_rows(what, dtype, from, to, rows, cols);
    Py_END_ALLOW_THREADS;
  } else {
    status = plain_rows(what, dtype, from, to, rows, cols);
  }
  if (status != SMX_OK) {
    Py_DECREF(out);
    return smxpy_raise(status);
  }
  return what == LOGSUMEXP ? PyArray_Return((PyArrayObject *)out) : out;
}

/* -- general ----------------------------------------------------------------------------------- */

/* The operands of one call; all zero before it starts. */
typedef struct call {
  operation what;
  smxpy_operand x, out, bias, temperature, weights, sign;
  smxpy_mask mask;
  smxpy_axes axes;
  double number; /* the temperature, when it is one number */
} call;

static void clear(call *c) {
  smxpy_operand_clear(&c->x);
  smxpy_operand_clear(&c->out);
  smxpy_operand_clear(&c->bias);
  smxpy_operand_clear(&c->temperature);
  smxpy_operand_clear(&c->weights);
  smxpy_operand_clear(&c->sign);
  smxpy_mask_clear(&c->mask);
}

static smx_status run_now(const call *c, const smx_tensor *out) {
  if (c->what == LOGSUMEXP) {
    smx_logsumexp_options options = {
        .size = sizeof options,
        .axes = c->axes.list,
        .axis_count = c->axes.count,
        .all_axes = c->axes.all,
        .weights = smxpy_tensor(&c->weights),
        .mask = smxpy_tensor(&c->mask.array),
        .bias = smxpy_tensor(&c->bias),
        .structure = c->mask.conditions,
        .sign = smxpy_tensor(&c->sign),
    };
    return smx_logsumexp(&c->x.tensor, out, &options);
  }
  smx_softmax_options options = {
      .size = sizeof options,
      .axes = c->axes.list,
      .axis_count = c->axes.count,
      .all_axes = c->axes.all,
      .temperature = smxpy_tensor(&c->temperature),
      .mask = smxpy_tensor(&c->mask.array),
      .bias = smxpy_tensor(&c->bias),
      .structure = c->mask.conditions,
  };
  return (c->what == SOFTMAX ? smx_softmax : smx_log_softmax)(&c->x.tensor, out, &options);
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  if (PyArray_SIZE(c->x.array) <= GIL_THRESHOLD) return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_operand *inputs[] = {&c->x, &c->mask.array, &c->bias, &c->temperature, &c->weights};
  return smxpy_execute(run, c, &c->out, inputs, 5);
}

/* softmax and log_softmax keep the shape of x; fresh memory is laid out as x is. */
static int make_out(call *c) {
  if (c->out.array) return 0;
  return smxpy_operand_take(&c->out, PyArray_NewLikeArray(c->x.array, NPY_KEEPORDER, NULL, 0));
}

/* The result for a caller: what was given as out as it is, a fresh array of no axes as a scalar. */
static PyObject *take_result(smxpy_operand *operand, int was_given) {
  PyArrayObject *array = operand->array;
  operand->array = NULL;
  return was_given ? (PyObject *)array : PyArray_Return(array);
}

static PyObject *softmax(operation what, const smxpy_signature *signature, PyObject *module,
                         PyObject *const *args, Py_ssize_t count, PyObject *keywords) {
  if (count == 1 && !keywords && is_plain(args[0])) return plain(what, (PyArrayObject *)args[0]);
  PyObject *given[SMXPY_NAMES];
  if (smxpy_parse(PyModule_GetState(module), signature, args, count, keywords, given) < 0)
    return NULL;
  if (is_plain_call(given)) return plain(what, (PyArrayObject *)given[SMXPY_X]);
  call c = {.what = what};
  PyObject *result = NULL;
  int was_given = !smxpy_is_absent(given[SMXPY_OUT]);
  if (smxpy_axes_of(given[SMXPY_AXIS], &c.axes) == 0 &&
      smxpy_floats(&c.x, given[SMXPY_X], "x") == 0 &&
      smxpy_temperature(&c.temperature, given[SMXPY_TEMPERATURE], &c.number) == 0 &&
      smxpy_mask_of(&c.mask, given[SMXPY_MASK], &c.x) == 0 &&
      smxpy_bias(&c.bias, given[SMXPY_BIAS], c.x.tensor.dtype) == 0 &&
      smxpy_out(&c.out, given[SMXPY_OUT], "x") == 0 && make_out(&c) == 0 && execute(&c) == 0)
    result = take_result(&c.out, was_given);
  clear(&c);
  return result;
}

PyObject *smxpy_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count,
                        PyObject *keywords) {
  static const smxpy_signature signature = {"softmax", SMXPY_X, 2, 1,
                                            1 << SMXPY_X | 1 << SMXPY_AXIS |
                                                1 << SMXPY_TEMPERATURE | 1 << SMXPY_MASK |
                                                1 << SMXPY_BIAS | 1 << SMXPY_OUT};
  return softmax(SOFTMAX, &signature, module, args, count, keywords);
}

PyObject *smxpy_log_softmax(PyObject *module, PyObject *const *args, Py_ssize_t count,
                            PyObject *keywords) {
  static const smxpy_signature signature = {"log_softmax", SMXPY_X, 2, 1,
                                            1 << SMXPY_X | 1 << SMXPY_AXIS |
                                                1 << SMXPY_TEMPERATURE | 1 << SMXPY_MASK |
                                                1 << SMXPY_BIAS | 1 << SMXPY_OUT};
  return softmax(LOG_SOFTMAX, &signature, module, args, count, keywords);
}

/* -- logsumexp --------------------------------------------------------------------------------- */

/* Shape of the sums. Axes that are out of range are left for the library to refuse. */
static int reduced_shape(const call *c, int keepdims, npy_intp shape[SMX_MAX_DIMS]) {
  int rank = c->x.tensor.ndim, count = 0;
  for (int axis = 0; axis < rank; axis++) {
    int is_reduced = c->axes.all;
    for (int i = 0; i < c->axes.count; i++)
      is_reduced = is_reduced || c->axes.list[i] == axis || c->axes.list[i] == axis - rank;
    if (!is_reduced || keepdims) shape[count++] = is_reduced ? 1 : c->x.tensor.shape[axis];
  }
  return count;
}

static int refuse_out(const call *c, int keepdims) {
  PyObject *out = PyObject_GetAttrString((PyObject *)c->out.array, "shape");
  PyObject *x = PyObject_GetAttrString((PyObject *)c->x.array, "shape");
  if (out && x)
    PyErr_Format(PyExc_ValueError, "out of shape %S does not fit x of shape %S with keepdims=%s",
                 out, x, keepdims ? "True" : "False");
  Py_XDECREF(out);
  Py_XDECREF(x);
  return -1;
}

/* out and, on request, the signs: fresh, or the caller's of exactly the shape that is due. */
static int make_sums(call *c, int keepdims, int with_sign) {
  npy_intp shape[SMX_MAX_DIMS];
  int rank = reduced_shape(c, keepdims, shape);
  if (!c->out.array && smxpy_operand_take(&c->out, smxpy_new_like(c->x.array, rank, shape)) < 0)
    return -1;
  /* The library takes the sums with or without their axes of length 1; here keepdims says which. */
  int has_all_axes = c->out.tensor.ndim == c->x.tensor.ndim;
  if (rank != c->out.tensor.ndim && has_all_axes != keepdims) return refuse_out(c, keepdims);
  if (with_sign && smxpy_operand_take(&c->sign, smxpy_new_like(c->x.array, rank, shape)) < 0)
    return -1;
  return 0;
}

PyObject *smxpy_logsumexp(PyObject *module, PyObject *const *args, Py_ssize_t count,
                          PyObject *keywords) {
  if (count == 1 && !keywords && is_plain(args[0]))
    return plain(LOGSUMEXP, (PyArrayObject *)args[0]);
  static const smxpy_signature signature = {
      "logsumexp", SMXPY_X, 2, 1,
      1 << SMXPY_X | 1 << SMXPY_AXIS | 1 << SMXPY_B | 1 << SMXPY_MASK | 1 << SMXPY_BIAS |
          1 << SMXPY_KEEPDIMS | 1 << SMXPY_RETURN_SIGN | 1 << SMXPY_OUT};
  PyObject *given[SMXPY_NAMES];
  if (smxpy_parse(PyModule_GetState(module), &signature, args, count, keywords, given) < 0)
    return NULL;
  if (is_plain_call(given)) return plain(LOGSUMEXP, (PyArrayObject *)given[SMXPY_X]);
  int keepdims = smxpy_flag(given[SMXPY_KEEPDIMS], "keepdims");
  if (keepdims < 0) return NULL;
  int with_sign = smxpy_flag(given[SMXPY_RETURN_SIGN], "return_sign");
  if (with_sign < 0) return NULL;
  call c = {.what = LOGSUMEXP};
  PyObject *result = NULL;
  int was_given = !smxpy_is_absent(given[SMXPY_OUT]);
  if (smxpy_axes_of(given[SMXPY_AXIS], &c.axes) == 0 &&
      smxpy_floats(&c.x, given[SMXPY_X], "x") == 0 &&
      smxpy_weights(&c.weights, given[SMXPY_B], &c.x) == 0 &&
      smxpy_mask_of(&c.mask, given[SMXPY_MASK], &c.x) == 0 &&
      smxpy_bias(&c.bias, given[SMXPY_BIAS], c.x.tensor.dtype) == 0 &&
      smxpy_out(&c.out, given[SMXPY_OUT], "x") == 0 && make_sums(&c, keepdims, with_sign) == 0 &&
      execute(&c) == 0)
    result = take_result(&c.out, was_given);
  if (result && with_sign) {
    PyObject *sign = take_result(&c.sign, 0);
    PyObject *pair = sign ? PyTuple_Pack(2, result, sign) : NULL;
    Py_XDECREF(sign);
    Py_DECREF(result);
    result = pair;
  }
  clear(&c);
  return result;
}
