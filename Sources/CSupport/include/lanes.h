/* The few vector operations that Swift does not lower well, for whatever instruction set the
 * including target is compiled for. Portable C on Clang's vector types; a branch for AVX-512 stands
 * only where it saves a loop over the lanes. Nothing here rounds differently on any of them. */
#ifndef SMXK_LANES_H
#define SMXK_LANES_H

#include <stdint.h>

#include "fma.h"

#if defined(__AVX512F__)
#include <immintrin.h>
#elif defined(__F16C__)
#include <immintrin.h>
#endif

/* Vectors are wider than some targets' registers; every function here is inlined, so no ABI is at
 * stake. */
#pragma clang diagnostic ignored "-Wpsabi"

#define SMXK_INLINE static inline __attribute__((always_inline))

typedef float smxk_f32x16 __attribute__((ext_vector_type(16)));
typedef float smxk_f32x8 __attribute__((ext_vector_type(8)));
typedef double smxk_f64x8 __attribute__((ext_vector_type(8)));
typedef double smxk_f64x4 __attribute__((ext_vector_type(4)));
typedef uint16_t smxk_u16x16 __attribute__((ext_vector_type(16)));
typedef uint32_t smxk_u32x16 __attribute__((ext_vector_type(16)));
typedef uint64_t smxk_u64x8 __attribute__((ext_vector_type(8)));
typedef smxk_f32x16 smxk_f32x16_unaligned __attribute__((aligned(1)));
typedef smxk_f64x8 smxk_f64x8_unaligned __attribute__((aligned(1)));
typedef smxk_u16x16 smxk_u16x16_unaligned __attribute__((aligned(1)));
typedef uint8_t smxk_u8x16 __attribute__((ext_vector_type(16), aligned(1)));
typedef uint8_t smxk_u8x8 __attribute__((ext_vector_type(8), aligned(1)));

typedef struct {
  double high, low;
} smxk_pair;

/* -- a·b + c, rounded once --------------------------------------------------------------------- */

#if defined(__FMA__) || defined(__aarch64__)
SMXK_INLINE smxk_f32x16 smxk_fma_f32(smxk_f32x16 a, smxk_f32x16 b, smxk_f32x16 c) {
  return __builtin_elementwise_fma(a, b, c);
}
SMXK_INLINE smxk_f64x8 smxk_fma_f64(smxk_f64x8 a, smxk_f64x8 b, smxk_f64x8 c) {
  return __builtin_elementwise_fma(a, b, c);
}
#else
/* Out of line: some tens of operations take the place of one. */
SMXK_INLINE smxk_f32x16 smxk_fma_f32(smxk_f32x16 a, smxk_f32x16 b, smxk_f32x16 c) {
  smxk_fma_each_f32((const float *)&a, (const float *)&b, (float *)&c);
  return c;
}
SMXK_INLINE smxk_f64x8 smxk_fma_f64(smxk_f64x8 a, smxk_f64x8 b, smxk_f64x8 c) {
  smxk_fma_each_f64((const double *)&a, (const double *)&b, (double *)&c);
  return c;
}
#endif

/* The same, but 0 in lanes where x < bound: with AVX-512 no more than the comparison. */
SMXK_INLINE smxk_f32x16 smxk_fma_unless_less_f32(smxk_f32x16 x, smxk_f32x16 bound, smxk_f32x16 a,
                                                 smxk_f32x16 b, smxk_f32x16 c) {
#if defined(__AVX512F__)
  const __mmask16 kept = _mm512_cmp_ps_mask((__m512)x, (__m512)bound, _CMP_NLT_UQ);
  return (smxk_f32x16)_mm512_maskz_fmadd_ps(kept, (__m512)a, (__m512)b, (__m512)c);
#else
  return x < bound ? (smxk_f32x16)0.0f : smxk_fma_f32(a, b, c);
#endif
}
SMXK_INLINE smxk_f64x8 smxk_fma_unless_less_f64(smxk_f64x8 x, smxk_f64x8 bound, smxk_f64x8 a,
                                                smxk_f64x8 b, smxk_f64x8 c) {
#if defined(__AVX512F__)
  const __mmask8 kept = _mm512_cmp_pd_mask((__m512d)x, (__m512d)bound, _CMP_NLT_UQ);
  return (smxk_f64x8)_mm512_maskz_fmadd_pd(kept, (__m512d)a, (__m512d)b, (__m512d)c);
#else
  return x < bound ? (smxk_f64x8)0.0 : smxk_fma_f64(a, b, c);
#endif
}

