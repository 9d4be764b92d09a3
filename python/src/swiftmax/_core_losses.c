/* cross_entropy and its kin, entropy and divergence; _losses.py and _divergences.py prepare their
 * arguments. */
#include "_core.h"

/* Up to this many elements a call ends within about 10 microseconds (_core_operations.c says what
 * giving the GIL up costs). */
enum { GIL_THRESHOLD = 4096 };

/* Where the arguments of _cross_entropy stand. */
enum {
  FUNCTION,
  LOGITS,
  TARGETS,
  AXIS,
  IGNORE_INDEX,
  REDUCTION,
  TEMPERATURE,
  LABEL_SMOOTHING,
  Z_LOSS,
  WEIGHT,
  MASK,
  GRAD_SCALE,
  OUT,
  RETURN_LSE,
  RETURN_GRAD,
  ARGUMENTS
};

typedef struct call {
  long function; /* 0 cross_entropy, 1 nll, 2 perplexity */
  smxpy_operand logits, targets, weight, mask, grad_scale;
  smxpy_operand loss, lse, grad;
  int32_t axis;
  smx_cross_entropy_options options;
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->logits,     &c->targets, &c->weight, &c->mask,
                                &c->grad_scale, &c->loss,    &c->lse,    &c->grad};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
}

/* An array as it is: its kind is checked in Python, its dtype by the library. */
static int take(smxpy_operand *operand, PyObject *given) {
  if (given == Py_None) return 0;
  Py_INCREF(given);
  return smxpy_operand_take(operand, given);
}

/* A fresh array of float64 for float64, else float32, in the shape of x without an axis, or with no
 * axis. An axis that is out of range is left for the library to refuse. */
static int take_rows(smxpy_operand *operand, const smxpy_operand *x, int32_t axis, int is_scalar) {
  npy_intp shape[SMX_MAX_DIMS];
  int count = 0, rank = x->tensor.ndim;
  for (int i = 0; i < rank && !is_scalar; i++)
    if (i != axis && i != axis + rank) shape[count++] = x->tensor.shape[i];
  int type = x->tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  return smxpy_operand_take(operand, PyArray_SimpleNew(count, shape, type));
}

static smx_status run_now(const call *c, const smx_tensor *grad) {
  smx_cross_entropy_options options = c->options;
  options.size = sizeof options;
  options.axis = &c->axis;
  options.has_ignore_index = 1;
  options.weight = c->weight.array ? &c->weight.tensor : NULL;
  options.mask = c->mask.array ? &c->mask.tensor : NULL;
  options.grad_scale = c->grad_scale.array ? &c->grad_scale.tensor : NULL;
  options.lse = c->lse.array ? &c->lse.tensor : NULL;
  options.grad = grad;
  const smx_tensor *x = &c->logits.tensor, *y = &c->targets.tensor, *loss = &c->loss.tensor;
  if (c->function == 1) return smx_nll(x, y, loss, &options);
  if (c->function == 2) return smx_perplexity(x, y, loss, &options);
  return smx_cross_entropy(x, y, loss, &options);
}

static smx_status run(const void *which, const smx_tensor *grad) {
  const call *c = which;
  if (PyArray_SIZE(c->logits.array) <= GIL_THRESHOLD) return run_now(c, grad);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, grad);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  if (!c->grad.array) {
    smx_status status = run(c, NULL);
    if (status != SMX_OK) smxpy_raise(status);
    return status == SMX_OK ? 0 : -1;
  }
  const smxpy_operand *const inputs[] = {&c->logits, &c->targets, &c->weight, &c->mask,
                                         &c->grad_scale};
  return smxpy_execute(run, c, &c->grad, inputs, sizeof inputs / sizeof *inputs);
}

