/* Numbers of the four float dtypes, random ones, and the twelve typed and three tensor calls by
 * number. */
#ifndef VALUES_H
#define VALUES_H

#include <math.h>

#include "check.h"

/* -- random (splitmix64) --------------------------------------------------------------------------
 */

static inline uint64_t random_bits(uint64_t *state) {
  uint64_t z = (*state += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* 0 ... count - 1 */
static inline int64_t random_below(uint64_t *state, int64_t count) {
  return (int64_t)(random_bits(state) % (uint64_t)count);
}

static inline double random_between(uint64_t *state, double from, double to) {
  return from + (to - from) * ((double)(random_bits(state) >> 11) * 0x1p-53);
}

/* -- dtypes ---------------------------------------------------------------------------------------
 */

static const smx_dtype float_dtypes[4] = {SMX_FLOAT16, SMX_BFLOAT16, SMX_FLOAT32, SMX_FLOAT64};

static inline size_t size_of(smx_dtype dtype) {
  switch (dtype) {
    case SMX_BOOL: return 1;
    case SMX_FLOAT16:
    case SMX_BFLOAT16: return 2;
    case SMX_FLOAT32:
    case SMX_INT32: return 4;
    default: return 8;
  }
}

static inline const char *name_of(smx_dtype dtype) {
  switch (dtype) {
    case SMX_BOOL: return "bool";
    case SMX_INT32: return "int32";
    case SMX_INT64: return "int64";
    case SMX_FLOAT16: return "float16";
    case SMX_BFLOAT16: return "bfloat16";
    case SMX_FLOAT32: return "float32";
    case SMX_FLOAT64: return "float64";
    default: return "no dtype";
  }
}

/* Significant digits, exponent of the smallest subnormal, largest number. */
typedef struct format {
  int digits, least;
  double largest;
} format;

static inline format format_of(smx_dtype dtype) {
  switch (dtype) {
    case SMX_FLOAT16: return (format){11, -24, 65504};
    case SMX_BFLOAT16: return (format){8, -133, 0x1.fep127};
    case SMX_FLOAT32: return (format){24, -149, 0x1.fffffep127};
    default: return (format){53, -1074, 0x1.fffffffffffffp1023};
  }
}

/* Distance between neighbours at v. */
static inline double ulp_of(smx_dtype dtype, double v) {
  format f = format_of(dtype);
  if (!(fabs(v) > 0)) return ldexp(1, f.least);
  if (fabs(v) > f.largest) v = f.largest;
  int exponent = ilogb(v) - f.digits + 1;
  return ldexp(1, exponent < f.least ? f.least : exponent);
}

/* The nearest number of the dtype, ties to even. */
static inline double rounded_to(smx_dtype dtype, double v) {
  if (v == 0 || !isfinite(v)) return v;
  double unit = ulp_of(dtype, v), r = rint(v / unit) * unit;
  return fabs(r) > format_of(dtype).largest ? copysign(INFINITY, v) : r;
}

static inline double load_as(smx_dtype dtype, const void *p) {
  uint16_t half;
  float f;
  double d;
  int32_t i;
  int64_t l;
  switch (dtype) {
    case SMX_BOOL: return *(const unsigned char *)p != 0;
    case SMX_INT32: memcpy(&i, p, 4); return i;
    case SMX_INT64: memcpy(&l, p, 8); return (double)l;
    case SMX_FLOAT32: memcpy(&f, p, 4); return f;
    case SMX_FLOAT64: memcpy(&d, p, 8); return d;
    default: break;
  }
  memcpy(&half, p, 2);
  if (dtype == SMX_BFLOAT16) {
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&f, &bits, 4);
    return f;
  }
  int exponent = half >> 10 & 31, fraction = half & 1023;
  double v = exponent == 31  ? (fraction ? NAN : INFINITY)
             : exponent == 0 ? ldexp(fraction, -24)
                             : ldexp(1024 + fraction, exponent - 25);
  return half >> 15 ? -v : v;
}

static inline uint16_t float16_bits(double v) {
  uint16_t sign = signbit(v) ? 0x8000 : 0;
  if (isnan(v)) return 0x7e00;
  v = fabs(rounded_to(SMX_FLOAT16, v));
  if (isinf(v)) return sign | 0x7c00;
  if (v < 0x1p-14) return (uint16_t)(sign | (int)(v * 0x1p24));
  int exponent = ilogb(v);
  return (uint16_t)(sign | (exponent + 15) << 10 | ((int)ldexp(v, 10 - exponent) - 1024));
}

static inline void store_as(smx_dtype dtype, void *p, double v) {
  float f = (float)v;
  int32_t i = (int32_t)(dtype == SMX_INT32 ? v : 0);
  int64_t l = (int64_t)(dtype == SMX_INT64 ? v : 0);
  uint16_t half = dtype == SMX_FLOAT16 ? float16_bits(v) : 0;
  switch (dtype) {
    case SMX_BOOL: *(unsigned char *)p = v != 0; return;
    case SMX_INT32: memcpy(p, &i, 4); return;
    case SMX_INT64: memcpy(p, &l, 8); return;
    case SMX_FLOAT32: memcpy(p, &f, 4); return;
    case SMX_FLOAT64: memcpy(p, &v, 8); return;
    case SMX_FLOAT16: memcpy(p, &half, 2); return;
    default: break;
  }
  /* A bfloat16 is the upper half of a float32. */
  uint32_t bits;
  f = (float)rounded_to(SMX_BFLOAT16, v);
  memcpy(&bits, &f, 4);
  half = (uint16_t)(bits >> 16);
  memcpy(p, &half, 2);
}

/* -- calls
 * ----------------------------------------------------------------------------------------- */

enum { SOFTMAX, LOG_SOFTMAX, LOGSUMEXP, OPERATIONS };
static const char *const operation_names[OPERATIONS] = {"softmax", "log_softmax", "logsumexp"};

static inline smx_status call_rows(int operation, smx_dtype dtype, const void *x, void *out,
                                   int64_t rows, int64_t cols) {
#define CALL(name)                                                   \
  switch (dtype) {                                                   \
    case SMX_FLOAT16: return smx_##name##_f16(x, out, rows, cols);   \
    case SMX_BFLOAT16: return smx_##name##_bf16(x, out, rows, cols); \
    case SMX_FLOAT32: return smx_##name##_f32(x, out, rows, cols);   \
    default: return smx_##name##_f64(x, out, rows, cols);            \
  }
  switch (operation) {
    case SOFTMAX: CALL(softmax)
    case LOG_SOFTMAX: CALL(log_softmax)
    default: CALL(logsumexp)
  }
#undef CALL
}

/* The options of all operations; each takes its own. */
typedef struct arguments {
  const int32_t *axes;
  int32_t axis_count, all_axes;
  const smx_tensor *temperature, *mask, *bias, *weights, *sign;
  const smx_mask *structure;
} arguments;

static inline smx_status call_tensor(int operation, const smx_tensor *x, const smx_tensor *out,
                                     const arguments *a) {
  if (operation == LOGSUMEXP) {
    smx_logsumexp_options options = {.size = sizeof options,
                                     .axes = a->axes,
                                     .axis_count = a->axis_count,
                                     .all_axes = a->all_axes,
                                     .weights = a->weights,
                                     .mask = a->mask,
                                     .bias = a->bias,
                                     .structure = a->structure,
                                     .sign = a->sign};
    return smx_logsumexp(x, out, &options);
  }
  smx_softmax_options options = {.size = sizeof options,
                                 .axes = a->axes,
                                 .axis_count = a->axis_count,
                                 .all_axes = a->all_axes,
                                 .temperature = a->temperature,
                                 .mask = a->mask,
                                 .bias = a->bias,
                                 .structure = a->structure};
  return operation == SOFTMAX ? smx_softmax(x, out, &options) : smx_log_softmax(x, out, &options);
}

#endif