/* -- comparisons: each lane of one or the other ------------------------------------------------ */

/* a > b ? a : b, so that a NaN in b stays and a NaN in a is passed over. */
SMXK_INLINE smxk_f32x16 smxk_max_f32(smxk_f32x16 a, smxk_f32x16 b) { return a > b ? a : b; }
SMXK_INLINE smxk_f32x16 smxk_pick_less_f32(smxk_f32x16 a, smxk_f32x16 b, smxk_f32x16 yes,
                                           smxk_f32x16 no) {
  return a < b ? yes : no;
}
SMXK_INLINE smxk_f32x16 smxk_pick_equal_f32(smxk_f32x16 a, smxk_f32x16 b, smxk_f32x16 yes,
                                            smxk_f32x16 no) {
  return a == b ? yes : no;
}
/* a > b ? a : b, so that a NaN in b stays and a NaN in a is passed over. */
SMXK_INLINE smxk_f64x8 smxk_max_f64(smxk_f64x8 a, smxk_f64x8 b) { return a > b ? a : b; }
SMXK_INLINE smxk_f64x8 smxk_pick_less_f64(smxk_f64x8 a, smxk_f64x8 b, smxk_f64x8 yes,
                                          smxk_f64x8 no) {
  return a < b ? yes : no;
}
SMXK_INLINE smxk_f64x8 smxk_pick_equal_f64(smxk_f64x8 a, smxk_f64x8 b, smxk_f64x8 yes,
                                           smxk_f64x8 no) {
  return a == b ? yes : no;
}

/* A bit for each lane that is not <= bound, a NaN among them. */
typedef _Bool smxk_bool16 __attribute__((ext_vector_type(16)));
typedef _Bool smxk_bool8 __attribute__((ext_vector_type(8)));
SMXK_INLINE uint32_t smxk_above_f32(smxk_f32x16 v, smxk_f32x16 bound) {
  return (uint16_t)~__builtin_bit_cast(uint16_t, __builtin_convertvector(v <= bound, smxk_bool16));
}
SMXK_INLINE uint32_t smxk_above_f64(smxk_f64x8 v, smxk_f64x8 bound) {
  return (uint8_t)~__builtin_bit_cast(uint8_t, __builtin_convertvector(v <= bound, smxk_bool8));
}

/* -- powers of two ----------------------------------------------------------------------------- */

