/* Arguments that are not arrays: keywords, axis, flags, numbers, choices; and the way from a status
 * to an exception. */
#include "_core.h"

static const char *const names[SMXPY_NAMES] = {
    [SMXPY_X] = "x",
    [SMXPY_AXIS] = "axis",
    [SMXPY_TEMPERATURE] = "temperature",
    [SMXPY_MASK] = "mask",
    [SMXPY_BIAS] = "bias",
    [SMXPY_OUT] = "out",
    [SMXPY_B] = "b",
    [SMXPY_KEEPDIMS] = "keepdims",
    [SMXPY_RETURN_SIGN] = "return_sign",
    [SMXPY_OUT_A] = "out_a",
    [SMXPY_LSE_A] = "lse_a",
    [SMXPY_OUT_B] = "out_b",
    [SMXPY_LSE_B] = "lse_b",
    [SMXPY_QUERY] = "query",
    [SMXPY_KEY] = "key",
    [SMXPY_VALUE] = "value",
    [SMXPY_CAUSAL] = "causal",
    [SMXPY_QUERY_OFFSET] = "query_offset",
    [SMXPY_WINDOW] = "window",
    [SMXPY_KEY_LENGTHS] = "key_lengths",
    [SMXPY_QUERY_LENGTHS] = "query_lengths",
    [SMXPY_SEGMENT_IDS] = "segment_ids",
    [SMXPY_ALIBI_SLOPES] = "alibi_slopes",
    [SMXPY_SCALE] = "scale",
    [SMXPY_SOFTCAP] = "softcap",
    [SMXPY_SINKS] = "sinks",
    [SMXPY_PAST_KEY] = "past_key",
    [SMXPY_PAST_VALUE] = "past_value",
    [SMXPY_BLOCK_TABLE] = "block_table",
    [SMXPY_QUERY_STARTS] = "query_starts",
    [SMXPY_KEY_STARTS] = "key_starts",
    [SMXPY_LAYOUT] = "layout",
    [SMXPY_PRECISION] = "precision",
    [SMXPY_RETURN_LSE] = "return_lse",
    [SMXPY_RETURN_WEIGHTS] = "return_weights",
};

int smxpy_state_fill(smxpy_state *state) {
  for (int i = 0; i < SMXPY_NAMES; i++) {
    state->names[i] = PyUnicode_InternFromString(names[i]);
    if (!state->names[i]) return -1;
  }
  return 0;
}

void smxpy_state_clear(smxpy_state *state) {
  for (int i = 0; i < SMXPY_NAMES; i++) Py_CLEAR(state->names[i]);
}

/* -- keywords ---------------------------------------------------------------------------------- */

/* The place of a keyword, -1 if no function has it. */
static int place_of(const smxpy_state *state, PyObject *name) {
  /* Names in source code are interned, so the pointers nearly always tell. */
  for (int i = 0; i < SMXPY_NAMES; i++)
    if (name == state->names[i]) return i;
  for (int i = 0; i < SMXPY_NAMES; i++)
    if (PyUnicode_CompareWithASCIIString(name, names[i]) == 0) return i;
  return -1;
}

int smxpy_parse(const smxpy_state *state, const smxpy_signature *signature, PyObject *const *args,
                Py_ssize_t count, PyObject *keywords, PyObject *given[SMXPY_NAMES]) {
  if (count > signature->positional) {
    PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments, but %zd were given",
                 signature->function, signature->positional, count);
    return -1;
  }
  for (int i = 0; i < SMXPY_NAMES; i++) given[i] = NULL;
  for (Py_ssize_t i = 0; i < count; i++) given[signature->first + i] = args[i];
  Py_ssize_t named = keywords ? PyTuple_Size(keywords) : 0;
  for (Py_ssize_t i = 0; i < named; i++) {
    PyObject *name = PyTuple_GetItem(keywords, i);
    int place = place_of(state, name);
    if (place < 0 || !(signature->allowed >> place & 1)) {
      PyErr_Format(PyExc_TypeError, "%s() has no argument named %R", signature->function, name);
      return -1;
    }
    if (given[place]) {
      PyErr_Format(PyExc_TypeError, "%s() was given %R twice", signature->function, name);
      return -1;
    }
    given[place] = args[count + i];
  }
  for (int i = signature->first; i < signature->first + signature->required; i++)
    if (!given[i]) {
      PyErr_Format(PyExc_TypeError, "%s() needs %s", signature->function, names[i]);
      return -1;
    }
  return 0;
}

/* -- axis -------------------------------------------------------------------------------------- */

static int axis_number(PyObject *given, int32_t *axis) {
  PyObject *number = PyNumber_Index(given);
  if (!number) {
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError,
                   "axis must be an integer, a tuple of integers or None, but is %.80R", given);
    }
    return -1;
  }
  int overflow = 0;
  long value = PyLong_AsLongAndOverflow(number, &overflow);
  Py_DECREF(number);
  if (value == -1 && PyErr_Occurred()) return -1;
  if (overflow || value < INT32_MIN || value > INT32_MAX) {
    PyErr_Format(PyExc_ValueError, "axis %.80R is out of range", given);
    return -1;
  }
  *axis = (int32_t)value;
  return 0;
}

