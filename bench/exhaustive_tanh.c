/* tanh over the floats, through additive attention (`make exhaustive`).
 *
 * One key, projected to 0, and as many queries as there are floats x, projected to themselves, give
 * the score 2^125 · tanh(x). From 2^20 on a row is counted from its largest score
 * (docs/attention.md), so that lse is the score itself, and every bit of tanh can be seen.
 *
 * Every float from 2^-30 to 2^5, and every 1021st of those from 2^-105 on, with both signs. The
 * reference is libm's float64 tanh, off by less than 2^-28 ulp of float32. Reports the worst input;
 * exit status 1 above 2 ulp (the bound in swiftmax_attention.h), where tanh falls while x rises, is
 * beyond 1, or differs between x and -x but in its sign. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "swiftmax.h"

enum { COUNT = 1 << 18, POWER = 125 };
static const double bound = 2;

static float float_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

static uint32_t bits_of(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits;
}

static void tanh_of(float *x, float sign, float *out) {
  static float rows[COUNT];
  float zero = 0, v = ldexpf(1, POWER);
  int64_t count = COUNT, one = 1, many[] = {count, one}, single[] = {one, one};
  smx_tensor query = {x, SMX_FLOAT32, 2, many, NULL}, key = {&zero, SMX_FLOAT32, 2, single, NULL};
  smx_tensor w = {&sign, SMX_FLOAT32, 2, single, NULL}, vector = {&v, SMX_FLOAT32, 1, &one, NULL};
  smx_tensor lse = {out, SMX_FLOAT32, 1, &count, NULL}, result = {rows, SMX_FLOAT32, 2, many, NULL};
  smx_additive_attention_options options = {.size = sizeof options, .lse = &lse};
  if (smx_additive_attention(&query, &key, &key, &w, &w, &vector, &result, &options) != SMX_OK) {
    fprintf(stderr, "exhaustive_tanh: %s\n", smx_last_error());
    exit(2);
  }
  for (int i = 0; i < COUNT; i++) out[i] = ldexpf(out[i], -POWER);
}

typedef struct {
  double ulp;
  float x, got, before;
  int64_t floats, wrong;
} tally;

static void check(tally *t, float x, float got, float negative) {
  /* Beyond 20 the difference to 1 is below 2^-57. */
  const double exact = x > 20 ? 1 : tanh((double)x);
  int exponent;
  frexp(exact, &exponent);
  const double error = fabs(got - exact) * ldexp(1, 24 - (exponent < -125 ? -125 : exponent));
  t->floats++;
  if (!(got >= t->before && got <= 1) || bits_of(negative) != (bits_of(got) ^ 0x80000000u)) {
    if (t->wrong++ == 0)
      printf("wrong at %a: %a behind %a, of -x %a\n", x, got, t->before, negative);
  }
  t->before = got;
  if (!(error <= t->ulp)) t->ulp = error, t->x = x, t->got = got;
}

/* Floats from..<to in steps. */
static void run(tally *t, uint32_t from, uint32_t to, uint32_t step) {
  static float x[COUNT], got[COUNT], negative[COUNT];
  t->before = 0;
  for (uint64_t first = from; first < to; first += (uint64_t)COUNT * step) {
    for (uint64_t i = 0; i < COUNT; i++) {
      uint64_t bits = first + i * step;
      x[i] = float_of(bits < to ? (uint32_t)bits : to - 1);
    }
    tanh_of(x, 1, got);
    tanh_of(x, -1, negative);
    for (int i = 0; i < COUNT; i++) check(t, x[i], got[i], negative[i]);
  }
}

int main(void) {
  const char *isa = "?";
  tally t = {0};
  smx_isa(&isa);
  run(&t, bits_of(0x1p-30f), bits_of(0x1p5f), 1);
  run(&t, bits_of(0x1p-105f), bits_of(INFINITY) + 1, 1021);
  const int good = t.ulp <= bound && t.wrong == 0;
  printf("tanh, kernels for %s: %lld floats, worst %.4f ulp at %a (%a)%s\n", isa,
         (long long)t.floats, t.ulp, t.x, t.got, good ? "" : "  WRONG");
  return !good;
}
