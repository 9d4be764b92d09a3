/* The fused multiply-add of x86-64-v2 (Sources/CSupport/fma.c) beside libm's, which is exact: ends
 * of the range, cancellation, ties and what is next to them. The source is compiled into this
 * program, its fma by another name. */
#include <math.h>

#include "check.h"

#if defined(__x86_64__)
#include "fma.h"

double fma_of_v2(double a, double b, double c);

static uint64_t state = 0x9e3779b97f4a7c15u;
static uint64_t draw(void) { /* xorshift64*, Vigna 2016 */
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return state * 0x2545f4914f6cdd1du;
}
static int below(int n) { return (int)((draw() >> 33) % (uint64_t)n); }

enum { ANY, NEAR_ONE, FEW_BITS, WHOLE, WIDE, ENDS, KINDS };

static const double ends[] = {0,
                              0x1p-1074,
                              0x1.8p-1073,
                              0x1.ffffffffffffep-1023,
                              0x1p-1022,
                              0x1p-970,
                              0x1p-537,
                              0x1p-511,
                              0x1p-450,
                              0x1.fffffffffffffp-1,
                              1,
                              0x1.0000000000001p0,
                              0x1p495,
                              0x1p511,
                              0x1p1000,
                              0x1.fffffffffffffp1023,
                              INFINITY,
                              NAN};
static const float ends32[] = {0,
                               0x1p-149f,
                               0x1.8p-148f,
                               0x1.fffffcp-127f,
                               0x1p-126f,
                               0x1p-75f,
                               0x1p-63f,
                               0x1.fffffep-1f,
                               1,
                               0x1.000002p0f,
                               0x1p63f,
                               0x1p100f,
                               0x1.fffffep127f,
                               INFINITY,
                               NAN};
enum { ENDS64 = sizeof ends / sizeof *ends, ENDS32 = sizeof ends32 / sizeof *ends32 };

static double number(int kind) {
  uint64_t bits = draw();
  const uint64_t sign = bits & (uint64_t)1 << 63, fraction = bits & (((uint64_t)1 << 52) - 1);
  double value;
  switch (kind) {
    case NEAR_ONE: bits = sign | (uint64_t)(1015 + below(16)) << 52 | fraction; break;
    case FEW_BITS: bits &= ((uint64_t)0xfff << 52) | (draw() & (uint64_t)0xf << 48); break;
    case WHOLE: return below(257) - 128;
    case WIDE: bits = sign | (uint64_t)(960 + below(128)) << 52 | fraction; break;
    case ENDS: return copysign(ends[below(ENDS64)], sign ? -1 : 1);
    default: break;
  }
  memcpy(&value, &bits, sizeof value);
  return value;
}

static float number32(int kind) {
  uint32_t bits = (uint32_t)(draw() >> 32);
  const uint32_t sign = bits & (uint32_t)1 << 31, fraction = bits & (((uint32_t)1 << 23) - 1);
  float value;
  switch (kind) {
    case NEAR_ONE: bits = sign | (uint32_t)(119 + below(16)) << 23 | fraction; break;
    case FEW_BITS: bits &= ((uint32_t)0x1ff << 23) | (uint32_t)below(16) << 19; break;
    case WHOLE: return (float)(below(257) - 128);
    case WIDE: bits = sign | (uint32_t)(63 + below(128)) << 23 | fraction; break;
    case ENDS: return copysignf(ends32[below(ENDS32)], sign ? -1 : 1);
    default: break;
  }
  memcpy(&value, &bits, sizeof value);
  return value;
}

/* The product's neighbour or itself, of either sign, perhaps scaled: sums that cancel, ties. */
static double beside(double product) {
  if (product == 0 || !isfinite(product)) return product;
  const int steps = below(3) - 1;
  if (steps) product = nextafter(product, steps < 0 ? -INFINITY : INFINITY);
  return ldexp(below(2) ? product : -product, below(2) ? 0 : below(128) - 64);
}
static float beside32(float product) {
  if (product == 0 || !isfinite(product)) return product;
  const int steps = below(3) - 1;
  if (steps) product = nextafterf(product, steps < 0 ? -INFINITY : INFINITY);
  return ldexpf(below(2) ? product : -product, below(2) ? 0 : below(64) - 32);
}

