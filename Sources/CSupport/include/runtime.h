/* Services for the ABI layer: dispatch, threads, floating-point mode, error sentence. */
#ifndef SMXK_RUNTIME_H
#define SMXK_RUNTIME_H

#include "kernels.h"

/* -- dispatch (dispatch.c) --------------------------------------------------------------------- */

/* The kernels of the best instruction set that this CPU runs, or of the one that SWIFTMAX_ISA
 * names; chosen once. NULL if that name is unknown or not supported here. */
const smxk_kernels *_Nullable smxk_kernels_chosen(void);
/* The name chosen, or the one that could not be. */
const char *_Nonnull smxk_isa_name(void);
/* 1 if `name` is known and runs here, 0 if it is known and does not, -1 if it is unknown. */
int32_t smxk_isa_runs(const char *_Nonnull name);

/* -- threads (pool.c, cpus.c) ------------------------------------------------------------------ */

typedef void (*smxk_task)(void *_Nonnull context, int64_t index, smxk_scratch *_Nonnull scratch);

enum { SMXK_MAX_THREADS = 256 };

/* Calls task(context, 0 ... count - 1) on up to `threads` threads, this one among them, each with
 * scratch of its own, in no particular order. Runs them all on this thread inside another such
 * call, or while another thread uses the pool, or where no thread can be had; and if `is_small`,
 * unless such calls follow one another closely. */
void smxk_parallel(int32_t threads, int64_t count, int32_t is_small, smxk_task _Nonnull task,
                   void *_Nonnull context);

/* Room on the stack (rooms.c). Calls body with room for `SMXK_WAVE` partial results. */
enum { SMXK_WAVE = 1024 };
void smxk_with_partials(void (*_Nonnull body)(void *_Nonnull context, smxk_partial *_Nonnull),
                        void *_Nonnull context);
/* Calls body with room for a row. */
void smxk_with_row(void (*_Nonnull body)(void *_Nonnull context, smxk_row *_Nonnull),
                   void *_Nonnull context);

/* Calls a task with a panel in its scratch. */
void smxk_with_panel(smxk_task _Nonnull task, void *_Nonnull context, int64_t index,
                     smxk_scratch *_Nonnull scratch);

/* Room to plan a tensor call: the caller's axes one by one, then those kept and those reduced. */
typedef struct smxk_plan {
  smxk_axis axes[SMX_MAX_DIMS];
  smxk_axis outer[SMX_MAX_DIMS];
  smxk_axis inner[SMX_MAX_DIMS];
  int32_t is_reduced[SMX_MAX_DIMS];
} smxk_plan;
static inline smxk_axis *_Nonnull smxk_axes_of(smxk_plan *_Nonnull p) { return p->axes; }
static inline smxk_axis *_Nonnull smxk_outer_of(smxk_plan *_Nonnull p) { return p->outer; }
static inline smxk_axis *_Nonnull smxk_inner_of(smxk_plan *_Nonnull p) { return p->inner; }
static inline int32_t *_Nonnull smxk_reduced_of(smxk_plan *_Nonnull p) { return p->is_reduced; }
/* Calls body with room for a plan, its contents undefined. */
void smxk_with_plan(void (*_Nonnull body)(void *_Nonnull context, smxk_plan *_Nonnull),
                    void *_Nonnull context);

/* Room to plan an attention call: the job, and the shape of its scores. */
typedef struct smxk_attention_plan {
  smxk_attention job;
  int64_t shape[4];
  smx_tensor scores;
} smxk_attention_plan;
static inline int64_t *_Nonnull smxk_shape_of(smxk_attention_plan *_Nonnull p) { return p->shape; }
static inline smx_tensor *_Nonnull smxk_scores_of(smxk_attention_plan *_Nonnull p) {
  return &p->scores;
}
static inline smxk_attention *_Nonnull smxk_job_of(smxk_attention_plan *_Nonnull p) {
  return &p->job;
}
/* Calls body with room for a plan, zeroed. */
void smxk_with_attention_plan(void (*_Nonnull body)(void *_Nonnull context,
                                                    smxk_attention_plan *_Nonnull),
                              void *_Nonnull context);

