/* Gradients: of softmax, log_softmax and logsumexp, and the Jacobian of softmax. The functions of
 * _gradients.py, which has their signatures, call these with every argument in its place. */
#include "_core.h"

/* Up to this many elements a call ends within about 2 microseconds (_core_operations.c says what
 * giving the GIL up costs). */
enum { GIL_THRESHOLD = 4096 };

typedef enum { SOFTMAX_VJP, SOFTMAX_JVP, LOG_SOFTMAX_VJP, LOGSUMEXP_VJP, JACOBIAN } gradient;

/* The operands of one call; all zero before it starts. `y` is x for logsumexp_vjp, p for the
 * Jacobian. */
typedef struct call {
  gradient what;
  smxpy_operand y, dy, out, temperature, bias;
  smxpy_mask mask;
  smxpy_axes axes;
  double number; /* the temperature, when it is one number */
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->y, &c->dy, &c->out, &c->temperature, &c->bias};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_mask_clear(&c->mask);
}

static smx_status run_now(const call *c, const smx_tensor *out) {
  if (c->what == LOGSUMEXP_VJP) {
    smx_logsumexp_options options = {
        .size = sizeof options,
        .axes = c->axes.list,
        .axis_count = c->axes.count,
        .all_axes = c->axes.all,
        .mask = smxpy_tensor(&c->mask.array),
        .bias = smxpy_tensor(&c->bias),
        .structure = c->mask.conditions,
    };
    return smx_logsumexp_vjp(&c->y.tensor, &c->dy.tensor, out, &options);
  }
  smx_softmax_options options = {
      .size = sizeof options,
      .axes = c->axes.list,
      .axis_count = c->axes.count,
      .all_axes = c->axes.all,
      .temperature = smxpy_tensor(&c->temperature),
      .mask = smxpy_tensor(&c->mask.array),
      .structure = c->mask.conditions,
  };
  switch (c->what) {
    case SOFTMAX_VJP: return smx_softmax_vjp(&c->y.tensor, &c->dy.tensor, out, &options);
    case SOFTMAX_JVP: return smx_softmax_jvp(&c->y.tensor, &c->dy.tensor, out, &options);
    case LOG_SOFTMAX_VJP: return smx_log_softmax_vjp(&c->y.tensor, &c->dy.tensor, out, &options);
    default: return smx_softmax_jacobian(&c->y.tensor, out, &options);
  }
}

static smx_status run(const void *which, const smx_tensor *out) {
  const call *c = which;
  if (PyArray_SIZE(c->out.array) <= GIL_THRESHOLD) return run_now(c, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = run_now(c, out);
  Py_END_ALLOW_THREADS;
  return status;
}

static int execute(const call *c) {
  const smxpy_operand *const inputs[] = {&c->y, &c->dy, &c->mask.array, &c->bias, &c->temperature};
  return smxpy_execute(run, c, &c->out, inputs, sizeof inputs / sizeof *inputs);
}

/* The kept axes, then twice the length of a row. Axes that are out of range are left for the
 * library to refuse. */
static PyObject *new_matrices(const call *c) {
  npy_intp shape[SMX_MAX_DIMS + 2], length = 1;
  int rank = c->y.tensor.ndim, count = 0;
  for (int axis = 0; axis < rank; axis++) {
    int is_reduced = c->axes.all;
    for (int i = 0; i < c->axes.count; i++)
      is_reduced = is_reduced || c->axes.list[i] == axis || c->axes.list[i] == axis - rank;
    if (is_reduced) length *= c->y.tensor.shape[axis];
    else shape[count++] = c->y.tensor.shape[axis];
  }
  shape[count++] = length;
  shape[count++] = length;
  return smxpy_new_like(c->y.array, count, shape);
}

/* Fresh memory is laid out as y is, matrices in C order. */
static int make_out(call *c) {
  if (c->out.array) return 0;
  PyObject *out = c->what == JACOBIAN
                      ? new_matrices(c)
                      : PyArray_NewLikeArray(c->y.array, NPY_KEEPORDER, NULL, 0);
  return smxpy_operand_take(&c->out, out);
}

/* y, dy (None for the Jacobian), axis, temperature (for logsumexp_vjp bias), mask, out. */
enum { Y, DY, AXIS, TEMPERATURE, MASK, OUT, ARGUMENTS };

static PyObject *differentiate(gradient what, const char *y, const char *dy, PyObject *const *args,
                               Py_ssize_t count) {
  if (count != ARGUMENTS) {
    PyErr_Format(PyExc_TypeError, "takes %d arguments, but %zd were given", ARGUMENTS, count);
    return NULL;
  }
  call c = {.what = what};
  PyObject *result = NULL;
  int was_given = args[OUT] != Py_None;
  if (smxpy_axes_of(args[AXIS], &c.axes) == 0 && smxpy_floats(&c.y, args[Y], y) == 0 &&
      (!dy || smxpy_floats(&c.dy, args[DY], dy) == 0) &&
      (what == LOGSUMEXP_VJP
           ? smxpy_bias(&c.bias, args[TEMPERATURE], c.y.tensor.dtype)
           : smxpy_temperature(&c.temperature, args[TEMPERATURE], &c.number)) == 0 &&
      smxpy_mask_of(&c.mask, args[MASK], &c.y) == 0 && smxpy_out(&c.out, args[OUT], y) == 0 &&
      (what == JACOBIAN || smxpy_out_fits(&c.out, &c.y, y) == 0) && make_out(&c) == 0 &&
      execute(&c) == 0) {
    result = (PyObject *)c.out.array;
    c.out.array = NULL;
    if (!was_given) result = PyArray_Return((PyArrayObject *)result);
  }
  clear(&c);
  return result;
}

PyObject *smxpy_softmax_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return differentiate(SOFTMAX_VJP, "y", "dy", args, count);
}

PyObject *smxpy_softmax_jvp(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return differentiate(SOFTMAX_JVP, "y", "dx", args, count);
}

PyObject *smxpy_log_softmax_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return differentiate(LOG_SOFTMAX_VJP, "y", "dy", args, count);
}

PyObject *smxpy_logsumexp_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return differentiate(LOGSUMEXP_VJP, "x", "dy", args, count);
}

PyObject *smxpy_softmax_jacobian(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return differentiate(JACOBIAN, "p", NULL, args, count);
}
