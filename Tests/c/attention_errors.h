/* A good call of attention, changes to it, and the error that must come of them: its status, a
 * sentence that names the argument and what disagrees, and outputs in which no byte has changed. */
#ifndef ATTENTION_ERRORS_H
#define ATTENTION_ERRORS_H

#include <sys/wait.h>
#include <unistd.h>

#include "errors.h"

enum { BYTES = 8192, ANY_SIZE = 12345 };
enum { B = 2, HQ = 4, HKV = 2, LQ = 3, LK = 5, D = 6, DV = 7 };

/* The operands of a good call; MASK to TABLE are given only where a case says so. */
enum {
  QUERY,
  KEY,
  VALUE,
  MASK,
  BIAS,
  SLOPES,
  SINKS,
  PAST_KEY,
  PAST_VALUE,
  TABLE,
  OUT,
  LSE,
  WEIGHTS,
  OPERANDS
};
static const char *const names[OPERANDS] = {
    "query",    "key",        "value",       "mask", "bias", "alibi_slopes", "sinks",
    "past_key", "past_value", "block_table", "out",  "lse",  "weights"};
static _Alignas(64) unsigned char bytes[OPERANDS][BYTES];
static smx_tensor tensors[OPERANDS];
static smx_attention_options options;
static smx_mask structure;
static int canary = 0xa5;

/* Numbers of tensors for a dtype, the good shapes. */
static inline void reset(smx_dtype dtype) {
  static const int64_t shapes[OPERANDS][4] = {{B, HQ, LQ, D},
                                              {B, HKV, LK, D},
                                              {B, HKV, LK, DV},
                                              {B, HQ, LQ, LK},
                                              {B, HQ, LQ, LK},
                                              {B, HQ},
                                              {HQ},
                                              {B, HKV, 4, D},
                                              {B, HKV, 4, DV},
                                              {B, 3},
                                              {B, HQ, LQ, DV},
                                              {B, HQ, LQ},
                                              {B, HQ, LQ, LK}};
  static const int ranks[OPERANDS] = {4, 4, 4, 4, 4, 2, 1, 4, 4, 2, 4, 3, 4};
  smx_dtype single = dtype == SMX_FLOAT64 ? SMX_FLOAT64 : SMX_FLOAT32;
  for (int k = 0; k < OPERANDS; k++) {
    smx_dtype own = k == MASK                               ? SMX_BOOL
                    : k == TABLE                            ? SMX_INT32
                    : k == SLOPES || k == SINKS || k == LSE ? single
                                                            : dtype;
    tensors[k] = (smx_tensor){bytes[k], own, ranks[k], shapes[k], NULL};
    memset(bytes[k], k >= OUT ? canary : 0, BYTES);
  }
  options = (smx_attention_options){.size = sizeof options};
  options.lse = &tensors[LSE];
  options.weights = &tensors[WEIGHTS];
  structure = (smx_mask){.size = sizeof structure};
}

/* Gives operand k, if it is not always given. Past keys come in pairs; a table makes pools of key
 * and value, 9 blocks of 2; weights get their length. */
static inline void give(int k) {
  static const int64_t longer[] = {B, HQ, LQ, LK + 4}, paged[] = {B, HQ, LQ, 6};
  static const int64_t pools[2][4] = {{9, HKV, 2, D}, {9, HKV, 2, DV}};
  const smx_tensor **places[OPERANDS] = {[MASK] = &options.mask,
                                         [BIAS] = &options.bias,
                                         [SLOPES] = &options.alibi_slopes,
                                         [SINKS] = &options.sinks,
                                         [TABLE] = &options.block_table};
  if (k == PAST_KEY || k == PAST_VALUE) {
    options.past_key = &tensors[PAST_KEY], options.past_value = &tensors[PAST_VALUE];
    tensors[WEIGHTS].shape = longer;
  } else if (places[k]) {
    *places[k] = &tensors[k];
  }
  if (k != TABLE) return;
  tensors[KEY].shape = pools[0], tensors[VALUE].shape = pools[1];
  tensors[WEIGHTS].shape = paged;
}

static int outputs_untouched(void) {
  for (int k = OUT; k < OPERANDS; k++) {
    for (int i = 0; i < BYTES; i++) {
      if (bytes[k][i] != canary) return 0;
    }
  }
  return 1;
}

/* Both tensor functions say the same of tensors and options, `given` of the four pointers. */
static const smx_tensor *given[4] = {&tensors[QUERY], &tensors[KEY], &tensors[VALUE],
                                     &tensors[OUT]};

static inline void expect(const char *place, smx_status want, const char *const *words) {
  size_t size = ANY_SIZE;
  smx_status got = smx_attention(given[0], given[1], given[2], given[3], &options);
  expect_one(place, got, want, words, "attention");
  got = smx_attention_workspace_size(given[0], given[1], given[2], given[3], &options, &size);
  expect_one(place, got, want, words, "workspace_size");
  check(size == ANY_SIZE, place, "size was written");
}

/* A change to the good call, and the error that it must give. */
#define BAD(change, want, ...) (reset(dtype), change, expect(PLACE, want, WORDS(__VA_ARGS__)))
#define SHAPE(k, rank, ...) \
  (give(k), tensors[k].ndim = rank, tensors[k].shape = (const int64_t[]){__VA_ARGS__})
#define DTYPE(k, type) (give(k), tensors[k].dtype = type)

/* In a process of its own, because what goes wrong here may be a crash or an endless loop. */
static inline void expect_apart(const char *place, smx_status want, const char *const *words) {
  int status = -1;
  fflush(stdout);
  pid_t child = fork();
  if (child == 0) {
    alarm(is_light() ? 30 : 3);
    size_t size = 0;
    smx_status got = smx_attention(given[0], given[1], given[2], given[3], &options);
    int ok = got == want && outputs_untouched();
    for (; ok && *words; words++) ok = strstr(smx_last_error(), *words) != NULL;
    smx_status other =
        smx_attention_workspace_size(given[0], given[1], given[2], given[3], &options, &size);
    if (!ok || other != want) printf("status %d and %d: %s\n", got, other, smx_last_error());
    fflush(stdout);
    _exit(ok && other == want ? 0 : 1);
  }
  waitpid(child, &status, 0);
  check(WIFEXITED(status) && WEXITSTATUS(status) == 0, place, "the child ended with 0x%x", status);
}

#endif
