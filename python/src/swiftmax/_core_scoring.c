/* sigmoid, log_sigmoid; log-probabilities of sequences and rankings; calibration.
 *
 * The public functions are in _scoring.py and _calibration.py; these take all arguments by
 * position. */
#include "_core.h"

/* Up to this many elements a call ends within about 2 microseconds (_core_operations.c says what
 * giving the GIL up costs). */
enum { GIL_THRESHOLD = 4096 };

static int is_short(const smxpy_operand *x) { return PyArray_SIZE(x->array) <= GIL_THRESHOLD; }

static int takes(const char *function, Py_ssize_t count, Py_ssize_t expected) {
  if (count == expected) return 0;
  PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments, but %zd were given", function, expected,
               count);
  return -1;
}

/* Integers that must be given. */
static int take_integers(smxpy_operand *operand, PyObject *given, const char *name) {
  if (given != Py_None) return smxpy_integers(operand, given, name);
  PyErr_Format(PyExc_TypeError, "%s must be an array of integers, but is None", name);
  return -1;
}

/* A result of its own: taken out of the operand, a scalar where it has no axes. */
static PyObject *take_result(smxpy_operand *operand) {
  PyArrayObject *array = operand->array;
  operand->array = NULL;
  return PyArray_Return(array);
}

static int make(smxpy_operand *operand, int rank, const npy_intp *shape, int type) {
  return smxpy_operand_take(operand, PyArray_SimpleNew(rank, shape, type));
}

/* -- sigmoid ----------------------------------------------------------------------------------- */

typedef smx_status (*elementwise)(const smx_tensor *x, const smx_tensor *out);

typedef struct unary {
  elementwise function;
  smxpy_operand x, out;
} unary;

static smx_status run_unary(const void *which, const smx_tensor *out) {
  const unary *c = which;
  if (is_short(&c->x)) return c->function(&c->x.tensor, out);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = c->function(&c->x.tensor, out);
  Py_END_ALLOW_THREADS;
  return status;
}

/* Fresh memory is laid out as x is. */
static int make_like(smxpy_operand *out, const smxpy_operand *x) {
  return smxpy_operand_take(out, PyArray_NewLikeArray(x->array, NPY_KEEPORDER, NULL, 0));
}

static PyObject *each(const char *name, elementwise function, PyObject *const *args,
                      Py_ssize_t count) {
  unary c = {.function = function};
  if (takes(name, count, 2) < 0) return NULL;
  PyObject *result = NULL;
  int was_given = args[1] != Py_None;
  if (smxpy_floats(&c.x, args[0], "x") == 0 && smxpy_out(&c.out, args[1], "x") == 0 &&
      (was_given || make_like(&c.out, &c.x) == 0)) {
    const smxpy_operand *const inputs[] = {&c.x};
    if (smxpy_execute(run_unary, &c, &c.out, inputs, 1) == 0) {
      if (was_given) Py_INCREF(args[1]);
      result = was_given ? args[1] : take_result(&c.out);
    }
  }
  smxpy_operand_clear(&c.x);
  smxpy_operand_clear(&c.out);
  return result;
}

/* (x, out or None) */
PyObject *smxpy_sigmoid(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return each("_sigmoid", smx_sigmoid, args, count);
}
PyObject *smxpy_log_sigmoid(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  return each("_log_sigmoid", smx_log_sigmoid, args, count);
}

/* -- sequences --------------------------------------------------------------------------------- */

typedef struct sequences {
  smxpy_operand logits, tokens, lengths, temperature, out, each;
  smxpy_mask mask;
  double number;
  int normalize;
} sequences;

static smx_status score(const sequences *c) {
  smx_sequence_options options = {
      .size = sizeof options,
      .lengths = smxpy_tensor(&c->lengths),
      .temperature = smxpy_tensor(&c->temperature),
      .mask = smxpy_tensor(&c->mask.array),
      .token_log_probs = smxpy_tensor(&c->each),
      .normalize = c->normalize,
  };
  const smx_tensor *logits = &c->logits.tensor, *tokens = &c->tokens.tensor, *out = &c->out.tensor;
  if (is_short(&c->logits)) return smx_sequence_log_prob(logits, tokens, out, &options);
  smx_status status;
  Py_BEGIN_ALLOW_THREADS;
  status = smx_sequence_log_prob(logits, tokens, out, &options);
  Py_END_ALLOW_THREADS;
  return status;
}

