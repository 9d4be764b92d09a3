/* The golden check of attention: what a case adds to those of golden.h. Its mask, bias and
 * structure are those of a case whose x is the scores. */
#ifndef GOLDEN_ATTENTION_H
#define GOLDEN_ATTENTION_H

#include "golden.h"

/* -- a case of attention_cases.txt (cases.c) --------------------------------------------------- */

typedef struct {
  golden_case scores; /* (B, Hq, Lq, Lk); name, dtype, seed, values, mask, bias and structure */
  int64_t key_heads, head_size, value_size;
  char value[NAME], alibi[NAME], sinks[NAME], scale[NAME], softcap[NAME]; /* "" for none */
} attention_case;

int read_attention_cases(const char *path, attention_case **cases);

/* -- operands (attention_inputs.c) ------------------------------------------------------------- */

/* Links point into the struct: it must not be copied. */
typedef struct {
  attention_case from;
  inputs over; /* mask, bias and conditions; x has no more than the shape of the scores */
  array query, key, value; /* BHLD */
  array slopes, sinks;
} attention_inputs;

void make_attention(attention_inputs *in, const attention_case *c);
void free_attention(attention_inputs *in);
/* float32, or float64 for float64: of lse, slopes and sinks. */
smx_dtype single_of(smx_dtype dtype);

/* A part of a call, or more than it: keys beyond those of the whole hold NaN and are masked. */
typedef struct {
  int64_t entry, entries; /* of the batch */
  int64_t query, queries;
  int64_t keys;
  int by_mask; /* whether the boolean mask hides the further keys, or a length */
} part;

/* That part as a case of its own, its offset moved along. */
void make_part(attention_inputs *to, const attention_inputs *from, const part *p);
/* NaN in every key, value, query and bias that may not show. */
void poison(attention_inputs *in);
/* Each query head with key and value heads of its own. */
void repeat_heads(attention_inputs *in);

/* -- calls (attention_call.c) ------------------------------------------------------------------ */

enum { OUT, LSE, WEIGHTS, RESULTS };
extern const char *const result_names[RESULTS];

typedef struct {
  array of[RESULTS];
} results;

/* How to call. All zero: contiguous, everything asked for, on as many threads as are set. */
typedef struct {
  int threads; /* 0: as set */
  int mode;    /* an odd mode of mode.h; 0: as it is */
  layout in, out;
  int is_blhd;
  int has_past;  /* a third of the keys come before the others */
  int64_t block; /* keys and values come in blocks of this size, in disorder; 0: they do not */
  int only_out;  /* neither lse nor weights are asked for: they are left as they are */
  int has_workspace;
  int has_no_batch; /* tensors of 3 axes; of a single entry only */
  int is_typed;
} manner;

results new_results(const attention_inputs *in);
void free_results(results *r);
/* -1 where the caller's mode is not restored. */
smx_status call_attention(attention_inputs *in, const manner *m, results *r);
/* Whether smx_attention_f32 can do this case. */
int is_typed_attention(const attention_inputs *in);

/* -- a slow reference (attention_reference.c) -------------------------------------------------- */

/* What an element should be, and by how much it may differ; an infinite bound says nothing. */
typedef struct {
  long double value, error;
} bounded;

typedef struct {
  bounded *of[RESULTS];
} bounds;

bounds attention_bounds(const attention_inputs *in);
void free_bounds(bounds *b);
/* The largest error of `out` in units of its bound; `at` is where. */
double worst_excess(const array *out, const bounded *exact, int64_t *at);

/* -- checks (attention.c, attention_variations.c) ---------------------------------------------- */

/* Says how wrong `out` is, to the end of the line. */
void judge(const attention_inputs *in, int which, const array *out);
void check_attention_variations(attention_inputs *in, const results *plain, int brief, tally *t);
int check_attention(const char *folder, int brief);
int generate_attention(const char *folder);

#endif
