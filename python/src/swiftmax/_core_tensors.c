/* Arrays: which dtype the library knows them by, how they are handed over without a copy, and how
 * a result is written where it may overlap an input. */
#include "_core.h"

#include <string.h>

/* -- dtypes ------------------------------------------------------------------------------------ */

/* Whether an array's elements are ml_dtypes' bfloat16. The type object decides: a dtype of two
 * bytes named "<V2" may be anything. Without ml_dtypes imported there can be no such array. */
static int is_bfloat16(PyArrayObject *array) {
  PyObject *name = PyUnicode_InternFromString("ml_dtypes");
  PyObject *module = name ? PyImport_GetModule(name) : NULL;
  PyObject *type = module ? PyObject_GetAttrString(module, "bfloat16") : NULL;
  int result = type && type == (PyObject *)PyArray_DESCR(array)->typeobj;
  Py_XDECREF(type);
  Py_XDECREF(module);
  Py_XDECREF(name);
  PyErr_Clear();
  return result;
}

smx_dtype smxpy_dtype_of(PyArrayObject *array) {
  if (!PyArray_ISNOTSWAPPED(array)) return 0;
  switch (PyArray_TYPE(array)) {
    case NPY_FLOAT: return SMX_FLOAT32;
    case NPY_DOUBLE: return SMX_FLOAT64;
    case NPY_HALF: return SMX_FLOAT16;
    case NPY_BOOL: return SMX_BOOL;
    case NPY_INT:
    case NPY_LONG:
    case NPY_LONGLONG: return PyArray_ITEMSIZE(array) == 4 ? SMX_INT32 : SMX_INT64;
    default: break;
  }
  return PyArray_TYPE(array) >= NPY_USERDEF && is_bfloat16(array) ? SMX_BFLOAT16 : 0;
}

static int is_float(smx_dtype dtype) { return dtype >= SMX_FLOAT16; }
static int is_narrow(smx_dtype dtype) { return dtype == SMX_FLOAT16 || dtype == SMX_BFLOAT16; }

/* -- operands ---------------------------------------------------------------------------------- */

const smx_tensor *smxpy_tensor(const smxpy_operand *operand) {
  return operand->tensor.data ? &operand->tensor : NULL;
}

smx_tensor smxpy_tensor_of(PyArrayObject *array) {
  return (smx_tensor){
      .data = PyArray_DATA(array),
      .dtype = smxpy_dtype_of(array),
      .ndim = PyArray_NDIM(array),
      .shape = (const int64_t *)PyArray_DIMS(array),
      .strides = (const int64_t *)PyArray_STRIDES(array),
  };
}

int smxpy_operand_take(smxpy_operand *operand, PyObject *object) {
  if (!object) return -1;
  if (!PyArray_Check(object)) {
    Py_DECREF(object);
    PyErr_SetString(PyExc_SystemError, "swiftmax: a helper returned no array");
    return -1;
  }
  smx_tensor tensor = smxpy_tensor_of((PyArrayObject *)object);
  int64_t *own = operand->lengths;
  if (tensor.ndim > SMXPY_USUAL_AXES) {
    own = operand->more = PyMem_Malloc(2 * (size_t)tensor.ndim * sizeof *own);
    if (!own) {
      Py_DECREF(object);
      PyErr_NoMemory();
      return -1;
    }
  }
  for (int axis = 0; axis < tensor.ndim; axis++) {
    own[axis] = tensor.shape[axis];
    own[tensor.ndim + axis] = tensor.strides[axis];
  }
  tensor.shape = own;
  tensor.strides = own + tensor.ndim;
  operand->array = (PyArrayObject *)object;
  operand->tensor = tensor;
  return 0;
}

void smxpy_operand_clear(smxpy_operand *operand) {
  Py_CLEAR(operand->array);
  PyMem_Free(operand->more);
  operand->more = NULL;
}

