/* mask=: a boolean array goes to the library as it is; of a Mask, and of the arguments of attention
 * that mask, _arguments.py makes a boolean array (or None) and a tuple of conditions, each a tuple
 *
 *   (causal, window, left, right, query_offset, key_lengths, query_lengths, query_segments,
 *    key_segments)
 *
 * with integer arrays or None from the fifth on. */
#include "_core.h"

enum { NUMBERS = 4, TENSORS = 5 };

static int fill_condition(smx_mask *condition, smx_tensor tensors[TENSORS], PyObject *parts) {
  if (!PyTuple_Check(parts) || PyTuple_Size(parts) != NUMBERS + TENSORS) {
    PyErr_SetString(PyExc_SystemError, "swiftmax: a condition of a Mask has the wrong form");
    return -1;
  }
  long long numbers[NUMBERS];
  for (int i = 0; i < NUMBERS; i++) {
    numbers[i] = PyLong_AsLongLong(PyTuple_GetItem(parts, i));
    if (numbers[i] == -1 && PyErr_Occurred()) return -1;
  }
  const smx_tensor *given[TENSORS];
  for (int i = 0; i < TENSORS; i++) {
    PyObject *item = PyTuple_GetItem(parts, NUMBERS + i);
    given[i] = NULL;
    if (item == Py_None) continue;
    if (!PyArray_Check(item)) {
      PyErr_SetString(PyExc_SystemError, "swiftmax: a condition of a Mask holds no array");
      return -1;
    }
    /* `parts` holds the array, which nobody else has. */
    tensors[i] = smxpy_tensor_of((PyArrayObject *)item);
    given[i] = &tensors[i];
  }
  *condition = (smx_mask){
      .size = sizeof(smx_mask),
      .causal = (int32_t)numbers[0],
      .window = (int32_t)numbers[1],
      .window_left = numbers[2],
      .window_right = numbers[3],
      .query_offset = given[0],
      .key_lengths = given[1],
      .query_lengths = given[2],
      .query_segments = given[3],
      .key_segments = given[4],
  };
  return 0;
}

static int fill_structure(smxpy_mask *mask, PyObject *conditions) {
  Py_ssize_t count = PyTuple_Size(conditions);
  if (count <= 0) return (int)count;
  mask->conditions = PyMem_Malloc((size_t)count * sizeof(smx_mask));
  mask->tensors = PyMem_Malloc((size_t)count * TENSORS * sizeof(smx_tensor));
  if (!mask->conditions || !mask->tensors) {
    PyErr_NoMemory();
    return -1;
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *parts = PyTuple_GetItem(conditions, i);
    if (fill_condition(&mask->conditions[i], &mask->tensors[i * TENSORS], parts) < 0) return -1;
    if (i > 0) mask->conditions[i - 1].also = &mask->conditions[i];
  }
  return 0;
}

static int is_boolean_array(PyObject *given) {
  return PyArray_CheckExact(given) && PyArray_TYPE((PyArrayObject *)given) == NPY_BOOL;
}

/* None, or a boolean array as it is. */
static int take_array(smxpy_mask *mask, PyObject *given) {
  if (smxpy_is_absent(given)) return 0;
  Py_INCREF(given);
  return smxpy_operand_take(&mask->array, given);
}

/* Takes over what a helper has made. */
static int take_parts(smxpy_mask *mask, PyObject *parts) {
  mask->parts = parts;
  if (!parts) return -1;
  PyObject *array = PyTuple_GetItem(mask->parts, 0);
  PyObject *conditions = PyTuple_GetItem(mask->parts, 1);
  if (!array || !conditions || take_array(mask, array) < 0) return -1;
  return fill_structure(mask, conditions);
}

int smxpy_mask_of(smxpy_mask *mask, PyObject *given, const smxpy_operand *x) {
  if (smxpy_is_absent(given) || is_boolean_array(given)) return take_array(mask, given);
  PyObject *args[] = {given, (PyObject *)x->array};
  return take_parts(mask, smxpy_help("as_mask", 2, args));
}

/* -- attention --------------------------------------------------------------------------------- */

/* The arguments of as_structure in _arguments.py, after the shape of the scores. */
static const int structural[] = {SMXPY_MASK,       SMXPY_CAUSAL,      SMXPY_QUERY_OFFSET,
                                 SMXPY_WINDOW,     SMXPY_KEY_LENGTHS, SMXPY_QUERY_LENGTHS,
                                 SMXPY_SEGMENT_IDS};
enum { STRUCTURAL = sizeof structural / sizeof *structural };

/* Whether the helper can be spared: at most a boolean array and causal=. */
static int is_simple(PyObject *const given[SMXPY_NAMES]) {
  for (int i = 0; i < STRUCTURAL; i++) {
    int name = structural[i];
    if (name != SMXPY_MASK && name != SMXPY_CAUSAL && !smxpy_is_absent(given[name])) return 0;
  }
  return smxpy_is_absent(given[SMXPY_MASK]) || is_boolean_array(given[SMXPY_MASK]);
}

static int add_causal(smxpy_mask *mask) {
  mask->conditions = PyMem_Malloc(sizeof(smx_mask));
  if (!mask->conditions) {
    PyErr_NoMemory();
    return -1;
  }
  *mask->conditions = (smx_mask){.size = sizeof(smx_mask), .causal = 1};
  return 0;
}

int smxpy_structure_of(smxpy_mask *mask, PyObject *const given[SMXPY_NAMES], int rank,
                       const npy_intp *scores) {
  int causal = smxpy_flag(given[SMXPY_CAUSAL], "causal");
  if (causal < 0) return -1;
  if (is_simple(given)) {
    if (take_array(mask, given[SMXPY_MASK]) < 0) return -1;
    return causal ? add_causal(mask) : 0;
  }
  PyObject *shape = PyArray_IntTupleFromIntp(rank, scores);
  if (!shape) return -1;
  PyObject *args[1 + STRUCTURAL] = {shape};
  for (int i = 0; i < STRUCTURAL; i++) {
    PyObject *value = given[structural[i]];
    args[1 + i] = value ? value : Py_None;
    if (structural[i] == SMXPY_CAUSAL) args[1 + i] = causal ? Py_True : Py_False;
  }
  PyObject *parts = smxpy_help("as_structure", 1 + STRUCTURAL, args);
  Py_DECREF(shape);
  return take_parts(mask, parts);
}

void smxpy_mask_clear(smxpy_mask *mask) {
  smxpy_operand_clear(&mask->array);
  PyMem_Free(mask->conditions);
  PyMem_Free(mask->tensors);
  Py_CLEAR(mask->parts);
}
