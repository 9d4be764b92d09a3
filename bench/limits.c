/* The limits of this machine that attention is held against (`make -C bench limits`).
 *
 *   fma    GFLOP/s of fused multiply-adds between registers, for each vector width of this CPU;
 *   read   GB/s read from 256 MB of memory, each thread its own part of it, in several streams.
 *
 * All threads start together and each times itself; a rate is the work of all over the time of the
 * slowest, and the best of several tries counts. One run can be unlucky on a shared machine: the
 * bench runs this between its workloads and keeps the best again. What memory gives moves with the
 * neighbours of a virtual machine, by half within minutes, and the clock rate by a tenth: what is
 * held against a limit takes turns with it (limits_read, limits_fma). Prints one line of JSON.
 *
 *     limits [threads] [tries]
 */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* An FMA takes 4 cycles and two start in each: 8 chains keep the units busy, 12 forgive a late one.
 * With a factor and an addend that makes 14 registers, within the 16 of AVX2. ROUNDS take 10 ms,
 * long enough for the clock rate that wide vectors can keep. */
enum { CHAINS = 12, ROUNDS = 4000000, STREAMS = 4, MAX_THREADS = 1024 };
static const size_t READ_BYTES = (size_t)256 << 20;

/* -- multiply-adds --------------------------------------------------------------------------------
 * x <- x * factor + addend, CHAINS of them side by side; returns something that depends on all.
 * The empty asm keeps equal chains apart: the compiler may not compute one and copy it. An array of
 * chains would be shorter; gcc keeps it in memory. */
#define FMA_STEP(X, FMA, REGISTER) X = FMA(X, a, b); __asm__ volatile("" : REGISTER(X))
#define FMA_LOOP(NAME, TARGET, VECTOR, SPREAD, FMA, REGISTER)                       \
  TARGET static float NAME(float factor, float addend, long rounds) {               \
    const VECTOR a = SPREAD(factor), b = SPREAD(addend);                            \
    VECTOR x0 = b, x1 = b, x2 = b, x3 = b, x4 = b, x5 = b;                          \
    VECTOR x6 = b, x7 = b, x8 = b, x9 = b, x10 = b, x11 = b;                        \
    for (long k = 0; k < rounds; k++) {                                             \
      FMA_STEP(x0, FMA, REGISTER); FMA_STEP(x1, FMA, REGISTER);                     \
      FMA_STEP(x2, FMA, REGISTER); FMA_STEP(x3, FMA, REGISTER);                     \
      FMA_STEP(x4, FMA, REGISTER); FMA_STEP(x5, FMA, REGISTER);                     \
      FMA_STEP(x6, FMA, REGISTER); FMA_STEP(x7, FMA, REGISTER);                     \
      FMA_STEP(x8, FMA, REGISTER); FMA_STEP(x9, FMA, REGISTER);                     \
      FMA_STEP(x10, FMA, REGISTER); FMA_STEP(x11, FMA, REGISTER);                   \
    }                                                                               \
    const VECTOR sum = x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9 + x10 + x11; \
    float first;                                                                    \
    memcpy(&first, &sum, sizeof first);                                             \
    return first;                                                                   \
  }

typedef float fma_loop(float, float, long);
typedef struct {
  const char *name;
  fma_loop *run;
  int lanes;
} width;

#if defined(__x86_64__)
#include <immintrin.h>
FMA_LOOP(fma_avx512, __attribute__((target("avx512f"))), __m512, _mm512_set1_ps, _mm512_fmadd_ps,
         "+v")
FMA_LOOP(fma_avx2, __attribute__((target("avx2,fma"))), __m256, _mm256_set1_ps, _mm256_fmadd_ps,
         "+x")

static int widths(width found[]) {
  int count = 0;
  if (__builtin_cpu_supports("avx512f")) found[count++] = (width){"avx512", fma_avx512, 16};
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    found[count++] = (width){"avx2", fma_avx2, 8};
  return count;
}
#elif defined(__aarch64__)
#include <arm_neon.h>
#define NEON_FMA(x, a, b) vfmaq_f32(b, x, a)
FMA_LOOP(fma_neon, , float32x4_t, vdupq_n_f32, NEON_FMA, "+w")

static int widths(width found[]) {
  found[0] = (width){"neon", fma_neon, 4};
  return 1;
}
#else
static int widths(width found[]) {
  (void)found;
  return 0;
}
#endif

/* -- reading: every line once, STREAMS places at a time ---------------------------------------- */
typedef uint64_t line __attribute__((vector_size(64)));

static inline __attribute__((always_inline)) uint64_t read_body(const line *data, size_t lines) {
  const size_t part = lines / STREAMS;
  const line *s0 = data, *s1 = s0 + part, *s2 = s1 + part, *s3 = s2 + part;
  line sum0 = {0}, sum1 = {0}, sum2 = {0}, sum3 = {0};
  for (size_t k = 0; k < part; k++) sum0 ^= s0[k], sum1 ^= s1[k], sum2 ^= s2[k], sum3 ^= s3[k];
  const line all = sum0 ^ sum1 ^ sum2 ^ sum3;
  return all[0] ^ all[3] ^ all[7];
}

static uint64_t read_plain(const line *data, size_t lines) { return read_body(data, lines); }
#if defined(__x86_64__)
__attribute__((target("avx512f"))) static uint64_t read_wide(const line *data, size_t lines) {
  return read_body(data, lines);
}
static int has_wide(void) { return __builtin_cpu_supports("avx512f"); }
#else
#define read_wide read_plain
static int has_wide(void) { return 0; }
#endif