static int take_borrowed(smxpy_operand *operand, PyObject *array) {
  Py_INCREF(array);
  return smxpy_operand_take(operand, array);
}

/* Its dtype if the object is an array that can be handed over as it is, else 0. Only the exact
 * type: a subclass may mean something by its elements (numpy.ma does), which is for the helpers to
 * judge. */
static smx_dtype ready_dtype(PyObject *given) {
  return PyArray_CheckExact(given) ? smxpy_dtype_of((PyArrayObject *)given) : 0;
}

int smxpy_floats(smxpy_operand *operand, PyObject *given, const char *name) {
  if (is_float(ready_dtype(given))) return take_borrowed(operand, given);
  PyObject *text = PyUnicode_FromString(name);
  if (!text) return -1;
  PyObject *args[] = {given, text};
  PyObject *array = smxpy_help("as_float", 2, args);
  Py_DECREF(text);
  return smxpy_operand_take(operand, array);
}

int smxpy_wide_floats(smxpy_operand *operand, PyObject *given, const char *name, smx_dtype x) {
  if (smxpy_is_absent(given)) return 0;
  int is_wide = x == SMX_FLOAT64;
  if (ready_dtype(given) == (is_wide ? SMX_FLOAT64 : SMX_FLOAT32))
    return take_borrowed(operand, given);
  PyObject *text = PyUnicode_FromString(name);
  if (!text) return -1;
  PyObject *args[] = {given, text, is_wide ? Py_True : Py_False};
  PyObject *array = smxpy_help("as_wide", 3, args);
  Py_DECREF(text);
  return smxpy_operand_take(operand, array);
}

int smxpy_out(smxpy_operand *operand, PyObject *given, const char *x) {
  if (smxpy_is_absent(given)) return 0;
  if (!PyArray_Check(given)) {
    PyErr_Format(PyExc_TypeError, "out must be a NumPy array, but is a %S",
                 (PyObject *)Py_TYPE(given));
    return -1;
  }
  PyArrayObject *array = (PyArrayObject *)given;
  if (!PyArray_ISWRITEABLE(array)) {
    PyErr_SetString(PyExc_ValueError, "out is read-only");
    return -1;
  }
  if (!smxpy_dtype_of(array)) {
    PyErr_Format(PyExc_TypeError,
                 "out has dtype %R, but must have the dtype of %s in native byte order",
                 (PyObject *)PyArray_DESCR(array), x);
    return -1;
  }
  return take_borrowed(operand, given);
}

int smxpy_bias(smxpy_operand *operand, PyObject *given, smx_dtype x) {
  if (smxpy_is_absent(given)) return 0;
  smx_dtype dtype = ready_dtype(given);
  if (dtype == x || (dtype == SMX_FLOAT32 && is_narrow(x))) return take_borrowed(operand, given);
  PyObject *is_wide = PyBool_FromLong(x == SMX_FLOAT64);
  PyObject *args[] = {given, is_wide};
  PyObject *array = smxpy_help("as_bias", 2, args);
  Py_DECREF(is_wide);
  return smxpy_operand_take(operand, array);
}

int smxpy_lse(smxpy_operand *operand, PyObject *given, const char *name, smx_dtype out) {
  /* smxpy_floats refuses None, of which smxpy_wide_floats would make nothing. */
  if (given == Py_None) return smxpy_floats(operand, given, name);
  return smxpy_wide_floats(operand, given, name, out);
}

int smxpy_integers(smxpy_operand *operand, PyObject *given, const char *name) {
  if (smxpy_is_absent(given)) return 0;
  smx_dtype dtype = ready_dtype(given);
  if (dtype == SMX_INT32 || dtype == SMX_INT64) return take_borrowed(operand, given);
  PyObject *text = PyUnicode_FromString(name);
  if (!text) return -1;
  PyObject *args[] = {given, text};
  PyObject *array = smxpy_help("as_int64_array", 2, args);
  Py_DECREF(text);
  return smxpy_operand_take(operand, array);
}

