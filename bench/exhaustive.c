/* exp over every float of its domain, through the three operations (`make exhaustive`).
 *
 * For every float x in [M - 104, M], M = 0 unless given:
 *
 *   blocks   softmax of [M, x, x', ...], 63 neighbouring floats: exp(x - M) / S. S is far from the
 *            single term, so an error of the exponential shows in full.
 *   pairs    softmax, log_softmax and logsumexp of [M, x], both results of each: e/(1+e), 1/(1+e),
 *            x - M - log1p(e), -log1p(e), M + log1p(e).
 *
 * The reference is libm's float64 exp and log1p: with errors below 1 ulp of float64 it is off by
 * less than 104 * 2^-53, that is 2^-22 ulp of float32 (the difference x - M is rounded to
 * float64 as well). Reports the worst input of each, exit status 1 above 2 ulp (logsumexp: 1 ulp
 * of max(|result|, |M|)). About 1.1e9 floats for M = 0. Options: --max M, --threads N, --step K
 * (every Kth block only).
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "swiftmax.h"

enum { LINES = 6, OTHERS = 63, BLOCKS = 256, CHUNK = OTHERS * BLOCKS };
static const char *const names[LINES] = {
    "softmax, blocks",       "softmax, pairs, of x",     "softmax, pairs, of M",
    "log_softmax, pairs, of x", "log_softmax, pairs, of M", "logsumexp, pairs",
};
static const double bounds[LINES] = {2, 2, 2, 2, 2, 1};

typedef struct {
  double ulp;       /* the largest error in the normal range */
  double subnormal; /* below it, in units of the smallest float */
  float x, got;
} worst;

typedef struct {
  pthread_t thread;
  worst found[LINES];
} worker;

static float top;              /* M */
static int64_t first, last;    /* keys of M and of M - 104 */
static int64_t chunks, step = 1;
static atomic_llong next;

/* Floats in order as consecutive integers; both zeros are 0. */
static int64_t key_of(float x) {
  int32_t bits;
  memcpy(&bits, &x, 4);
  return bits < 0 ? -(int64_t)(bits & 0x7fffffff) : bits;
}

