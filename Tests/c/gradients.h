/* The gradients by number, with the options of all of them, and a slow reference. */
#ifndef GRADIENTS_H
#define GRADIENTS_H

#include "values.h"

enum { VJP, JVP, LOG_VJP, SUM_VJP, GRADIENTS };
static const char *const gradient_names[GRADIENTS] = {"softmax_vjp", "softmax_jvp",
                                                      "log_softmax_vjp", "logsumexp_vjp"};

static inline smx_status call_gradient(int gradient, const smx_tensor *y, const smx_tensor *dy,
                                       const smx_tensor *dx, const arguments *a) {
  smx_softmax_options options = {.size = sizeof options,
                                 .axes = a->axes,
                                 .axis_count = a->axis_count,
                                 .all_axes = a->all_axes,
                                 .temperature = a->temperature,
                                 .mask = a->mask,
                                 .structure = a->structure};
  smx_logsumexp_options of_sum = {.size = sizeof of_sum,
                                  .axes = a->axes,
                                  .axis_count = a->axis_count,
                                  .all_axes = a->all_axes,
                                  .mask = a->mask,
                                  .bias = a->bias,
                                  .structure = a->structure};
  switch (gradient) {
    case VJP: return smx_softmax_vjp(y, dy, dx, &options);
    case JVP: return smx_softmax_jvp(y, dy, dx, &options);
    case LOG_VJP: return smx_log_softmax_vjp(y, dy, dx, &options);
    default: return smx_logsumexp_vjp(y, dy, dx, &of_sum);
  }
}

/* The typed call; JVP has none. */
static inline smx_status call_gradient_rows(int gradient, smx_dtype dtype, const void *y,
                                            const void *dy, void *dx, int64_t rows, int64_t cols) {
  int isWide = dtype == SMX_FLOAT64;
  switch (gradient) {
    case VJP:
      return isWide ? smx_softmax_vjp_f64(y, dy, dx, rows, cols)
                    : smx_softmax_vjp_f32(y, dy, dx, rows, cols);
    case LOG_VJP:
      return isWide ? smx_log_softmax_vjp_f64(y, dy, dx, rows, cols)
                    : smx_log_softmax_vjp_f32(y, dy, dx, rows, cols);
    default:
      return isWide ? smx_logsumexp_vjp_f64(y, dy, dx, rows, cols)
                    : smx_logsumexp_vjp_f32(y, dy, dx, rows, cols);
  }
}

/* y of a row of n numbers x: such as the gradient takes it. */
static inline void forward_row(int gradient, const double *x, double *y, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) sum += exp(x[i]);
  for (int64_t i = 0; i < n; i++)
    y[i] = gradient == SUM_VJP   ? x[i]
           : gradient == LOG_VJP ? (double)(x[i] - logf128(sum))
                                 : exp(x[i]) / sum;
}

/* One row by its formula; shows NULL or whether each element is visible. dy has one number for
 * SUM_VJP. */
static inline void gradient_row(int gradient, const double *y, const double *dy,
                                const unsigned char *shows, double temperature, double *dx,
                                int64_t n) {
  _Float128 sum = 0;
  for (int64_t i = 0; i < n; i++) {
    if (shows && !shows[i]) continue;
    sum += gradient == SUM_VJP   ? expf128((_Float128)y[i])
           : gradient == LOG_VJP ? (_Float128)dy[i]
                                 : (_Float128)y[i] * dy[i];
  }
  for (int64_t i = 0; i < n; i++) {
    _Float128 v = gradient == SUM_VJP   ? dy[0] * (expf128((_Float128)y[i]) / sum)
                    : gradient == LOG_VJP ? dy[i] - expf128((_Float128)y[i]) * sum
                                          : y[i] * (dy[i] - sum);
    dx[i] = shows && !shows[i] ? 0 : (double)(v / temperature);
  }
}

#endif
