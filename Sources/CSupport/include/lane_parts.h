/* Lanes [from, to) of a vector; the others read as `fill` and are not touched in memory. A part of
 * lanes.h, which includes it. */
#ifndef SMXK_LANE_PARTS_H
#define SMXK_LANE_PARTS_H

#if defined(__AVX512F__)
SMXK_INLINE uint32_t smxk_lanes(int64_t from, int64_t to) {
  return ((1u << to) - 1u) & ~((1u << from) - 1u);
}
SMXK_INLINE smxk_f32x16 smxk_load_part_f32(const float *p, int64_t from, int64_t to, float fill) {
  return (smxk_f32x16)_mm512_mask_loadu_ps(_mm512_set1_ps(fill), (__mmask16)smxk_lanes(from, to),
                                           p);
}
SMXK_INLINE void smxk_store_part_f32(float *p, int64_t from, int64_t to, smxk_f32x16 v) {
  _mm512_mask_storeu_ps(p, (__mmask16)smxk_lanes(from, to), (__m512)v);
}
SMXK_INLINE smxk_f64x8 smxk_load_part_f64(const double *p, int64_t from, int64_t to, double fill) {
  return (smxk_f64x8)_mm512_mask_loadu_pd(_mm512_set1_pd(fill), (__mmask8)smxk_lanes(from, to), p);
}
SMXK_INLINE void smxk_store_part_f64(double *p, int64_t from, int64_t to, smxk_f64x8 v) {
  _mm512_mask_storeu_pd(p, (__mmask8)smxk_lanes(from, to), (__m512d)v);
}
SMXK_INLINE smxk_u16x16 smxk_load_part_u16(const void *p, int64_t from, int64_t to) {
  return (smxk_u16x16)_mm256_maskz_loadu_epi16((__mmask16)smxk_lanes(from, to), p);
}
SMXK_INLINE void smxk_store_part_u16(void *p, int64_t from, int64_t to, smxk_u16x16 v) {
  _mm256_mask_storeu_epi16(p, (__mmask16)smxk_lanes(from, to), (__m256i)v);
}
SMXK_INLINE smxk_f32x16 smxk_fill_f32(smxk_f32x16 v, int64_t from, int64_t to, float fill) {
  return (smxk_f32x16)_mm512_mask_mov_ps(_mm512_set1_ps(fill), (__mmask16)smxk_lanes(from, to),
                                         (__m512)v);
}
#else
/* Up to 64 bytes, an even number. Out of line: it stands at the end of nearly every loop, and runs
 * once a row. */
static __attribute__((noinline)) void smxk_copy_part(const char *from, char *to, int64_t bytes) {
  if (bytes & 64) __builtin_memcpy(to, from, 64);
  if (bytes & 32) __builtin_memcpy(to, from, 32), from += 32, to += 32;
  if (bytes & 16) __builtin_memcpy(to, from, 16), from += 16, to += 16;
  if (bytes & 8) __builtin_memcpy(to, from, 8), from += 8, to += 8;
  if (bytes & 4) __builtin_memcpy(to, from, 4), from += 4, to += 4;
  if (bytes & 2) __builtin_memcpy(to, from, 2);
}
#define SMXK_STORE_PART(NAME, POINTER, VECTOR, BYTES)                                              \
  SMXK_INLINE void NAME(POINTER p, int64_t from, int64_t to, VECTOR v) {                           \
    smxk_copy_part((const char *)&v + BYTES * from, (char *)p + BYTES * from,                      \
                   BYTES * (to - from));                                                           \
  }
SMXK_STORE_PART(smxk_store_part_f32, float *, smxk_f32x16, 4)
SMXK_STORE_PART(smxk_store_part_f64, double *, smxk_f64x8, 8)
SMXK_STORE_PART(smxk_store_part_u16, void *, smxk_u16x16, 2)
#undef SMXK_STORE_PART
SMXK_INLINE smxk_u16x16 smxk_load_part_u16(const void *p, int64_t from, int64_t to) {
  smxk_u16x16 v = {0};
  smxk_copy_part((const char *)p + 2 * from, (char *)&v + 2 * from, 2 * (to - from));
  return v;
}
#if defined(__AVX2__)
SMXK_INLINE smxk_f32x16 smxk_load_part_f32(const float *p, int64_t from, int64_t to, float fill) {
  const smxk_u32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const smxk_u32x16 is_in = (smxk_u32x16)(lane - (uint32_t)from < (uint32_t)(to - from));
  const __m256i lower = (__m256i)is_in.lo, upper = (__m256i)is_in.hi;
  const __m256 other = _mm256_set1_ps(fill);
  smxk_f32x16 v;
  v.lo = (smxk_f32x8)_mm256_blendv_ps(other, _mm256_maskload_ps(p, lower), (__m256)lower);
  v.hi = (smxk_f32x8)_mm256_blendv_ps(other, _mm256_maskload_ps(p + 8, upper), (__m256)upper);
  return v;
}
SMXK_INLINE smxk_f64x8 smxk_load_part_f64(const double *p, int64_t from, int64_t to, double fill) {
  const smxk_u64x8 lane = {0, 1, 2, 3, 4, 5, 6, 7};
  const smxk_u64x8 is_in = (smxk_u64x8)(lane - (uint64_t)from < (uint64_t)(to - from));
  const __m256i lower = (__m256i)is_in.lo, upper = (__m256i)is_in.hi;
  const __m256d other = _mm256_set1_pd(fill);
  smxk_f64x8 v;
  v.lo = (smxk_f64x4)_mm256_blendv_pd(other, _mm256_maskload_pd(p, lower), (__m256d)lower);
  v.hi = (smxk_f64x4)_mm256_blendv_pd(other, _mm256_maskload_pd(p + 4, upper), (__m256d)upper);
  return v;
}
#else
SMXK_INLINE smxk_f32x16 smxk_load_part_f32(const float *p, int64_t from, int64_t to, float fill) {
  smxk_f32x16 v = (smxk_f32x16)fill;
  smxk_copy_part((const char *)(p + from), (char *)&v + 4 * from, 4 * (to - from));
  return v;
}
SMXK_INLINE smxk_f64x8 smxk_load_part_f64(const double *p, int64_t from, int64_t to, double fill) {
  smxk_f64x8 v = (smxk_f64x8)fill;
  smxk_copy_part((const char *)(p + from), (char *)&v + 8 * from, 8 * (to - from));
  return v;
}
#endif
SMXK_INLINE smxk_f32x16 smxk_fill_f32(smxk_f32x16 v, int64_t from, int64_t to, float fill) {
  const smxk_u32x16 lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const smxk_u32x16 is_in = (smxk_u32x16)(lane - (uint32_t)from < (uint32_t)(to - from));
  const smxk_u32x16 others = __builtin_bit_cast(smxk_u32x16, (smxk_f32x16)fill) & ~is_in;
  return __builtin_bit_cast(smxk_f32x16, (__builtin_bit_cast(smxk_u32x16, v) & is_in) | others);
}
#endif

#endif
