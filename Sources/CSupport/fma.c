/* a·b + c rounded once, for x86-64-v2, which has no such instruction.
 *
 * libm's function would do, one lane at a time; but without the instruction glibc 2.41's takes 130
 * ns for a float32 and 310 ns for a float64, nearly all of it for changing the rounding mode. Here
 * the sum is rounded to odd: of an inexact sum the neighbour whose last bit is 1 is taken, and a
 * second rounding, to at least two bits less, does not mistake it for a tie (Boldo and Melquiond,
 * Emulation of a FMA and Correctly Rounded Sums, IEEE Transactions on Computers 57, 2008). The
 * rounding mode is the library's, to nearest even, and subnormal numbers are kept; each call of the
 * ABI sees to both. 1.7 ns for a float32, 4.5 ns for a float64. */
#include "fma.h"

#if defined(__x86_64__)
#include <stdint.h>
#include <string.h>

typedef float f32x2 __attribute__((ext_vector_type(2)));
typedef double f64x2 __attribute__((ext_vector_type(2)));
typedef int64_t i64x2 __attribute__((ext_vector_type(2)));

#define INLINE static inline __attribute__((always_inline))

/* What s, a + b rounded, has lost (Knuth's TwoSum): exact. */
INLINE f64x2 lost(f64x2 a, f64x2 b, f64x2 s) {
  const f64x2 t = s - a;
  return (a - (s - t)) + (b - t);
}

/* a + b rounded to odd. */
INLINE f64x2 odd_sum(f64x2 a, f64x2 b) {
  const f64x2 s = a + b, rest = lost(a, b, s);
  const i64x2 inexact = (rest < 0) | (rest > 0); /* not where a or b is infinite or NaN */
  const i64x2 even = ((i64x2)s & 1) - 1;
  /* Towards the rest: away from 0 where it has the sum's sign. */
  const i64x2 step = (((i64x2)s ^ (i64x2)rest) >> 63) | 1;
  return (f64x2)((i64x2)s + (step & inexact & even));
}

/* The product of two float32 is exact in float64, which has 29 bits more, also below the normal
 * numbers and above the finite ones. */
void smxk_fma_each_f32(const float *a, const float *b, float *c) {
  for (int i = 0; i < 16; i += 2) {
    f32x2 x, y, z;
    memcpy(&x, a + i, sizeof x), memcpy(&y, b + i, sizeof y), memcpy(&z, c + i, sizeof z);
    const f64x2 product = __builtin_convertvector(x, f64x2) * __builtin_convertvector(y, f64x2);
    z = __builtin_convertvector(odd_sum(product, __builtin_convertvector(z, f64x2)), f32x2);
    memcpy(c + i, &z, sizeof z);
  }
}

/* A finite number but 0 as mantissa · 2^exponent, the mantissa of 53 bits. */
typedef struct {
  uint64_t mantissa;
  int exponent;
} parts;

static parts parts_of(uint64_t magnitude) {
  const int field = (int)(magnitude >> 52);
  const uint64_t leading = (uint64_t)1 << 52;
  if (field) return (parts){(magnitude & (leading - 1)) | leading, field - 1075};
  const int up = __builtin_clzll(magnitude) - 11;
  return (parts){magnitude << up, -1074 - up};
}

/* v / 2^n with the bits below in the last one; v < 2^127. */
static unsigned __int128 shifted(unsigned __int128 v, int n) {
  if (n > 127) return v != 0;
  const unsigned __int128 kept = v >> n;
  return kept | (kept << n != v);
}

/* Of any numbers, in whole ones of 128 bits. By this name, so that what the compiler makes of a
 * scalar fma of Swift's comes here too; hidden as all but the ABI. */
