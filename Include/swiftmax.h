/* swiftmax.h (types first; see below) */
#ifndef SWIFTMAX_H
#define SWIFTMAX_H
#include <stddef.h>
#include <stdint.h>
#ifdef __cplusplus
extern "C" {
#endif
#define SMX_VERSION_MAJOR 0
#define SMX_VERSION_MINOR 1
#define SMX_VERSION_PATCH 0
#define SMX_MAX_DIMS 64

typedef int32_t smx_status;
enum {
  SMX_OK = 0,
  SMX_ERROR_NULL = 1,
  SMX_ERROR_SIZE = 2,
  SMX_ERROR_DTYPE = 3,
  SMX_ERROR_SHAPE = 4,
  SMX_ERROR_AXIS = 5,
  SMX_ERROR_VALUE = 6,
  SMX_ERROR_OVERLAP = 7,
  SMX_ERROR_OVERFLOW = 8,
  SMX_ERROR_ISA = 20,
  SMX_ERROR_THREADS = 21,
  SMX_ERROR_MEMORY = 40
};

typedef int32_t smx_dtype;
enum {
  SMX_BOOL = 1,
  SMX_INT32 = 2,
  SMX_INT64 = 3,
  SMX_FLOAT16 = 16,
  SMX_BFLOAT16 = 17,
  SMX_FLOAT32 = 18,
  SMX_FLOAT64 = 19
};

typedef struct smx_tensor {
  void *data;
  smx_dtype dtype;
  int32_t ndim;
  const int64_t *shape;
  const int64_t *strides;
} smx_tensor;

typedef struct smx_mask {
  size_t size;
  const struct smx_mask *also;
  int32_t causal;
  int32_t window;
  int64_t window_left;
  int64_t window_right;
  const smx_tensor *query_offset;
  const smx_tensor *key_lengths;
  const smx_tensor *query_lengths;
  const smx_tensor *query_segments;
  const smx_tensor *key_segments;
} smx_mask;

typedef struct smx_softmax_options {
  size_t size;
  const int32_t *axes;
  int32_t axis_count;
  int32_t all_axes;
  const smx_tensor *temperature;
  const smx_tensor *mask;
  const smx_tensor *bias;
  const smx_mask *structure;
} smx_softmax_options;

typedef struct smx_logsumexp_options {
  size_t size;
  const int32_t *axes;
  int32_t axis_count;
  int32_t all_axes;
  const smx_tensor *weights;
  const smx_tensor *mask;
  const smx_tensor *bias;
  const smx_mask *structure;
  const smx_tensor *sign;
} smx_logsumexp_options;

smx_status smx_softmax(const smx_tensor *x, const smx_tensor *out, const smx_softmax_options *options);
smx_status smx_log_softmax(const smx_tensor *x, const smx_tensor *out, const smx_softmax_options *options);
smx_status smx_logsumexp(const smx_tensor *x, const smx_tensor *out, const smx_logsumexp_options *options);

smx_status smx_softmax_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_softmax_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_softmax_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_softmax_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_log_softmax_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_f32(const float *x, float *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_f64(const double *x, double *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_f16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);
smx_status smx_logsumexp_bf16(const uint16_t *x, uint16_t *out, int64_t rows, int64_t cols);

smx_status smx_set_num_threads(int32_t count);
smx_status smx_get_num_threads(int32_t *count);
smx_status smx_set_num_threads_local(int32_t count, int32_t *previous);
const char *smx_version(void);
smx_status smx_isa(const char **name);
int32_t smx_isa_supported(const char *name);
const char *smx_status_string(smx_status status);
const char *smx_last_error(void);
#ifdef __cplusplus
}
#endif
#endif