static int64_t start(const smx_tensor *starts, int64_t i) {
  /* Copied, since an array need not be aligned. */
  const char *at = (const char *)starts->data + i * starts->strides[0];
  int32_t narrow;
  int64_t wide;
  if (starts->dtype == SMX_INT32) return memcpy(&narrow, at, sizeof narrow), narrow;
  return memcpy(&wide, at, sizeof wide), wide;
}

int64_t smxpy_longest(const smxpy_operand *starts) {
  uint64_t most = 0;
  for (int64_t i = 1; i < starts->tensor.shape[0]; i++) {
    uint64_t length = (uint64_t)start(&starts->tensor, i) - (uint64_t)start(&starts->tensor, i - 1);
    if (length <= INT64_MAX && length > most) most = length;
  }
  return (int64_t)most;
}

int smxpy_temperature(smxpy_operand *operand, PyObject *given, double *value) {
  if (!given) return 0;
  if (PyFloat_Check(given) || PyLong_Check(given)) {
    if (smxpy_number(given, "temperature", value) < 0) return -1;
    if (*value != 1) operand->tensor = (smx_tensor){.data = value, .dtype = SMX_FLOAT64};
    return 0;
  }
  return smxpy_floats(operand, given, "temperature");
}

int smxpy_weights(smxpy_operand *operand, PyObject *given, smxpy_operand *x) {
  if (smxpy_is_absent(given)) return 0;
  PyObject *args[] = {given, (PyObject *)x->array};
  PyObject *pair = smxpy_help("as_weights", 2, args);
  if (!pair) return -1;
  PyObject *weights = PyTuple_GetItem(pair, 0), *wider = PyTuple_GetItem(pair, 1);
  int status = -1;
  if (weights && wider) {
    smxpy_operand_clear(x);
    status = take_borrowed(x, wider) < 0 || take_borrowed(operand, weights) < 0 ? -1 : 0;
  }
  Py_DECREF(pair);
  return status;
}

/* -- results ----------------------------------------------------------------------------------- */

PyObject *smxpy_new_like(PyArrayObject *x, int rank, const npy_intp *shape) {
  PyArray_Descr *descr = PyArray_DESCR(x);
  Py_INCREF((PyObject *)descr);
  return PyArray_NewFromDescr(&PyArray_Type, descr, rank, shape, NULL, NULL, 0, NULL);
}

/* The bytes from the lowest to behind the highest element. */
static void extent(const smx_tensor *t, int64_t itemsize, uintptr_t *lower, uintptr_t *upper) {
  *lower = (uintptr_t)t->data;
  *upper = (uintptr_t)t->data + (uintptr_t)itemsize;
  for (int axis = 0; axis < t->ndim; axis++) {
    if (t->shape[axis] == 0) *upper = *lower;
    if (t->shape[axis] == 0) return;
    int64_t reach = t->strides[axis] * (t->shape[axis] - 1);
    *(reach < 0 ? lower : upper) += (uintptr_t)reach;
  }
}

static int is_same(const smx_tensor *a, const smx_tensor *b) {
  if (a->data != b->data || a->dtype != b->dtype || a->ndim != b->ndim) return 0;
  for (int axis = 0; axis < a->ndim; axis++) {
    if (a->shape[axis] != b->shape[axis]) return 0;
    if (a->shape[axis] > 1 && a->strides[axis] != b->strides[axis]) return 0;
  }
  return 1;
}

/* 1 if writing `out` would change `input` before it is read, 0 if not, -1 on failure. An input that
 * is `out` itself is left to the library, which reads it in time or refuses. */