static int make_scores(sequences *c, int with_each) {
  int rank = c->logits.tensor.ndim;
  npy_intp *shape = smxpy_dims(&c->logits);
  if (rank < 2) {
    PyErr_Format(PyExc_ValueError, "logits must have at least 2 axes, but has %d", rank);
    return -1;
  }
  if (make(&c->out, rank - 2, shape, NPY_DOUBLE) < 0) return -1;
  int type = c->logits.tensor.dtype == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  return with_each ? make(&c->each, rank - 1, shape, type) : 0;
}

/* (logits, tokens, lengths or None, temperature, mask or None, normalize,
 * return_token_log_probs) */
PyObject *smxpy_sequence_log_prob(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (takes("_sequence_log_prob", count, 7) < 0) return NULL;
  int with_each = smxpy_flag(args[6], "return_token_log_probs");
  if (with_each < 0) return NULL;
  sequences c = {.normalize = smxpy_flag(args[5], "normalize")};
  PyObject *result = NULL;
  smx_status status = SMX_OK;
  if (c.normalize >= 0 && smxpy_floats(&c.logits, args[0], "logits") == 0 &&
      take_integers(&c.tokens, args[1], "tokens") == 0 &&
      smxpy_integers(&c.lengths, args[2], "lengths") == 0 &&
      smxpy_temperature(&c.temperature, args[3], &c.number) == 0 &&
      smxpy_mask_of(&c.mask, args[4], &c.logits) == 0 && make_scores(&c, with_each) == 0) {
    status = score(&c);
    if (status != SMX_OK) {
      smxpy_raise(status);
    } else {
      result = take_result(&c.out);
      if (result && with_each) {
        PyObject *of_tokens = take_result(&c.each);
        PyObject *pair = of_tokens ? PyTuple_Pack(2, result, of_tokens) : NULL;
        Py_XDECREF(of_tokens);
        Py_DECREF(result);
        result = pair;
      }
    }
  }
  smxpy_operand *const all[] = {&c.logits, &c.tokens, &c.lengths, &c.temperature, &c.out, &c.each};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_mask_clear(&c.mask);
  return result;
}

/* -- rankings ---------------------------------------------------------------------------------- */

/* (scores, ranking) */
PyObject *smxpy_plackett_luce_log_prob(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  smxpy_operand scores = {0}, ranking = {0}, out = {0};
  PyObject *result = NULL;
  if (takes("_plackett_luce_log_prob", count, 2) == 0 &&
      smxpy_floats(&scores, args[0], "scores") == 0 &&
      take_integers(&ranking, args[1], "ranking") == 0 &&
      make(&out, scores.tensor.ndim > 0 ? scores.tensor.ndim - 1 : 0, smxpy_dims(&scores),
           NPY_DOUBLE) == 0) {
    smx_status status;
    if (PyArray_SIZE(scores.array) <= GIL_THRESHOLD / 32) {
      status = smx_plackett_luce_log_prob(&scores.tensor, &ranking.tensor, &out.tensor, NULL);
    } else {
      Py_BEGIN_ALLOW_THREADS;
      status = smx_plackett_luce_log_prob(&scores.tensor, &ranking.tensor, &out.tensor, NULL);
      Py_END_ALLOW_THREADS;
    }
    result = status == SMX_OK ? take_result(&out) : smxpy_raise(status);
  }
  smxpy_operand_clear(&scores);
  smxpy_operand_clear(&ranking);
  smxpy_operand_clear(&out);
  return result;
}

/* -- calibration ------------------------------------------------------------------------------- */

/* The arrays of a diagram, and the struct that points into them. */
typedef struct diagram {
  smxpy_operand edges, counts, confidences, accuracies;
  smx_calibration of;
} diagram;

static int make_diagram(diagram *d, int32_t bins) {
  npy_intp count = bins > 0 ? bins : 0, edges = count + 1;
  if (make(&d->edges, 1, &edges, NPY_DOUBLE) < 0 || make(&d->counts, 1, &count, NPY_INT64) < 0 ||
      make(&d->confidences, 1, &count, NPY_DOUBLE) < 0 ||
      make(&d->accuracies, 1, &count, NPY_DOUBLE) < 0)
    return -1;
  d->of = (smx_calibration){
      .size = sizeof d->of,
      .edges = d->edges.tensor.data,
      .counts = d->counts.tensor.data,
      .confidences = d->confidences.tensor.data,
      .accuracies = d->accuracies.tensor.data,
  };
  return 0;
}