static float float_of(int64_t key) {
  const uint32_t bits = key < 0 ? 0x80000000u | (uint32_t)-key : (uint32_t)key;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

/* 1 / ulp of float32 at the size of `value`, never below the smallest float. */
static double per_ulp(double value) {
  uint64_t bits;
  memcpy(&bits, &value, 8);
  int exponent = (int)(bits >> 52 & 0x7ff) - 1023;
  if (exponent < -126) exponent = -126;
  bits = (uint64_t)(1023 + 23 - exponent) << 52;
  memcpy(&value, &bits, 8);
  return value;
}

/* `size` is what the ulp is taken of. Written so that NaN counts as the worst. */
static void compare(worst *w, float x, float got, double exact, double size) {
  const double error = fabs((double)got - exact) * per_ulp(size);
  if (fabs(exact) < 0x1p-126) {
    if (!(error <= w->subnormal)) w->subnormal = error;
  } else if (!(error <= w->ulp)) {
    *w = (worst){error, w->subnormal, x, got};
  }
}

static void check(smx_status status) {
  if (status == SMX_OK) return;
  fprintf(stderr, "exhaustive: %s\n", smx_last_error());
  exit(2);
}

/* Rows of 64: M and 63 floats each. */
static void blocks(worker *me, const float *x, const double *e) {
  static _Thread_local float in[BLOCKS][OTHERS + 1], out[BLOCKS][OTHERS + 1];
  for (int row = 0; row < BLOCKS; row++) {
    in[row][0] = top;
    memcpy(in[row] + 1, x + row * OTHERS, sizeof(float) * OTHERS);
  }
  check(smx_softmax_f32(in[0], out[0], BLOCKS, OTHERS + 1));
  for (int row = 0; row < BLOCKS; row++) {
    double sum = 1;
    for (int k = 0; k < OTHERS; k++) sum += e[row * OTHERS + k];
    const double inverse = 1 / sum;
    for (int k = 0; k < OTHERS; k++) {
      const double exact = e[row * OTHERS + k] * inverse;
      compare(&me->found[0], in[row][k + 1], out[row][k + 1], exact, exact);
    }
  }
}

/* Rows [M, x]. */
static void pairs(worker *me, const float *x, const double *e) {
  static _Thread_local float in[CHUNK][2], out[CHUNK][2], log_out[CHUNK][2], lse[CHUNK];
  for (int k = 0; k < CHUNK; k++) {
    in[k][0] = top;
    in[k][1] = x[k];
  }
  check(smx_softmax_f32(in[0], out[0], CHUNK, 2));
  check(smx_log_softmax_f32(in[0], log_out[0], CHUNK, 2));
  check(smx_logsumexp_f32(in[0], lse, CHUNK, 2));
  for (int k = 0; k < CHUNK; k++) {
    const double log_sum = log1p(e[k]), inverse = 1 / (1 + e[k]);
    const double difference = (double)x[k] - top;
    const double exact[5] = {
        e[k] * inverse, inverse, difference - log_sum, -log_sum, top + log_sum};
    compare(&me->found[1], x[k], out[k][1], exact[0], exact[0]);
    compare(&me->found[2], x[k], out[k][0], exact[1], exact[1]);
    compare(&me->found[3], x[k], log_out[k][1], exact[2], exact[2]);
    compare(&me->found[4], x[k], log_out[k][0], exact[3], exact[3]);
    compare(&me->found[5], x[k], lse[k], exact[4], fmax(fabs(exact[4]), fabs(top)));
  }
}

static void *work(void *argument) {
  worker *me = argument;
  static _Thread_local float x[CHUNK];
  static _Thread_local double e[CHUNK];
  check(smx_set_num_threads_local(1, NULL));
  for (;;) {
    const int64_t chunk = atomic_fetch_add(&next, step);
    if (chunk >= chunks) return NULL;
    for (int k = 0; k < CHUNK; k++) {
      int64_t key = first - chunk * CHUNK - k;
      if (key < last) key = last; /* the last chunk repeats its last float */
      x[k] = float_of(key);
      e[k] = exp((double)x[k] - top);
    }
    blocks(me, x, e);
    pairs(me, x, e);
  }
}

static void *wait_for_all(void *argument) {
  const struct timespec second = {1, 0};
  const int loud = *(const int *)argument;
  const time_t start = time(NULL);
  for (;;) {
    int64_t done = atomic_load(&next);
    if (done >= chunks) return NULL;
    if (loud) {
      fprintf(stderr, "\r%5.1f %%  %4lds  x = %-14g", 100.0 * done / chunks,
              (long)(time(NULL) - start), float_of(first - done * CHUNK));
    }
    nanosleep(&second, NULL);
  }
}

static int report(const worker *workers, int threads) {
  int status = 0;
  printf("%-26s %9s  %-16s %-16s %s\n", "", "worst ulp", "at x", "result", "subnormal");
  for (int line = 0; line < LINES; line++) {
    worst w = {-1, 0, 0, 0};
    for (int t = 0; t < threads; t++) {
      const worst *found = &workers[t].found[line];
      const double subnormal = fmax(w.subnormal, found->subnormal);
      if (!(found->ulp <= w.ulp)) w = *found;
      w.subnormal = subnormal;
    }
    const int good = w.ulp <= bounds[line];
    printf("%-26s %9.4f  %-16a %-16a %.3f%s\n", names[line], w.ulp, w.x, w.got, w.subnormal,
           good ? "" : "  ABOVE THE BOUND");
    if (!good) status = 1;
  }
  return status;
}

int main(int argc, char **argv) {
  int threads = 2, loud = 1;
  for (int i = 1; i < argc; i++) {
    const int has_value = i + 1 < argc;
    if (!strcmp(argv[i], "--quiet")) loud = 0;
    else if (!strcmp(argv[i], "--max") && has_value) top = strtof(argv[++i], NULL);
    else if (!strcmp(argv[i], "--threads") && has_value) threads = atoi(argv[++i]);
    else if (!strcmp(argv[i], "--step") && has_value) step = atoll(argv[++i]);
    else {
      fprintf(stderr, "usage: exhaustive [--max M] [--threads N] [--step K] [--quiet]\n");
      return 2;
    }
  }
  if (threads < 1 || step < 1 || !isfinite(top)) return 2;
  first = key_of(top);
  last = key_of(top - 104);
  chunks = (first - last + CHUNK) / CHUNK;

  const char *isa = "?";
  check(smx_isa(&isa));
  printf("%lld floats in [%g, %g], kernels for %s%s\n", (long long)(first - last + 1), top - 104,
         top, isa, step > 1 ? ", a sample" : "");
  worker *workers = calloc((size_t)threads, sizeof *workers);
  if (!workers) return 2;
  int started = 0;
  while (started < threads) {
    if (pthread_create(&workers[started].thread, NULL, work, &workers[started])) break;
    started++;
  }
  if (!started) return 2;
  pthread_t ticker;
  const int has_ticker = !pthread_create(&ticker, NULL, wait_for_all, &loud);
  for (int t = 0; t < started; t++) pthread_join(workers[t].thread, NULL);
  if (has_ticker) pthread_join(ticker, NULL);
  if (loud) fprintf(stderr, "\r%60s\r", "");
  const int status = report(workers, started);
  free(workers);
  return status;
}