/* The same for a gradient; its forward part is planned as a call of attention. */
typedef struct smxk_attention_vjp_plan {
  smxk_attention_vjp job;
  smxk_attention_plan forward;
} smxk_attention_vjp_plan;
static inline smxk_attention_plan *_Nonnull smxk_forward_of(smxk_attention_vjp_plan *_Nonnull p) {
  return &p->forward;
}
static inline smxk_attention_vjp *_Nonnull smxk_vjp_job_of(smxk_attention_vjp_plan *_Nonnull p) {
  return &p->job;
}
void smxk_with_attention_vjp_plan(void (*_Nonnull body)(void *_Nonnull context,
                                                        smxk_attention_vjp_plan *_Nonnull),
                                  void *_Nonnull context);

/* Bytes of a thread's scratch that a call may use for itself, aligned to a cache line. */
enum { SMXK_SCRATCH_BYTES = 2 * SMXK_CHUNK * sizeof(double) };

/* Memory aligned to a cache line; NULL where there is none. */
void *_Nullable smxk_allocate(size_t bytes);
void smxk_release(void *_Nullable);

/* Threads for a call of this thread: the thread's own setting, else the process's, else
 * SWIFTMAX_NUM_THREADS, OMP_NUM_THREADS, the CPUs that this process may use. 0 if
 * SWIFTMAX_NUM_THREADS is not a whole number from 1 to SMXK_MAX_THREADS. */
int32_t smxk_thread_count(void);
/* What SWIFTMAX_NUM_THREADS was in that case. */
const char *_Nonnull smxk_refused_thread_count(void);
void smxk_set_thread_count(int32_t count);
/* Sets this thread's own count, 0 for none; returns the one before. */
int32_t smxk_set_local_thread_count(int32_t count);

/* -- caches (caches.c) ------------------------------------------------------------------------- */

/* Whether a call that reads and writes so many bytes leaves nothing in the caches that its
 * successor could find: more than the last level holds. */
_Bool smxk_exceeds_caches(int64_t bytes);

/* -- floating-point mode ----------------------------------------------------------------------- */

/* Sets round to nearest, subnormals kept, exceptions masked; returns the caller's mode. */
static inline uint64_t smxk_enter_mode(void) {
#if defined(__x86_64__)
  uint32_t mode;
  __asm__ volatile("stmxcsr %0" : "=m"(mode));
  /* The six low bits are flags that any operation may set; only the rest is mode. */
  if ((mode & 0xffc0u) != 0x1f80u) {
    uint32_t standard = 0x1f80u;
    __asm__ volatile("ldmxcsr %0" : : "m"(standard));
  }
  return mode;
#elif defined(__aarch64__)
  uint64_t mode, standard = 0;
  __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
  if (mode != standard) __asm__ volatile("msr fpcr, %0" : : "r"(standard));
  return mode;
#else
  return 0;
#endif
}

static inline void smxk_leave_mode(uint64_t saved) {
#if defined(__x86_64__)
  uint32_t mode = (uint32_t)saved;
  if ((mode & 0xffc0u) != 0x1f80u) __asm__ volatile("ldmxcsr %0" : : "m"(mode));
#elif defined(__aarch64__)
  if (saved != 0) __asm__ volatile("msr fpcr, %0" : : "r"(saved));
#else
  (void)saved;
#endif
}

/* -- error sentence (sentence.c) --------------------------------------------------------------- */

/* This thread's sentence, SMXK_SENTENCE bytes. */
enum { SMXK_SENTENCE = 512 };
char *_Nonnull smxk_sentence(void);
/* A number to ten digits, in memory of this thread's. */
const char *_Nonnull smxk_decimal(double number);

#endif
