/* Every error of the gradients: its status, a sentence that names the argument and what disagrees,
 * and an output in which no byte has changed. */
#include "gradients.h"

enum { BYTES = 4096, CANARY = 0xa5 };
static unsigned char y_bytes[BYTES], dy_bytes[BYTES], out_bytes[BYTES], other_bytes[BYTES];

/* The sentence must hold every word of the list that ends with NULL. */
static void expect(const char *place, smx_status got, smx_status want, const char *const *words) {
  const char *sentence = smx_last_error();
  check(got == want, place, "status %d (%s), not %d: %s", got, smx_status_string(got), want,
        sentence);
  for (; got == want && *words; words++)
    check(strstr(sentence, *words) != NULL, place, "\"%s\" does not say \"%s\"", sentence, *words);
  int spoilt = 0;
  for (int i = 0; i < BYTES; i++) spoilt += out_bytes[i] != CANARY;
  check(spoilt == 0, place, "the output was written: %s", sentence);
  memset(out_bytes, CANARY, BYTES);
}

#define EXPECT(call, want, ...) \
  expect(__FILE__ ":" CHECK_TEXT(__LINE__), call, want, (const char *const[]){__VA_ARGS__, NULL})

static const int64_t shape23[] = {2, 3}, shape2[] = {2}, shape21[] = {2, 1}, shape32[] = {3, 2},
                     shape4[] = {4}, shape233[] = {2, 3, 3}, shape232[] = {2, 3, 2},
                     negative[] = {2, -3}, huge[] = {(int64_t)1 << 40, (int64_t)1 << 40};

static smx_tensor of(void *data, smx_dtype dtype, int ndim, const int64_t *shape) {
  return (smx_tensor){data, dtype, ndim, shape, NULL};
}

typedef struct good {
  smx_tensor y, dy, out;
  const char *names[3];
} good;

/* Operands of which nothing is wrong. */
static good good_call(int gradient, smx_dtype dtype) {
  int isSum = gradient == SUM_VJP, isForward = gradient == JVP;
  return (good){of(y_bytes, dtype, 2, shape23),
                isSum ? of(dy_bytes, dtype, 1, shape2) : of(dy_bytes, dtype, 2, shape23),
                of(out_bytes, dtype, 2, shape23),
                {isSum ? "x" : "y", isForward ? "dx" : "dy", isForward ? "dy" : "dx"}};
}

static void check_operand(int gradient, smx_dtype dtype, int which) {
  good c = good_call(gradient, dtype);
  smx_tensor *all[] = {&c.y, &c.dy, &c.out}, *bad = all[which], whole = *bad;
  const char *name = c.names[which];
  arguments none = {0};
  DESCRIBE("%s of %s", name, gradient_names[gradient]);
#define BAD(change, want, ...)                                                    \
  do {                                                                            \
    change;                                                                       \
    EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &none), want, name, __VA_ARGS__); \
    *bad = whole;                                                                 \
  } while (0)
  BAD(bad->data = NULL, SMX_ERROR_NULL, ".data is NULL");
  BAD(bad->shape = NULL, SMX_ERROR_NULL, ".shape is NULL");
  BAD(bad->dtype = 0, SMX_ERROR_DTYPE, "dtype 0");
  BAD(bad->dtype = SMX_INT32, SMX_ERROR_DTYPE, "int32", which ? name_of(dtype) : "float");
  BAD(bad->dtype = dtype == SMX_FLOAT32 ? SMX_FLOAT64 : SMX_FLOAT32, SMX_ERROR_DTYPE, "dtype");
  BAD(bad->ndim = 65, SMX_ERROR_SHAPE, "65 axes");
  BAD((bad->ndim = 2, bad->shape = negative), SMX_ERROR_SHAPE, "(2, -3)");
  BAD((bad->ndim = 2, bad->shape = huge), SMX_ERROR_OVERFLOW, "(1099511627776, 1099511627776)");
  if (which) {
    BAD((bad->ndim = 2, bad->shape = shape32), SMX_ERROR_SHAPE, "(3, 2)", c.names[0], "(2, 3)");
    BAD((bad->ndim = 1, bad->shape = shape4), SMX_ERROR_SHAPE, "(4,)", c.names[0], "(2, 3)");
    BAD(bad->ndim = 0, SMX_ERROR_SHAPE, "()", "(2, 3)");
  }
#undef BAD
  EXPECT(call_gradient(gradient, which == 0 ? NULL : &c.y, which == 1 ? NULL : &c.dy,
                       which == 2 ? NULL : &c.out, &none),
         SMX_ERROR_NULL, name, "is NULL");
}