SMXK_INLINE smxk_f32x16 smxk_floor_f32(smxk_f32x16 v) {
#if defined(__AVX512F__)
  return (smxk_f32x16)_mm512_roundscale_ps((__m512)v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
  return __builtin_elementwise_floor(v);
#endif
}
SMXK_INLINE smxk_f64x8 smxk_floor_f64(smxk_f64x8 v) {
#if defined(__AVX512F__)
  return (smxk_f64x8)_mm512_roundscale_pd((__m512d)v, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
#else
  return __builtin_elementwise_floor(v);
#endif
}

/* v less the nearest whole number, exact for |v| < 2^22 (2^51); anything beyond, and for what is
 * not finite. */
SMXK_INLINE smxk_f32x16 smxk_rest_f32(smxk_f32x16 v) {
#if defined(__AVX512F__)
  return (smxk_f32x16)_mm512_reduce_ps((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  return v - ((v + 0x1.8p23f) - 0x1.8p23f);
#endif
}
SMXK_INLINE smxk_f64x8 smxk_rest_f64(smxk_f64x8 v) {
#if defined(__AVX512F__)
  return (smxk_f64x8)_mm512_reduce_pd((__m512d)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
  return v - ((v + 0x1.8p52) - 0x1.8p52);
#endif
}

/* p · 2^n, rounded once where the result is subnormal, for p from 1/2 to 2 (with the instruction
 * any) and whole n up to 62 (958), d being n before it was rounded; 0 where d is below -151
 * (-1076), whatever p and n then are; NaN where d is. Without the instruction the power comes in
 * two factors, each a normal number, and both are 0 before they could underflow: some CPUs take a
 * detour of 150 cycles where a product does. */
SMXK_INLINE smxk_f32x16 smxk_scaled_f32(smxk_f32x16 p, smxk_f32x16 n, smxk_f32x16 d) {
#if defined(__AVX512F__)
  (void)d;
  return (smxk_f32x16)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
  smxk_u32x16 shown = ~(smxk_u32x16)(d < -151.0f);
  smxk_u32x16 power = __builtin_bit_cast(smxk_u32x16, n + (0x1.8p23f + 127 + 64)) << 23;
  smxk_f32x16 large = __builtin_bit_cast(smxk_f32x16, __builtin_bit_cast(smxk_u32x16, p) & shown) *
                     __builtin_bit_cast(smxk_f32x16, power & shown);
  return large * 0x1p-64f;
#endif
}
SMXK_INLINE smxk_f64x8 smxk_scaled_f64(smxk_f64x8 p, smxk_f64x8 n, smxk_f64x8 d) {
#if defined(__AVX512F__)
  (void)d;
  return (smxk_f64x8)_mm512_scalef_pd((__m512d)p, (__m512d)n);
#else
  smxk_u64x8 shown = ~(smxk_u64x8)(d < -1076.0);
  smxk_u64x8 power = __builtin_bit_cast(smxk_u64x8, n + (0x1.8p52 + 1023 + 64)) << 52;
  smxk_f64x8 large = __builtin_bit_cast(smxk_f64x8, __builtin_bit_cast(smxk_u64x8, p) & shown) *
                     __builtin_bit_cast(smxk_f64x8, power & shown);
  return large * 0x1p-64;
#endif
}

/* p · 2^n for p from 1/2 to 2 and whole n up to 62, d being n before it was rounded, where d is at
 * least `least`, -125 (-1021) or more; else 0, and nothing underflows; NaN where d is. */
SMXK_INLINE smxk_f32x16 smxk_scaled_from_f32(smxk_f32x16 p, smxk_f32x16 n, smxk_f32x16 d,
                                             float least) {
#if defined(__AVX512F__)
  const __mmask16 shown = _mm512_cmp_ps_mask((__m512)d, _mm512_set1_ps(least), _CMP_NLT_UQ);
  return (smxk_f32x16)_mm512_maskz_scalef_ps(shown, (__m512)p, (__m512)n);
#else
  const smxk_u32x16 shown = ~(smxk_u32x16)(d < least);
  const smxk_u32x16 power = __builtin_bit_cast(smxk_u32x16, n + (0x1.8p23f + 127)) << 23;
  return __builtin_bit_cast(smxk_f32x16, __builtin_bit_cast(smxk_u32x16, p) & shown) *
         __builtin_bit_cast(smxk_f32x16, power & shown);
#endif
}
SMXK_INLINE smxk_f64x8 smxk_scaled_from_f64(smxk_f64x8 p, smxk_f64x8 n, smxk_f64x8 d,
                                            double least) {
#if defined(__AVX512F__)
  const __mmask8 shown = _mm512_cmp_pd_mask((__m512d)d, _mm512_set1_pd(least), _CMP_NLT_UQ);
  return (smxk_f64x8)_mm512_maskz_scalef_pd(shown, (__m512d)p, (__m512d)n);
#else
  const smxk_u64x8 shown = ~(smxk_u64x8)(d < least);
  const smxk_u64x8 power = __builtin_bit_cast(smxk_u64x8, n + (0x1.8p52 + 1023)) << 52;
  return __builtin_bit_cast(smxk_f64x8, __builtin_bit_cast(smxk_u64x8, p) & shown) *
         __builtin_bit_cast(smxk_f64x8, power & shown);
#endif
}

/* -- float64 from float32, exact, and back, rounded -------------------------------------------- */

/* A vector that the compiler does not look behind. Where both halves are widened, it would take
 * each operation before that in halves, too; of shuffles one after the other it would make others,
 * twice as many. */
SMXK_INLINE smxk_f32x16 smxk_whole_f32(smxk_f32x16 v) {
#if defined(__AVX512F__)
  __asm__("" : "+v"(v));
#elif defined(__AVX__)
  smxk_f32x8 lower = v.lo, upper = v.hi;
  __asm__("" : "+x"(lower), "+x"(upper));
  v = __builtin_shufflevector(lower, upper, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#endif
  return v;
}
SMXK_INLINE smxk_f64x8 smxk_widen(smxk_f32x8 v) { return __builtin_convertvector(v, smxk_f64x8); }
SMXK_INLINE smxk_f32x8 smxk_narrow(smxk_f64x8 v) { return __builtin_convertvector(v, smxk_f32x8); }

/* -- across the lanes: halves upon halves ------------------------------------------------------ */

/* Lane l of the result is lane l + n, counted around. */
SMXK_INLINE smxk_f32x16 smxk_turn_f32(smxk_f32x16 v, int64_t n) {
#if defined(__AVX512F__)
  __m512i own = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return (smxk_f32x16)_mm512_permutexvar_ps(_mm512_add_epi32(own, _mm512_set1_epi32((int)n)),
                                            (__m512)v);
#else
  smxk_f32x16 turned;
  for (int64_t lane = 0; lane < 16; lane++) turned[lane] = v[(lane + n) & 15];
  return turned;
#endif
}
SMXK_INLINE smxk_f64x8 smxk_turn_f64(smxk_f64x8 v, int64_t n) {
#if defined(__AVX512F__)
  __m512i own = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7);
  return (smxk_f64x8)_mm512_permutexvar_pd(_mm512_add_epi64(own, _mm512_set1_epi64(n)), (__m512d)v);
#else
  smxk_f64x8 turned;
  for (int64_t lane = 0; lane < 8; lane++) turned[lane] = v[(lane + n) & 7];
  return turned;
#endif
}

/* The lanes of a and b by turns: of their lower halves, and of their upper ones. */
SMXK_INLINE smxk_f32x16 smxk_zip_lower_f32(smxk_f32x16 a, smxk_f32x16 b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
SMXK_INLINE smxk_f32x16 smxk_zip_upper_f32(smxk_f32x16 a, smxk_f32x16 b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                 31);
}

/* The same within each quarter of 16 bytes, which AVX-512 does beside its multiply-adds. */
SMXK_INLINE smxk_f32x16 smxk_weave_lower_f32(smxk_f32x16 a, smxk_f32x16 b) {
  return smxk_whole_f32(__builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25,
                                               12, 28, 13, 29));
}
SMXK_INLINE smxk_f32x16 smxk_weave_upper_f32(smxk_f32x16 a, smxk_f32x16 b) {
  return smxk_whole_f32(__builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27,
                                               14, 30, 15, 31));
}
SMXK_INLINE smxk_f64x8 smxk_weave_lower_f64(smxk_f64x8 a, smxk_f64x8 b) {
  return __builtin_shufflevector(a, b, 0, 8, 2, 10, 4, 12, 6, 14);
}
SMXK_INLINE smxk_f64x8 smxk_weave_upper_f64(smxk_f64x8 a, smxk_f64x8 b) {
  return __builtin_shufflevector(a, b, 1, 9, 3, 11, 5, 13, 7, 15);
}

/* 16 bytes from each of four places. */
SMXK_INLINE smxk_f32x16 smxk_load_quarters_f32(const void *p, const void *q, const void *r,
                                               const void *s) {
  typedef float quarter __attribute__((vector_size(16)));
  quarter a, b, c, d;
  __builtin_memcpy(&a, p, sizeof a);
  __builtin_memcpy(&b, q, sizeof b);
  __builtin_memcpy(&c, r, sizeof c);
  __builtin_memcpy(&d, s, sizeof d);
  const smxk_f32x8 lower = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
  const smxk_f32x8 upper = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
  return smxk_whole_f32(__builtin_shufflevector(lower, upper, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11,
                                               12, 13, 14, 15));
}
SMXK_INLINE smxk_f64x8 smxk_load_quarters_f64(const void *p, const void *q, const void *r,
                                              const void *s) {
  return (smxk_f64x8)smxk_load_quarters_f32(p, q, r, s);
}

/* The largest lane; none may be NaN. */
SMXK_INLINE float smxk_largest_f32(smxk_f32x16 v) {
  smxk_f32x8 a = v.lo > v.hi ? v.lo : v.hi;
  __auto_type b = a.lo > a.hi ? a.lo : a.hi;
  __auto_type c = b.lo > b.hi ? b.lo : b.hi;
  return c[0] > c[1] ? c[0] : c[1];
}
SMXK_INLINE double smxk_largest_f64(smxk_f64x8 v) {
  __auto_type a = v.lo > v.hi ? v.lo : v.hi;
  __auto_type b = a.lo > a.hi ? a.lo : a.hi;
  return b[0] > b[1] ? b[0] : b[1];
}

/* The sum over the lanes of (high - origin) + low, in float64. Order is part of the contract: lane
 * l meets l + 8, then l + 4, l + 2, l + 1. */
SMXK_INLINE smxk_pair smxk_total_f32(smxk_f32x16 high, smxk_f32x16 low, float origin) {
  smxk_f64x8 start = (smxk_f64x8)(double)origin;
  smxk_f64x8 a = (smxk_widen(high.lo) - start) + smxk_widen(low.lo);
  smxk_f64x8 b = (smxk_widen(high.hi) - start) + smxk_widen(low.hi);
  smxk_f64x8 eight = a + b;
  __auto_type four = eight.lo + eight.hi;
  __auto_type two = four.lo + four.hi;
  return (smxk_pair){two[0] + two[1], 0};
}

/* a + b of two pairs' high parts by TwoSum, what it lost joining the low parts. */
#define SMXK_HALVE(sum, rest, ah, al, bh, bl)                                  \
  __auto_type sum = (ah) + (bh);                                               \
  __auto_type part_##sum = sum - (ah);                                         \
  __auto_type rest = ((al) + (bl)) + (((ah) - (sum - part_##sum)) + ((bh) - part_##sum))

/* The same of float64 lanes, in pairs. Order is part of the contract: lane l meets l + 4, then l +
 * 2, l + 1. */
SMXK_INLINE smxk_pair smxk_total_f64(smxk_f64x8 high, smxk_f64x8 low, double origin) {
  smxk_f64x8 eight = high - (smxk_f64x8)origin;
  SMXK_HALVE(four, four_low, eight.lo, low.lo, eight.hi, low.hi);
  SMXK_HALVE(two, two_low, four.lo, four_low.lo, four.hi, four_low.hi);
  SMXK_HALVE(one, one_low, two[0], two_low[0], two[1], two_low[1]);
  /* Small terms have all gone to the low parts: the high part must not stay 0 then. */
  double sum = one + one_low;
  return (smxk_pair){sum, one_low - (sum - one)};
}
#undef SMXK_HALVE

#include "lane_parts.h"

/* -- ahead of their use ------------------------------------------------------------------------ */

SMXK_INLINE void smxk_prefetch_read(const void *p) { __builtin_prefetch(p, 0, 3); }
/* Into the second-level cache. */
SMXK_INLINE void smxk_prefetch_ahead(const void *p) { __builtin_prefetch(p, 0, 2); }
/* On x86-64 the same instruction as for reading: PREFETCHW, which x86-64-v4 does not promise, was 0
 * to 2 % slower (softmax and its gradient, 512 × 1024 and 4096 × 4096, one thread and two). */
SMXK_INLINE void smxk_prefetch_write(const void *p) { __builtin_prefetch(p, 1, 3); }

/* -- past the caches --------------------------------------------------------------------------- */

/* p is aligned to the vector. */
SMXK_INLINE void smxk_stream_f32(float *p, smxk_f32x16 v) {
  __builtin_nontemporal_store(v, (smxk_f32x16 *)p);
}
SMXK_INLINE void smxk_stream_f64(double *p, smxk_f64x8 v) {
  __builtin_nontemporal_store(v, (smxk_f64x8 *)p);
}
/* Such stores are in no order with others: before another thread is told that they are done. */
SMXK_INLINE void smxk_stream_fence(void) {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

#endif