int smxpy_axes_of(PyObject *given, smxpy_axes *axes) {
  axes->all = 0;
  axes->count = 1;
  axes->list[0] = -1;
  if (!given) return 0;
  if (given == Py_None) {
    axes->all = 1;
    return 0;
  }
  if (!PyTuple_Check(given) && !PyList_Check(given)) return axis_number(given, &axes->list[0]);
  Py_ssize_t count = PySequence_Size(given);
  if (count > SMX_MAX_DIMS) {
    PyErr_Format(PyExc_ValueError, "axis holds %zd numbers, but x has at most %d axes", count,
                 SMX_MAX_DIMS);
    return -1;
  }
  for (Py_ssize_t i = 0; i < count; i++) {
    PyObject *item = PySequence_GetItem(given, i);
    int failed = !item || axis_number(item, &axes->list[i]) < 0;
    Py_XDECREF(item);
    if (failed) return -1;
  }
  axes->count = (int32_t)count;
  return 0;
}

/* -- flags, numbers, choices ------------------------------------------------------------------- */

int smxpy_flag(PyObject *given, const char *name) {
  if (smxpy_is_absent(given)) return 0;
  /* Text, a list, a Mask: true or false to Python, but surely meant as something else. */
  if (!PyObject_HasAttrString(given, "__bool__")) {
    PyErr_Format(PyExc_TypeError, "%s must be True or False, but is %.80R", name, given);
    return -1;
  }
  int flag = PyObject_IsTrue(given);
  /* An array of several elements, most likely. */
  if (flag < 0 && PyErr_ExceptionMatches(PyExc_ValueError)) {
    PyErr_Clear();
    PyErr_Format(PyExc_ValueError, "%s must be True or False, but is %.80R", name, given);
  }
  return flag;
}

int smxpy_number(PyObject *given, const char *name, double *value) {
  if (smxpy_is_absent(given)) return 0;
  double number = PyFloat_AsDouble(given);
  if (number == -1 && PyErr_Occurred()) {
    /* Python's own sentences do not say which argument it was. */
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
      PyErr_Clear();
      PyErr_Format(PyExc_TypeError, "%s must be a real number or None, but is %.80R", name, given);
    } else if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
      PyErr_Clear();
      PyErr_Format(PyExc_ValueError, "%s is larger than a float can be", name);
    }
    return -1;
  }
  *value = number;
  return 1;
}

int smxpy_choice(PyObject *given, const char *name, const char *first, const char *second) {
  if (!given) return 0;
  if (PyUnicode_Check(given)) {
    if (PyUnicode_CompareWithASCIIString(given, first) == 0) return 0;
    if (PyUnicode_CompareWithASCIIString(given, second) == 0) return 1;
  }
  PyErr_Format(PyExc_ValueError, "%s must be '%s' or '%s', but is %.80R", name, first, second,
               given);
  return -1;
}

/* -- failures and helpers ---------------------------------------------------------------------- */

PyObject *smxpy_raise(smx_status status) {
  PyObject *kind = PyExc_ValueError;
  switch (status) {
    case SMX_ERROR_DTYPE: kind = PyExc_TypeError; break;
    case SMX_ERROR_MEMORY: kind = PyExc_MemoryError; break;
    case SMX_ERROR_ISA:
    case SMX_ERROR_THREADS: kind = PyExc_RuntimeError; break;
    /* The module never passes NULL or a wrong size: such a failure is its own, not the caller's. */
    case SMX_ERROR_NULL:
    case SMX_ERROR_SIZE: kind = PyExc_SystemError; break;
    default: break;
  }
  /* The sentence may quote the environment, which need not be UTF-8. */
  const char *sentence = smx_last_error();
  PyObject *text = PyUnicode_DecodeUTF8(sentence, (Py_ssize_t)strlen(sentence), "replace");
  if (text) PyErr_SetObject(kind, text);
  Py_XDECREF(text);
  return NULL;
}

PyObject *smxpy_help(const char *function, int count, PyObject *const *args) {
  PyObject *module = PyImport_ImportModule("swiftmax._arguments");
  PyObject *helper = module ? PyObject_GetAttrString(module, function) : NULL;
  PyObject *tuple = helper ? PyTuple_New(count) : NULL;
  PyObject *result = NULL;
  if (tuple) {
    for (int i = 0; i < count; i++) {
      Py_INCREF(args[i]);
      PyTuple_SetItem(tuple, i, args[i]);
    }
    result = PyObject_CallObject(helper, tuple);
  }
  Py_XDECREF(tuple);
  Py_XDECREF(helper);
  Py_XDECREF(module);
  return result;
}