static int overlaps(const smxpy_operand *out, const smxpy_operand *input) {
  if (!input->array || is_same(&out->tensor, &input->tensor)) return 0;
  uintptr_t lower, upper, input_lower, input_upper;
  extent(&out->tensor, PyArray_ITEMSIZE(out->array), &lower, &upper);
  extent(&input->tensor, PyArray_ITEMSIZE(input->array), &input_lower, &input_upper);
  if (upper <= input_lower || input_upper <= lower) return 0;
  /* Interleaved, like two halves of the columns of one array, or truly shared: NumPy can tell. */
  PyObject *args[] = {(PyObject *)out->array, (PyObject *)input->array};
  PyObject *answer = smxpy_help("shares_memory", 2, args);
  int result = answer ? PyObject_IsTrue(answer) : -1;
  Py_XDECREF(answer);
  return result;
}

static int has_own_places(const smxpy_operand *out) {
  for (int axis = 0; axis < out->tensor.ndim; axis++)
    if (out->tensor.shape[axis] == 0) return 1;
  for (int axis = 0; axis < out->tensor.ndim; axis++)
    if (out->tensor.shape[axis] > 1 && out->tensor.strides[axis] == 0) return 0;
  return 1;
}

int smxpy_out_fits(const smxpy_operand *out, const smxpy_operand *x, const char *name) {
  if (!out->array) return 0;
  if (out->tensor.dtype != x->tensor.dtype) {
    PyErr_Format(PyExc_TypeError, "out has dtype %S, but %s has %S",
                 (PyObject *)PyArray_DESCR(out->array), name, (PyObject *)PyArray_DESCR(x->array));
    return -1;
  }
  int fits = out->tensor.ndim == x->tensor.ndim;
  for (int axis = 0; fits && axis < x->tensor.ndim; axis++)
    fits = out->tensor.shape[axis] == x->tensor.shape[axis];
  if (!fits) {
    PyObject *own = PyObject_GetAttrString((PyObject *)out->array, "shape");
    PyObject *other = PyObject_GetAttrString((PyObject *)x->array, "shape");
    if (own && other)
      PyErr_Format(PyExc_ValueError, "out of shape %S differs from %s of shape %S", own, name,
                   other);
    Py_XDECREF(own);
    Py_XDECREF(other);
    return -1;
  }
  if (has_own_places(out)) return 0;
  PyErr_SetString(PyExc_ValueError, "out has stride 0 along an axis: its elements share one place");
  return -1;
}

/* Runs into an array of its own, which holds what out does, and copies it to out at the end. */
static smx_status run_aside(smxpy_run run, const void *call, const smxpy_operand *out) {
  smxpy_operand aside = {0};
  if (smxpy_operand_take(&aside, PyArray_NewLikeArray(out->array, NPY_KEEPORDER, NULL, 0)) < 0)
    return -1;
  smx_status status = PyArray_CopyInto(aside.array, out->array) < 0 ? -1 : SMX_OK;
  if (status == SMX_OK) status = run(call, &aside.tensor);
  if (status == SMX_OK && PyArray_CopyInto(out->array, aside.array) < 0) status = -1;
  smxpy_operand_clear(&aside);
  return status;
}

/* Whether the library's last error is about out alone: its sentence tells. */
static int overlaps_itself(void) {
  return strstr(smx_last_error(), "elements that share a place") != NULL;
}

int smxpy_execute(smxpy_run run, const void *call, const smxpy_operand *out,
                  const smxpy_operand *const *inputs, int count) {
  smx_status status = SMX_ERROR_OVERLAP;
  int overlap = 0;
  for (int i = 0; i < count && overlap == 0; i++) overlap = overlaps(out, inputs[i]);
  if (overlap < 0) return -1;
  int may_run_aside = has_own_places(out);
  if (!overlap || !may_run_aside) status = run(call, &out->tensor);
  /* The library looks at address ranges alone; it may refuse what only lies close together. */
  if (status == SMX_ERROR_OVERLAP && may_run_aside && (overlap || !overlaps_itself()))
    status = run_aside(run, call, out);
  if (status > 0) smxpy_raise(status);
  return status == SMX_OK ? 0 : -1;
}