static int same(double got, double want) {
  return isnan(want) ? isnan(got) : memcmp(&got, &want, sizeof got) == 0;
}

static void check_vectors(int rounds) {
  for (int round = 0; round < rounds; round++) {
    const int of_a = below(KINDS), of_b = below(KINDS), of_c = below(KINDS);
    DESCRIBE("round %d", round);
    float a[16], b[16], c[16], got[16];
    for (int i = 0; i < 16; i++) {
      a[i] = number32(of_a), b[i] = number32(of_b);
      got[i] = c[i] = below(4) ? number32(of_c) : beside32(a[i] * b[i]);
    }
    smxk_fma_each_f32(a, b, got);
    for (int i = 0; i < 16; i++) {
      const float want = fmaf(a[i], b[i], c[i]);
      CHECK(same(got[i], want), "float32 %a, %a, %a: %a, not %a", a[i], b[i], c[i], got[i], want);
    }
    double d[8], e[8], f[8], each[8];
    for (int i = 0; i < 8; i++) {
      d[i] = number(of_a), e[i] = number(of_b);
      each[i] = f[i] = below(4) ? number(of_c) : beside(d[i] * e[i]);
    }
    smxk_fma_each_f64(d, e, each);
    for (int i = 0; i < 8; i++) {
      const double want = fma(d[i], e[i], f[i]), one = fma_of_v2(d[i], e[i], f[i]);
      CHECK(same(each[i], want), "float64 %a, %a, %a: %a, not %a", d[i], e[i], f[i], each[i], want);
      CHECK(same(one, want), "one float64 %a, %a, %a: %a, not %a", d[i], e[i], f[i], one, want);
    }
  }
}

/* Every three of the ends, of every sign; in float64 each also between the lanes of others. */
static void check_ends(void) {
  DESCRIBE("ends of the range");
  for (int k = 0; k < 8 * ENDS64 * ENDS64 * ENDS64; k++) {
    const double a = copysign(ends[k / 8 % ENDS64], k & 1 ? -1 : 1);
    const double b = copysign(ends[k / 8 / ENDS64 % ENDS64], k & 2 ? -1 : 1);
    const double c = copysign(ends[k / 8 / ENDS64 / ENDS64], k & 4 ? -1 : 1);
    double x[8] = {1, a, 1, 1, a, a, 1, 0}, y[8] = {1, b, 1, 1, b, b, 1, 0};
    double z[8] = {1, c, 1, 1, c, c};
    const double want = fma(a, b, c);
    smxk_fma_each_f64(x, y, z);
    CHECK(same(z[1], want) && same(z[4], want) && z[0] == 2 && z[6] == 1 && z[7] == 0,
          "float64 %a, %a, %a: %a, not %a", a, b, c, z[1], want);
    CHECK(same(fma_of_v2(a, b, c), want), "one float64 %a, %a, %a: %a, not %a", a, b, c,
          fma_of_v2(a, b, c), want);
  }
  for (int k = 0; k < 8 * ENDS32 * ENDS32 * ENDS32; k++) {
    const float a = copysignf(ends32[k / 8 % ENDS32], k & 1 ? -1 : 1);
    const float b = copysignf(ends32[k / 8 / ENDS32 % ENDS32], k & 2 ? -1 : 1);
    const float c = copysignf(ends32[k / 8 / ENDS32 / ENDS32], k & 4 ? -1 : 1);
    float x[16] = {1, a}, y[16] = {1, b}, z[16] = {1, c};
    smxk_fma_each_f32(x, y, z);
    CHECK(same(z[1], fmaf(a, b, c)), "float32 %a, %a, %a: %a, not %a", a, b, c, z[1],
          fmaf(a, b, c));
  }
}
#else /* other architectures have the instruction, and no such code */
static void check_vectors(int rounds) { (void)rounds; }
static void check_ends(void) {}
#endif

int main(void) {
  check_ends();
  check_vectors(is_light() ? 20000 : 400000);
  return finish("test_fma");
}