/* -- one try on all threads -------------------------------------------------------------------- */
typedef struct {
  pthread_t thread;
  const width *fma; /* NULL: read */
  long warm_up, rounds;
  const line *data;
  size_t lines;
  double seconds;
  uint64_t result; /* stored so that the work is not dropped */
} job;

static pthread_barrier_t start;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void *work(void *argument) {
  job *j = argument;
  if (j->fma) j->fma->run(0.5f, 0.5f, j->warm_up);
  pthread_barrier_wait(&start);
  const double begin = now();
  if (j->fma)
    j->result = (uint64_t)j->fma->run(0.5f, 0.5f, j->rounds);
  else
    j->result = (has_wide() ? read_wide : read_plain)(j->data, j->lines);
  j->seconds = now() - begin;
  return NULL;
}

/* Thread t of a try gets a CPU of its own, beside the caller's, as long as there is one. The kernel
 * of a virtual machine may put a new thread behind the one that made it, beside an idle CPU, and
 * leave it there: half the rate, of which then one and a half would be reached. */
static void place(pthread_attr_t *attributes, int t) {
  cpu_set_t allowed, own;
  const int here = sched_getcpu();
  if (here < 0 || sched_getaffinity(0, sizeof allowed, &allowed)) return;
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
    if (cpu == here || !CPU_ISSET(cpu, &allowed) || t-- > 0) continue;
    CPU_ZERO(&own);
    CPU_SET(cpu, &own);
    pthread_attr_setaffinity_np(attributes, sizeof own, &own);
    return;
  }
}

/* Seconds of the slowest thread, each with a job like `one`; of `lines` lines it reads a part. */
static double try_once(job one, int threads) {
  static job jobs[MAX_THREADS];
  const size_t part = one.lines / (size_t)threads;
  pthread_barrier_init(&start, NULL, (unsigned)threads);
  for (int t = 0; t < threads; t++) {
    jobs[t] = one;
    jobs[t].data = one.data + (size_t)t * part;
    jobs[t].lines = part;
    /* The caller is the last of them. */
    if (t + 1 == threads) break;
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    place(&attributes, t);
    if (pthread_create(&jobs[t].thread, &attributes, work, &jobs[t])) exit(1);
    pthread_attr_destroy(&attributes);
  }
  work(&jobs[threads - 1]);
  double slowest = 0;
  for (int t = 0; t < threads; t++) {
    if (t + 1 < threads) pthread_join(jobs[t].thread, NULL);
    if (jobs[t].seconds > slowest) slowest = jobs[t].seconds;
  }
  pthread_barrier_destroy(&start);
  return slowest;
}

static double best_of(int tries, job one, int threads) {
  double best = 1e9;
  for (int k = 0; k < tries; k++) {
    const double seconds = try_once(one, threads);
    if (seconds < best) best = seconds;
  }
  return best;
}

/* -- for races, where a limit takes turns with what is held against it --------------------------
 * limits.py loads this file as a library. */

/* Seconds to read the whole lines of `bytes` bytes at `data` once. */
double limits_read(const void *data, size_t bytes, int threads) {
  const uintptr_t first = ((uintptr_t)data + sizeof(line) - 1) / sizeof(line);
  const uintptr_t end = ((uintptr_t)data + bytes) / sizeof(line);
  return try_once(
      (job){.data = (const line *)(first * sizeof(line)), .lines = end - first}, threads);
}

/* Seconds of so many operations, two for each lane of a multiply-add, in vectors of that name; -1
 * where this CPU has none. */
double limits_fma(const char *name, double operations, int threads) {
  width found[4];
  const int kinds = widths(found);
  for (int k = 0; k < kinds; k++) {
    if (strcmp(found[k].name, name)) continue;
    const double rounds = operations / (2.0 * found[k].lanes * CHAINS * threads);
    return try_once((job){.fma = &found[k], .rounds = (long)rounds}, threads);
  }
  return -1;
}

int main(int count, char **arguments) {
  const int threads = count > 1 ? atoi(arguments[1]) : 1;
  const int tries = count > 2 ? atoi(arguments[2]) : 4;
  if (threads < 1 || threads > MAX_THREADS || tries < 1) {
    fprintf(stderr, "usage: limits [threads, at most %d] [tries]\n", MAX_THREADS);
    return 2;
  }
  line *data = aligned_alloc(1 << 21, READ_BYTES);
  if (!data) return 1;
  memset(data, 1, READ_BYTES);

  width found[4];
  const int kinds = widths(found);
  printf("{\"threads\": %d, \"fma\": {", threads);
  for (int k = 0; k < kinds; k++) {
    const job fma = {.fma = &found[k], .warm_up = ROUNDS / 4, .rounds = ROUNDS};
    const double flops = 2.0 * found[k].lanes * CHAINS * ROUNDS * threads;
    const double seconds = best_of(tries, fma, threads);
    printf("%s\"%s\": %.1f", k ? ", " : "", found[k].name, flops / seconds * 1e-9);
  }
  const job read = {.data = data, .lines = READ_BYTES / sizeof(line)};
  const double seconds = best_of(tries, read, threads);
  printf("}, \"read\": %.2f}\n", (double)READ_BYTES / seconds * 1e-9);
  free(data);
  return 0;
}
