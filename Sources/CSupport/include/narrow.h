/* Numbers of narrower types, in and out of the lanes of lanes.h: bytes, bfloat16, float16. */
#ifndef SMXK_NARROW_H
#define SMXK_NARROW_H

#include "lanes.h"

/* -- bytes ------------------------------------------------------------------------------------- */

SMXK_INLINE smxk_f32x16 smxk_load_bytes_f32(const void *p) {
  return __builtin_convertvector(*(const smxk_u8x16 *)p, smxk_f32x16);
}
SMXK_INLINE smxk_f64x8 smxk_load_bytes_f64(const void *p) {
  return __builtin_convertvector(*(const smxk_u8x8 *)p, smxk_f64x8);
}

/* -- bfloat16: the upper half of a float32 ----------------------------------------------------- */

SMXK_INLINE smxk_f32x16 smxk_load_bf16(const uint16_t *p) {
  smxk_u16x16 half = *(const smxk_u16x16_unaligned *)p;
  return __builtin_bit_cast(smxk_f32x16, __builtin_convertvector(half, smxk_u32x16) << 16);
}

/* Rounds to nearest, ties to even. A NaN must be the quiet one, 0x7fc00000, and becomes 0x7fc0. */
SMXK_INLINE void smxk_store_bf16(uint16_t *p, smxk_f32x16 v) {
  smxk_u32x16 bits = __builtin_bit_cast(smxk_u32x16, v);
  smxk_u32x16 rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  *(smxk_u16x16_unaligned *)p = __builtin_convertvector(rounded, smxk_u16x16);
}

/* -- float16 ----------------------------------------------------------------------------------- */

/* Shifts the fields into place, scales by 2^112 to move the bias, and repairs inf and NaN;
 * exact. */
SMXK_INLINE smxk_f32x16 smxk_load_f16(const uint16_t *p) {
#if defined(__AVX512F__)
  return (smxk_f32x16)_mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
#elif defined(__F16C__)
  smxk_f32x16 v;
  v.lo = (smxk_f32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
  v.hi = (smxk_f32x8)_mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 8)));
  return v;
#else
  smxk_u32x16 half = __builtin_convertvector(*(const smxk_u16x16_unaligned *)p, smxk_u32x16);
  smxk_u32x16 magnitude = (half & 0x7fffu) << 13;
  smxk_f32x16 scaled = __builtin_bit_cast(smxk_f32x16, magnitude) * 0x1p112f;
  smxk_u32x16 special = (smxk_u32x16)(magnitude >= 0x0f800000u);
  smxk_u32x16 bits = __builtin_bit_cast(smxk_u32x16, scaled) | (special & 0x7f800000u);
  return __builtin_bit_cast(smxk_f32x16, bits | ((half & 0x8000u) << 16));
#endif
}

/* The lower or the upper halves of 32-bit words, each a float16. */
SMXK_INLINE smxk_f32x16 smxk_halves_f16(smxk_f32x16 words, int32_t upper) {
  smxk_u32x16 bits = __builtin_bit_cast(smxk_u32x16, words);
  smxk_u16x16 half = __builtin_convertvector(upper ? bits >> 16 : bits, smxk_u16x16);
#if defined(__AVX512F__)
  return (smxk_f32x16)_mm512_cvtph_ps(__builtin_bit_cast(__m256i, half));
#else
  return smxk_load_f16((const uint16_t *)&half);
#endif
}

/* Rounds to nearest, ties to even. A NaN must be the quiet one, and becomes 0x7e00. Adding a power
 * of two 13 bits above the last bit that a float16 keeps makes the float32 unit round there,
 * subnormals included. */
SMXK_INLINE void smxk_store_f16(uint16_t *p, smxk_f32x16 v) {
#if defined(__AVX512F__)
  _mm256_storeu_si256((__m256i *)p,
                      _mm512_cvtps_ph((__m512)v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#elif defined(__F16C__)
  _mm_storeu_si128((__m128i *)p,
                   _mm256_cvtps_ph((__m256)v.lo, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
  _mm_storeu_si128((__m128i *)(p + 8),
                   _mm256_cvtps_ph((__m256)v.hi, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
#else
  smxk_u32x16 bits = __builtin_bit_cast(smxk_u32x16, v);
  smxk_u32x16 sign = (bits >> 16) & 0x8000u;
  bits &= 0x7fffffffu;
  smxk_u32x16 nan = (smxk_u32x16)(bits > 0x7f800000u);
  /* Normal results: drop 13 bits, rounding to even; the carry moves into the exponent. */
  smxk_u32x16 normal = (bits - 0x38000000u + 0xfffu + ((bits >> 13) & 1u)) >> 13;
  /* Below 2^-14: the sum with 0.5 has its last bit at 2^-24, the unit of a float16 subnormal. */
  smxk_f32x16 shifted = __builtin_bit_cast(smxk_f32x16, bits) + 0.5f;
  smxk_u32x16 tiny = __builtin_bit_cast(smxk_u32x16, shifted) - 0x3f000000u;
  smxk_u32x16 is_tiny = (smxk_u32x16)(bits < 0x38800000u);
  smxk_u32x16 is_large = (smxk_u32x16)(bits >= 0x477ff000u);
  smxk_u32x16 half = (tiny & is_tiny) | (normal & ~is_tiny);
  half = (half & ~is_large) | (is_large & 0x7c00u);
  half |= sign;
  half = (half & ~nan) | (nan & 0x7e00u);
  *(smxk_u16x16_unaligned *)p = __builtin_convertvector(half, smxk_u16x16);
#endif
}

#endif