static void check_places(int gradient, smx_dtype dtype) {
  good c = good_call(gradient, dtype);
  arguments none = {0};
  DESCRIBE("places of %s", gradient_names[gradient]);
  int64_t zero[2] = {0, 4};
  smx_tensor shared = c.out;
  shared.strides = zero;
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &shared, &none), SMX_ERROR_OVERLAP, c.names[2],
         "stride 0");
  /* One element on from an input. */
  for (int i = 0; i < 2; i++) {
    unsigned char *bytes = i ? dy_bytes : y_bytes, before[BYTES];
    smx_tensor shifted = c.out;
    shifted.data = bytes + size_of(dtype);
    memcpy(before, bytes, BYTES);
    EXPECT(call_gradient(gradient, &c.y, &c.dy, &shifted, &none), SMX_ERROR_OVERLAP, c.names[2],
           "overlaps", c.names[i]);
    CHECK(memcmp(before, bytes, BYTES) == 0, "the input was written");
  }
}

static void check_options(int gradient, smx_dtype dtype) {
  good c = good_call(gradient, dtype);
  DESCRIBE("options of %s", gradient_names[gradient]);
#define WITH(want, words, ...)                                                              \
  do {                                                                                      \
    arguments a = {__VA_ARGS__};                                                            \
    EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &a), want, words, c.names[0], "(2, 3)"); \
  } while (0)
  int32_t two = 2, low = -3, same[] = {1, -1};
  WITH(SMX_ERROR_AXIS, "axis 2", .axes = &two, .axis_count = 1);
  WITH(SMX_ERROR_AXIS, "axis -3", .axes = &low, .axis_count = 1);
  WITH(SMX_ERROR_AXIS, "twice", .axes = same, .axis_count = 2);
  smx_tensor mask = of(other_bytes, SMX_BOOL, 1, shape4);
  WITH(SMX_ERROR_SHAPE, "mask of shape (4,)", .mask = &mask);
  smx_mask structure = {.size = sizeof structure, .window = 1, .window_left = -2};
  arguments wrong = {.structure = &structure}, negativeAxes = {.axes = &two, .axis_count = -1};
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &wrong), SMX_ERROR_VALUE, "window_left");
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &negativeAxes), SMX_ERROR_AXIS, "axis_count");
  structure.size = 3;
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &wrong), SMX_ERROR_SIZE,
         "structure.size is 3");
  mask.dtype = SMX_INT32;
  arguments notBool = {.mask = &mask};
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &notBool), SMX_ERROR_DTYPE, "mask", "bool");
  if (gradient == SUM_VJP) {
    smx_tensor weights = of(other_bytes, dtype, 2, shape23);
    smx_logsumexp_options o = {.size = sizeof o, .weights = &weights}, signs = {.size = sizeof o};
    EXPECT(smx_logsumexp_vjp(&c.y, &c.dy, &c.out, &o), SMX_ERROR_VALUE, "weights");
    signs.sign = &weights;
    EXPECT(smx_logsumexp_vjp(&c.y, &c.dy, &c.out, &signs), SMX_ERROR_VALUE, "sign");
    o.size = 1;
    EXPECT(smx_logsumexp_vjp(&c.y, &c.dy, &c.out, &o), SMX_ERROR_SIZE, "options.size is 1");
    smx_tensor bias = of(other_bytes, dtype, 1, shape4);
    WITH(SMX_ERROR_SHAPE, "bias of shape (4,)", .bias = &bias);
    /* Both forms of dy are right. */
    c.dy = of(dy_bytes, dtype, 2, shape21);
    arguments none = {0};
    CHECK(call_gradient(gradient, &c.y, &c.dy, &c.out, &none) == SMX_OK, "%s", smx_last_error());
    memset(out_bytes, CANARY, BYTES);
    return;
  }
  smx_softmax_options o = {.size = 1};
  EXPECT(smx_softmax_vjp(&c.y, &c.dy, &c.out, &o), SMX_ERROR_SIZE, "options.size is 1");
  double cold[2] = {1, -1};
  smx_tensor temperature = of(cold, SMX_FLOAT64, 1, shape2);
  arguments a = {.temperature = &temperature};
  EXPECT(call_gradient(gradient, &c.y, &c.dy, &c.out, &a), SMX_ERROR_VALUE, "temperature");
  temperature.shape = shape4;
  WITH(SMX_ERROR_SHAPE, "temperature of shape (4,)", .temperature = &temperature);