static void clear_diagram(diagram *d) {
  smxpy_operand_clear(&d->edges);
  smxpy_operand_clear(&d->counts);
  smxpy_operand_clear(&d->confidences);
  smxpy_operand_clear(&d->accuracies);
}

/* (expected error, loss, accuracy, confidence, edges, counts, confidences, accuracies) */
static PyObject *tuple_of(const diagram *d) {
  return Py_BuildValue("ddddOOOO", d->of.expected_error, d->of.loss, d->of.accuracy,
                       d->of.confidence, d->edges.array, d->counts.array, d->confidences.array,
                       d->accuracies.array);
}

/* bins=: an integer from 1; the library says what is too many. */
static int take_bins(PyObject *given, int32_t *bins) {
  PyObject *number = PyNumber_Index(given);
  if (!number) return -1;
  int overflow = 0;
  long value = PyLong_AsLongAndOverflow(number, &overflow);
  Py_DECREF(number);
  if (value == -1 && PyErr_Occurred()) return -1;
  if (overflow || value < 1 || value > 1 << 20) {
    PyErr_Format(PyExc_ValueError, "bins must be from 1 to %d, but is %.80R", 1 << 20, given);
    return -1;
  }
  *bins = (int32_t)value;
  return 0;
}

/* A positive number: 0, which the library takes for "not given", is refused here. */
static int take_positive(PyObject *given, const char *name, double *value) {
  int found = smxpy_number(given, name, value);
  if (found < 0) return -1;
  if (found && *value != 0) return 0;
  PyErr_Format(PyExc_ValueError, "%s must be a positive number, but is %.80R", name, given);
  return -1;
}

/* (logits, labels, temperature, bins, are_probabilities) */
PyObject *smxpy_calibration_error(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (takes("_calibration_error", count, 5) < 0) return NULL;
  smx_calibration_options options = {.size = sizeof options};
  smxpy_operand logits = {0}, labels = {0};
  diagram d = {0};
  PyObject *result = NULL;
  options.probabilities = smxpy_flag(args[4], "from_probabilities");
  if (options.probabilities >= 0 && smxpy_floats(&logits, args[0], "logits") == 0 &&
      take_integers(&labels, args[1], "labels") == 0 &&
      take_positive(args[2], "temperature", &options.temperature) == 0 &&
      take_bins(args[3], &options.bins) == 0 && make_diagram(&d, options.bins) == 0) {
    smx_status status;
    if (is_short(&logits)) {
      status = smx_calibration_error(&logits.tensor, &labels.tensor, &options, &d.of);
    } else {
      Py_BEGIN_ALLOW_THREADS;
      status = smx_calibration_error(&logits.tensor, &labels.tensor, &options, &d.of);
      Py_END_ALLOW_THREADS;
    }
    result = status == SMX_OK ? tuple_of(&d) : smxpy_raise(status);
  }
  smxpy_operand_clear(&logits);
  smxpy_operand_clear(&labels);
  clear_diagram(&d);
  return result;
}

/* (logits, labels, lowest, highest, bins); returns (temperature, bound, iterations, before,
 * after) */
PyObject *smxpy_fit_temperature(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (takes("_fit_temperature", count, 5) < 0) return NULL;
  smx_fit_options options = {.size = sizeof options};
  smxpy_operand logits = {0}, labels = {0};
  diagram before = {0}, after = {0};
  PyObject *result = NULL;
  if (smxpy_floats(&logits, args[0], "logits") == 0 &&
      take_integers(&labels, args[1], "labels") == 0 &&
      take_positive(args[2], "lowest", &options.lowest) == 0 &&
      take_positive(args[3], "highest", &options.highest) == 0 &&
      take_bins(args[4], &options.bins) == 0 && make_diagram(&before, options.bins) == 0 &&
      make_diagram(&after, options.bins) == 0) {
    smx_temperature_fit fit = {.size = sizeof fit, .before = before.of, .after = after.of};
    smx_status status;
    Py_BEGIN_ALLOW_THREADS;
    status = smx_fit_temperature(&logits.tensor, &labels.tensor, &options, &fit);
    Py_END_ALLOW_THREADS;
    before.of = fit.before;
    after.of = fit.after;
    if (status == SMX_OK)
      result = Py_BuildValue("diiNN", fit.temperature, (int)fit.bound, (int)fit.iterations,
                             tuple_of(&before), tuple_of(&after));
    else
      smxpy_raise(status);
  }
  smxpy_operand_clear(&logits);
  smxpy_operand_clear(&labels);
  clear_diagram(&before);
  clear_diagram(&after);
  return result;
}
