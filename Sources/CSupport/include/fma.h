/* a·b + c rounded once, where the instruction set lacks it (fma.c). Each call replaces *c. */
#ifndef SMXK_FMA_H
#define SMXK_FMA_H

/* 16 of float32, 8 of float64. */
void smxk_fma_each_f32(const float *a, const float *b, float *c);
void smxk_fma_each_f64(const double *a, const double *b, double *c);

#endif