#undef WITH
}

static void check_typed(int gradient, smx_dtype dtype) {
  DESCRIBE("typed %s of %s", gradient_names[gradient], name_of(dtype));
#define ROWS(...) call_gradient_rows(gradient, dtype, __VA_ARGS__)
  const char *first = gradient == SUM_VJP ? "x.data" : "y.data";
  EXPECT(ROWS(NULL, dy_bytes, out_bytes, 2, 3), SMX_ERROR_NULL, first, "(2, 3)");
  EXPECT(ROWS(y_bytes, NULL, out_bytes, 2, 3), SMX_ERROR_NULL, "dy.data");
  EXPECT(ROWS(y_bytes, dy_bytes, NULL, 2, 3), SMX_ERROR_NULL, "dx.data");
  EXPECT(ROWS(y_bytes, dy_bytes, out_bytes, -1, 3), SMX_ERROR_SHAPE, "(-1, 3)");
  EXPECT(ROWS(y_bytes, dy_bytes, out_bytes, 3, -2), SMX_ERROR_SHAPE, "(3, -2)");
  EXPECT(ROWS(y_bytes, dy_bytes, out_bytes, INT64_MAX, INT64_MAX), SMX_ERROR_OVERFLOW,
         "9223372036854775807");
  EXPECT(ROWS(y_bytes, dy_bytes, y_bytes + size_of(dtype), 2, 3), SMX_ERROR_OVERLAP, "dx",
         "overlaps");
  EXPECT(ROWS(NULL, NULL, NULL, 0, 3), SMX_OK, "");
  EXPECT(ROWS(NULL, dy_bytes, NULL, 3, 0), SMX_OK, "");
#undef ROWS
}

static void check_jacobian(smx_dtype dtype) {
  smx_tensor p = of(y_bytes, dtype, 2, shape23), out = of(out_bytes, dtype, 3, shape233), bad = out;
  DESCRIBE("Jacobian of %s", name_of(dtype));
  EXPECT(smx_softmax_jacobian(NULL, &out, NULL), SMX_ERROR_NULL, "p is NULL");
  EXPECT(smx_softmax_jacobian(&p, NULL, NULL), SMX_ERROR_NULL, "out is NULL");
  bad.shape = shape232;
  EXPECT(smx_softmax_jacobian(&p, &bad, NULL), SMX_ERROR_SHAPE, "out of shape (2, 3, 2)",
         "p of shape (2, 3)");
  bad = of(out_bytes, dtype, 2, shape23);
  EXPECT(smx_softmax_jacobian(&p, &bad, NULL), SMX_ERROR_SHAPE, "out of shape (2, 3)");
  bad = of(out_bytes, SMX_BOOL, 3, shape233);
  EXPECT(smx_softmax_jacobian(&p, &bad, NULL), SMX_ERROR_DTYPE, "out", "bool", name_of(dtype));
  bad = of(y_bytes, dtype, 3, shape233);
  EXPECT(smx_softmax_jacobian(&p, &bad, NULL), SMX_ERROR_OVERLAP, "out", "overlaps", "p");
  int64_t zero[3] = {0, 24, 8};
  bad = out;
  bad.strides = zero;
  EXPECT(smx_softmax_jacobian(&p, &bad, NULL), SMX_ERROR_OVERLAP, "out", "stride 0");
  int32_t axis = 4;
  smx_softmax_options o = {.size = sizeof o, .axes = &axis, .axis_count = 1};
  EXPECT(smx_softmax_jacobian(&p, &out, &o), SMX_ERROR_AXIS, "axis 4", "p of shape (2, 3)");
  o.size--;
  EXPECT(smx_softmax_jacobian(&p, &out, &o), SMX_ERROR_SIZE, "options.size");
}

int main(void) {
  memset(out_bytes, CANARY, BYTES);
  for (int i = 0; i < BYTES; i++)
    y_bytes[i] = dy_bytes[i] = other_bytes[i] = (unsigned char)(i & 1);
  for (int d = 0; d < 4; d++) {
    smx_dtype dtype = float_dtypes[d];
    for (int g = 0; g < GRADIENTS; g++) {
      for (int which = 0; which < 3; which++) check_operand(g, dtype, which);
      check_places(g, dtype);
      check_options(g, dtype);
      if (dtype >= SMX_FLOAT32 && g != JVP) check_typed(g, dtype);
    }
    check_jacobian(dtype);
  }
  return finish("test_gradients_errors");
}