static int take_numbers(call *c, PyObject *const *args) {
  c->function = PyLong_AsLong(args[FUNCTION]);
  c->axis = (int32_t)PyLong_AsLong(args[AXIS]);
  c->options.ignore_index = PyLong_AsLongLong(args[IGNORE_INDEX]);
  c->options.reduction = (smx_reduction)PyLong_AsLong(args[REDUCTION]);
  c->options.temperature = PyFloat_AsDouble(args[TEMPERATURE]);
  c->options.label_smoothing = PyFloat_AsDouble(args[LABEL_SMOOTHING]);
  c->options.z_loss = PyFloat_AsDouble(args[Z_LOSS]);
  return PyErr_Occurred() ? -1 : 0;
}

static int take_arrays(call *c, PyObject *const *args) {
  if (take(&c->logits, args[LOGITS]) < 0 || take(&c->targets, args[TARGETS]) < 0 ||
      take(&c->weight, args[WEIGHT]) < 0 || take(&c->mask, args[MASK]) < 0 ||
      take(&c->grad_scale, args[GRAD_SCALE]) < 0 || smxpy_out(&c->grad, args[OUT], "logits") < 0 ||
      smxpy_out_fits(&c->grad, &c->logits, "logits") < 0)
    return -1;
  if (take_rows(&c->loss, &c->logits, c->axis, c->options.reduction != SMX_NONE) < 0) return -1;
  if (args[RETURN_LSE] == Py_True && take_rows(&c->lse, &c->logits, c->axis, 0) < 0) return -1;
  if (args[RETURN_GRAD] != Py_True || c->grad.array) return 0;
  return smxpy_operand_take(&c->grad,
                            PyArray_NewLikeArray(c->logits.array, NPY_KEEPORDER, NULL, 0));
}

/* The array as a result: one of no axes as a scalar. */
static PyObject *give(smxpy_operand *operand) {
  PyArrayObject *array = operand->array;
  operand->array = NULL;
  if (array) return PyArray_Return(array);
  Py_RETURN_NONE;
}

/* What Python asked for as out comes back as it is, even without axes. */
static PyObject *give_array(smxpy_operand *operand) {
  PyObject *array = (PyObject *)operand->array;
  operand->array = NULL;
  if (array) return array;
  Py_RETURN_NONE;
}

static int has_count(const char *function, Py_ssize_t count, int expected) {
  if (count == expected) return 1;
  PyErr_Format(PyExc_TypeError, "%s takes %d arguments, but %zd were given", function, expected,
               count);
  return 0;
}

PyObject *smxpy_cross_entropy(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (!has_count("_cross_entropy", count, ARGUMENTS)) return NULL;
  call c = {0};
  PyObject *result = NULL;
  if (take_numbers(&c, args) == 0 && take_arrays(&c, args) == 0 && execute(&c) == 0) {
    PyObject *loss = give(&c.loss), *lse = give(&c.lse), *grad = give_array(&c.grad);
    if (loss && lse && grad) result = PyTuple_Pack(3, loss, lse, grad);
    Py_XDECREF(loss);
    Py_XDECREF(lse);
    Py_XDECREF(grad);
  }
  clear(&c);
  return result;
}

/* -- entropy and divergence -------------------------------------------------------------------- */

/* p, q or None, axis, whether p, whether q are logits. */
PyObject *smxpy_divergence(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (!has_count("_divergence", count, 5)) return NULL;
  smxpy_operand p = {0}, q = {0}, out = {0};
  PyObject *result = NULL;
  int32_t axis = (int32_t)PyLong_AsLong(args[2]);
  smx_divergence_options options = {.size = sizeof options,
                                    .axis = &axis,
                                    .p_is_logits = args[3] == Py_True,
                                    .q_is_logits = args[4] == Py_True};
  if (!PyErr_Occurred() && take(&p, args[0]) == 0 && take(&q, args[1]) == 0 &&
      take_rows(&out, &p, axis, 0) == 0) {
    smx_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = q.array ? smx_kl_divergence(&p.tensor, &q.tensor, &out.tensor, &options)
                     : smx_entropy(&p.tensor, &out.tensor, &options);
    Py_END_ALLOW_THREADS;
    result = status == SMX_OK ? give(&out) : smxpy_raise(status);
  }
  smxpy_operand_clear(&p);
  smxpy_operand_clear(&q);
  smxpy_operand_clear(&out);
  return result;
}
