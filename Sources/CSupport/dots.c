/* Products of bfloat16 by the dot products of AVX512-BF16, for attention with precision "fast"
 * (AttentionFast.swift).
 *
 * VDPBF16PS adds two products to each of 16 float32. AMD's CPUs start one whenever they could
 * start an FMA (Zen 4: 235 against 118 GFLOP/s on a core), so the limit is twice that of float32.
 * Intel's have half the rate of FMA's operations (Sapphire Rapids 0.54), and most of them AMX:
 * without that, float32 is the better way. Subnormals count as 0 and roundings are the CPU's, so
 * results are outside the contract of bits. */
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <math.h>
#include <pthread.h>
#include <string.h>

#define DOT __attribute__((target("avx512f,avx512bf16")))

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int are_fast;

/* Once: in a virtual machine CPUID takes tens of microseconds. */
static void ask(void) {
  unsigned a, b, c, d;
  const int is_intel = __get_cpuid(0, &a, &b, &c, &d) && b == signature_INTEL_ebx;
  are_fast = !is_intel && __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a & 1u << 5) != 0;
}

int32_t smxk_dots_are_fast(void) {
  pthread_once(&once, ask);
  return are_fast;
}

/* ROWS × 16·VECTORS results in registers: each pair of the left numbers is spread over a register
 * and multiplies VECTORS others. 8 × 3 are 24 accumulators, 3 registers of the right side and 2 for
 * the left: 11 loads for 24 products. What becomes of a sum is FINISH(sum, where it goes). */
#define UNROLLED(I, COUNT) _Pragma("clang loop unroll(full)") for (int I = 0; I < COUNT; I++)
#define BLOCK(NAME, ROWS, VECTORS, FINISH)                                                         \
  DOT static void NAME(const char *left, int64_t stride, const char *right, int64_t pairs,         \
                       int64_t pitch, float *results, float scale, float *of_lanes) {              \
    __m512 sums[ROWS][VECTORS];                                                                    \
    UNROLLED(r, ROWS) UNROLLED(v, VECTORS) sums[r][v] = _mm512_setzero_ps();                       \
    for (int64_t k = 0; k < pairs; k++, left += 4, right += 4 * pitch) {                           \
      __m512bh columns[VECTORS];                                                                   \
      UNROLLED(v, VECTORS) columns[v] = (__m512bh)_mm512_loadu_si512(right + 64 * v);              \
      UNROLLED(r, ROWS) {                                                                          \
        int32_t pair;                                                                              \
        memcpy(&pair, left + r * stride, sizeof pair);                                             \
        const __m512bh row = (__m512bh)_mm512_set1_epi32(pair);                                    \
        UNROLLED(v, VECTORS) sums[r][v] = _mm512_dpbf16_ps(sums[r][v], row, columns[v]);           \
      }                                                                                            \
    }                                                                                              \
    UNROLLED(v, VECTORS) {                                                                         \
      __m512 lanes = _mm512_loadu_ps(of_lanes + 16 * v);                                           \
      UNROLLED(r, ROWS) FINISH(sums[r][v], results + r * pitch + 16 * v);                          \
      _mm512_storeu_ps(of_lanes + 16 * v, lanes);                                                  \
    }                                                                                              \
  }
typedef void block(const char *left, int64_t stride, const char *right, int64_t pairs,
                   int64_t pitch, float *results, float scale, float *of_lanes);

/* The largest of each lane on the way; a NaN is passed over. */
#define TO_SCORE(SUM, PLACE)                                        \
  do {                                                              \
    const __m512 score = _mm512_mul_ps(SUM, _mm512_set1_ps(scale)); \
    lanes = _mm512_max_ps(score, lanes);                            \
    _mm512_storeu_ps(PLACE, score);                                 \
  } while (0)
BLOCK(scores_of_one, 16, 1, TO_SCORE)
BLOCK(scores_of_three, 8, 3, TO_SCORE)

#define TO_SUM(SUM, PLACE)                                                                         \
  (void)scale, _mm512_storeu_ps(PLACE, _mm512_fmadd_ps(_mm512_loadu_ps(PLACE), lanes, SUM))
BLOCK(sums_of_one, 16, 1, TO_SUM)
BLOCK(sums_of_three, 8, 3, TO_SUM)

/* Three vectors of lanes together, else (the last tile of a row of them) one after the other. */
static void product(block *of_one, block *of_three, const char *left, int64_t stride,
                    const char *right, int64_t rows, int64_t steps, int64_t vectors, float *results,
                    float scale, float *of_lanes) {
  const int64_t pitch = 16 * vectors, pairs = 16 * steps;
  if (vectors == 3) {
    for (int64_t r = 0; r < rows; r += 8)
      of_three(left + r * stride, stride, right, pairs, pitch, results + r * pitch, scale,
               of_lanes);
    return;
  }
  for (int64_t v = 0; v < pitch; v += 16)
    for (int64_t r = 0; r < rows; r += 16)
      of_one(left + r * stride, stride, right + 4 * v, pairs, pitch, results + r * pitch + v, scale,
             of_lanes + v);
}

void smxk_dot_scores(const void *left, int64_t left_stride, const void *right, int64_t rows,
                     int64_t steps, int64_t vectors, float scale, float *scores, float *largest) {
  for (int64_t lane = 0; lane < 16 * vectors; lane++) largest[lane] = -INFINITY;
  product(scores_of_one, scores_of_three, left, left_stride, right, rows, steps, vectors, scores,
          scale, largest);
}

void smxk_dot_sums(const void *left, int64_t left_stride, const void *right, int64_t rows,
                   int64_t steps, int64_t vectors, float *factors, float *sums) {
  product(sums_of_one, sums_of_three, left, left_stride, right, rows, steps, vectors, sums, 1,
          factors);
}
#else
int32_t smxk_dots_are_fast(void) { return 0; }
void smxk_dot_scores(const void *left, int64_t left_stride, const void *right, int64_t rows,
                     int64_t steps, int64_t vectors, float scale, float *scores, float *largest) {
  (void)left, (void)left_stride, (void)right, (void)rows, (void)steps, (void)vectors, (void)scale,
      (void)scores, (void)largest;
}
void smxk_dot_sums(const void *left, int64_t left_stride, const void *right, int64_t rows,
                   int64_t steps, int64_t vectors, float *factors, float *sums) {
  (void)left, (void)left_stride, (void)right, (void)rows, (void)steps, (void)vectors, (void)factors,
      (void)sums;
}
#endif
