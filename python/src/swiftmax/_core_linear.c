/* Cross-entropy of a linear layer. linear_cross_entropy of _linear.py, which has its signature,
 * calls this with every array made and of two axes at most. */
#include "_core.h"

enum { HIDDEN, WEIGHT, TARGETS, BIAS, LOSS, LSE, D_HIDDEN, D_WEIGHT, D_BIAS, ARRAYS };
enum { REDUCTION = ARRAYS, IGNORE_INDEX, LABEL_SMOOTHING, Z_LOSS, GRAD_SCALE, ARGUMENTS };

static const char *const names[ARRAYS] = {"hidden", "weight",   "targets",  "bias",  "loss",
                                          "lse",    "d_hidden", "d_weight", "d_bias"};

static int take_arrays(smxpy_operand all[ARRAYS], PyObject *const *args) {
  for (int i = 0; i < ARRAYS; i++) {
    if (args[i] == Py_None) continue;
    int status = i == TARGETS ? smxpy_integers(&all[i], args[i], names[i])
                              : smxpy_floats(&all[i], args[i], names[i]);
    if (status < 0) return -1;
  }
  return 0;
}

static int take_numbers(smx_linear_cross_entropy_options *options, PyObject *const *args) {
  options->reduction = (smx_reduction)PyLong_AsLong(args[REDUCTION]);
  options->has_ignore_index = 1;
  options->ignore_index = PyLong_AsLongLong(args[IGNORE_INDEX]);
  if (PyErr_Occurred()) return -1;
  if (smxpy_number(args[LABEL_SMOOTHING], "label_smoothing", &options->label_smoothing) < 0 ||
      smxpy_number(args[Z_LOSS], "z_loss", &options->z_loss) < 0 ||
      smxpy_number(args[GRAD_SCALE], "grad_scale", &options->grad_scale) < 0)
    return -1;
  return 0;
}

static const smx_tensor *tensor_of(const smxpy_operand *operand) {
  return operand->array ? &operand->tensor : NULL;
}

PyObject *smxpy_linear_cross_entropy(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (count != ARGUMENTS) {
    PyErr_Format(PyExc_TypeError, "takes %d arguments, but %zd were given", ARGUMENTS, count);
    return NULL;
  }
  smxpy_operand all[ARRAYS] = {{0}};
  smx_linear_cross_entropy_options options = {.size = sizeof options};
  smx_status status = -1;
  if (take_arrays(all, args) == 0 && take_numbers(&options, args) == 0) {
    options.bias = tensor_of(&all[BIAS]);
    options.lse = tensor_of(&all[LSE]);
    options.d_hidden = tensor_of(&all[D_HIDDEN]);
    options.d_weight = tensor_of(&all[D_WEIGHT]);
    options.d_bias = tensor_of(&all[D_BIAS]);
    Py_BEGIN_ALLOW_THREADS;
    status = smx_linear_cross_entropy(tensor_of(&all[HIDDEN]), tensor_of(&all[WEIGHT]),
                                      tensor_of(&all[TARGETS]), tensor_of(&all[LOSS]), &options);
    Py_END_ALLOW_THREADS;
    if (status > 0) smxpy_raise(status);
  }
  for (int i = 0; i < ARRAYS; i++) smxpy_operand_clear(&all[i]);
  if (status != SMX_OK) return NULL;
  Py_RETURN_NONE;
}
