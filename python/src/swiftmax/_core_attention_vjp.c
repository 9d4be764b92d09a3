/* The gradient of attention. _attention_vjp.py has its signature and calls this with all arguments
 * in their places. */
#include "_core.h"

/* What stands where: first the operands that attention does not have, then these. */
enum { D_OUT, OUT, LSE, WITH_D_BIAS, WITH_D_SINKS, OWN };
static const int names[] = {
    SMXPY_QUERY,        SMXPY_KEY,          SMXPY_VALUE,         SMXPY_MASK,
    SMXPY_BIAS,         SMXPY_CAUSAL,       SMXPY_QUERY_OFFSET,  SMXPY_WINDOW,
    SMXPY_KEY_LENGTHS,  SMXPY_QUERY_LENGTHS, SMXPY_SEGMENT_IDS,  SMXPY_ALIBI_SLOPES,
    SMXPY_SCALE,        SMXPY_SOFTCAP,      SMXPY_SINKS,         SMXPY_LAYOUT};
enum { SHARED = sizeof names / sizeof *names };

/* What one call takes and gives; all zero before it starts. */
typedef struct call {
  smxpy_scores scores;
  smxpy_operand d_out, out, lse;
  smxpy_operand d_query, d_key, d_value, d_bias, d_sinks;
} call;

static void clear(call *c) {
  smxpy_operand *const all[] = {&c->d_out, &c->out,     &c->lse,    &c->d_query,
                                &c->d_key, &c->d_value, &c->d_bias, &c->d_sinks};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) smxpy_operand_clear(all[i]);
  smxpy_scores_clear(&c->scores);
}

static int take_arrays(call *c, PyObject *const *args) {
  if (smxpy_floats(&c->d_out, args[D_OUT], "d_out") < 0 ||
      smxpy_floats(&c->out, args[OUT], "out") < 0)
    return -1;
  return smxpy_lse(&c->lse, args[LSE], "lse", c->scores.query.tensor.dtype);
}

/* A fresh array in C order of the shape of another, and its dtype. */
static int make_like(smxpy_operand *gradient, const smxpy_operand *of) {
  return smxpy_operand_take(
      gradient, smxpy_new_like(of->array, of->tensor.ndim, smxpy_dims(of)));
}

/* The same in the dtype of lse. */
static int make_wide(smxpy_operand *gradient, const smxpy_operand *of, smx_dtype query) {
  int dtype = query == SMX_FLOAT64 ? NPY_DOUBLE : NPY_FLOAT;
  return smxpy_operand_take(
      gradient, PyArray_SimpleNew(of->tensor.ndim, smxpy_dims(of), dtype));
}

static int check_wanted(int is_wanted, const smxpy_operand *of, const char *name) {
  if (!is_wanted || of->array) return 0;
  PyErr_Format(PyExc_ValueError, "return_d_%s is True, but there is no %s", name, name);
  return -1;
}

static int make_results(call *c, int with_d_bias, int with_d_sinks) {
  const smxpy_scores *s = &c->scores;
  smx_dtype dtype = s->query.tensor.dtype;
  if (check_wanted(with_d_bias, &s->bias, "bias") < 0 ||
      check_wanted(with_d_sinks, &s->sinks, "sinks") < 0)
    return -1;
  if (make_like(&c->d_query, &s->query) < 0 || make_like(&c->d_key, &s->key) < 0 ||
      make_like(&c->d_value, &s->value) < 0)
    return -1;
  if (with_d_bias && make_wide(&c->d_bias, &s->bias, dtype) < 0) return -1;
  return with_d_sinks ? make_wide(&c->d_sinks, &s->sinks, dtype) : 0;
}

static smx_status run_now(const call *c) {
  const smxpy_scores *s = &c->scores;
  smx_attention_options options = smxpy_scores_options(s);
  smx_attention_gradients gradients = {
      .size = sizeof gradients,
      .d_query = &c->d_query.tensor,
      .d_key = &c->d_key.tensor,
      .d_value = &c->d_value.tensor,
      .d_bias = smxpy_tensor(&c->d_bias),
      .d_sinks = smxpy_tensor(&c->d_sinks),
  };
  return smx_attention_vjp(&c->d_out.tensor, &s->query.tensor, &s->key.tensor, &s->value.tensor,
                           &c->out.tensor, &c->lse.tensor, &gradients, &options);
}

static int execute(const call *c) {
  smx_status status;
  if (smxpy_scores_are_short(&c->scores)) status = run_now(c);
  else {
    Py_BEGIN_ALLOW_THREADS;
    status = run_now(c);
    Py_END_ALLOW_THREADS;
  }
  if (status != SMX_OK) smxpy_raise(status);
  return status == SMX_OK ? 0 : -1;
}

/* (d_query, d_key, d_value[, d_bias][, d_sinks]) */
static PyObject *results(const call *c) {
  const smxpy_operand *const all[] = {&c->d_query, &c->d_key, &c->d_value, &c->d_bias, &c->d_sinks};
  enum { ALL = sizeof all / sizeof *all };
  PyObject *tuple = PyTuple_New(3 + !!c->d_bias.array + !!c->d_sinks.array);
  for (Py_ssize_t i = 0, place = 0; tuple && i < ALL; i++) {
    PyObject *array = (PyObject *)all[i]->array;
    if (!array) continue;
    Py_INCREF(array);
    PyTuple_SetItem(tuple, place++, array);
  }
  return tuple;
}

PyObject *smxpy_attention_vjp(PyObject *module, PyObject *const *args, Py_ssize_t count) {
  (void)module;
  if (count != OWN + SHARED) {
    PyErr_Format(PyExc_TypeError, "_attention_vjp() takes %d arguments, but %zd were given",
                 (int)(OWN + SHARED), count);
    return NULL;
  }
  PyObject *given[SMXPY_NAMES] = {0};
  for (int i = 0; i < SHARED; i++) given[names[i]] = args[OWN + i];
  int with_d_bias = smxpy_flag(args[WITH_D_BIAS], "return_d_bias");
  if (with_d_bias < 0) return NULL;
  int with_d_sinks = smxpy_flag(args[WITH_D_SINKS], "return_d_sinks");
  if (with_d_sinks < 0) return NULL;
  call c = {0};
  smxpy_scores *s = &c.scores;
  PyObject *result = NULL;
  if (smxpy_scores_take(s, given) == 0 && take_arrays(&c, args) == 0 &&
      smxpy_structure_of(&s->mask, given, s->rank, s->shape) == 0 &&
      make_results(&c, with_d_bias, with_d_sinks) == 0 && execute(&c) == 0)
    result = results(&c);
  clear(&c);
  return result;
}