double fma(double a, double b, double c) {
  const uint64_t infinite = (uint64_t)0x7ff << 52, sign = (uint64_t)1 << 63;
  uint64_t x, y, z;
  memcpy(&x, &a, sizeof x), memcpy(&y, &b, sizeof y), memcpy(&z, &c, sizeof z);
  const uint64_t sign_of_product = (x ^ y) & sign, sign_of_c = z & sign;
  x &= ~sign, y &= ~sign, z &= ~sign;
  if (x == 0 || y == 0 || x >= infinite || y >= infinite) return a * b + c;
  if (z >= infinite) return c + c;
  if (z == 0) return a * b;

  const parts p = parts_of(x), q = parts_of(y), r = parts_of(z);
  /* Both below 2^126, with 20 or more zeros at the end: what is shifted out of the smaller one
   * matters as the last bit alone, as no more than one leading bit of the larger cancels then. */
  unsigned __int128 product = (unsigned __int128)p.mantissa * q.mantissa << 20;
  unsigned __int128 addend = (unsigned __int128)r.mantissa << 72;
  const int exponent_of_product = p.exponent + q.exponent - 20, exponent_of_c = r.exponent - 72;
  int exponent = exponent_of_product;
  if (exponent_of_c > exponent) {
    exponent = exponent_of_c;
    product = shifted(product, exponent - exponent_of_product);
  } else {
    addend = shifted(addend, exponent - exponent_of_c);
  }
  uint64_t sign_of_sum = sign_of_product;
  unsigned __int128 sum;
  if (sign_of_product == sign_of_c) {
    sum = product + addend;
  } else if (product >= addend) {
    sum = product - addend;
  } else {
    sum = addend - product;
    sign_of_sum = sign_of_c;
  }
  if (sum == 0) return 0;

  /* The leading bit is bit 126 now; a normal number keeps 53 bits from there. */
  const uint64_t upper = (uint64_t)(sum >> 64);
  const int up = (upper ? __builtin_clzll(upper) : 64 + __builtin_clzll((uint64_t)sum)) - 1;
  sum <<= up, exponent -= up;
  int field = exponent + 126 + 1023, drop = 126 - 52;
  if (field < 1) drop += 1 - field, field = 1;
  const unsigned __int128 rounded = shifted(sum, drop - 2); /* two bits more, the last one sticky */
  uint64_t bits = (uint64_t)(rounded >> 2);
  const unsigned below = (unsigned)rounded & 3;
  bits += below > 2 || (below == 2 && (bits & 1));
  /* The leading bit of a normal mantissa adds 1 to the field, and so does a carry out of it. */
  bits += (uint64_t)(field - 1) << 52;
  if (bits > infinite) bits = infinite;
  bits |= sign_of_sum;
  double result;
  memcpy(&result, &bits, sizeof result);
  return result;
}

/* The first 26 bits of a, which leave 26 or 27 (Veltkamp). */
INLINE f64x2 leading(f64x2 a) {
  const f64x2 scaled = a * 0x1.0000002p27;
  return scaled - (scaled - a);
}

/* Far from the ends of the range the product is exactly the sum of two float64 (Dekker), c is added
 * to it exactly as two more, and the last of them is rounded to odd. A factor of 0 does no harm,
 * but two zeros must be added with their signs: they and all else are for the function above. */
void smxk_fma_each_f64(const double *a, const double *b, double *c) {
  for (int i = 0; i < 8; i += 2) {
    f64x2 x, y, z;
    memcpy(&x, a + i, sizeof x), memcpy(&y, b + i, sizeof y), memcpy(&z, c + i, sizeof z);
    const f64x2 above = x * y, product = __builtin_elementwise_abs(above);
    const f64x2 largest = __builtin_elementwise_abs(x) + __builtin_elementwise_abs(y) + product +
                          __builtin_elementwise_abs(z); /* or more; NaN if one is */
    const i64x2 fits = (largest <= 0x1p990) &
                       ((product >= 0x1p-900) | (((x == 0) | (y == 0)) & (z != 0)));
    /* Before the parts, which might be subnormal: those take some hundred cycles each. */
    if (!(fits[0] & fits[1])) {
      for (int k = 0; k < 2; k++) c[i + k] = fma(x[k], y[k], z[k]);
      continue;
    }
    const f64x2 x1 = leading(x), y1 = leading(y), x2 = x - x1, y2 = y - y1;
    const f64x2 below = ((x1 * y1 - above) + x1 * y2 + x2 * y1) + x2 * y2;
    const f64x2 low = z + below, high = above + low;
    const f64x2 sum = high + odd_sum(lost(z, below, low), lost(above, low, high));
    memcpy(c + i, &sum, sizeof sum);
  }
}
#endif
