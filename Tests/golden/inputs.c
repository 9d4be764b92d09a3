/* From a case to its operands: SplitMix64 and exact scaling, nothing that rounds. README.md is the
 * specification; Python and Swift have the same few lines. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

uint64_t stream(uint64_t seed, int which, uint64_t index) {
  uint64_t z = seed + ((uint64_t)which << 32) + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

uint64_t fnv1a(const void *data, size_t bytes) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t i = 0; i < bytes; i++)
    hash = (hash ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
  return hash;
}

void *allocate(size_t bytes) {
  void *memory = malloc(bytes ? bytes : 1);
  if (!memory) {
    fprintf(stderr, "golden: out of memory\n");
    exit(2);
  }
  return memory;
}

/* -- arrays ------------------------------------------------------------------------------------ */

int64_t item_size(smx_dtype dtype) {
  switch (dtype) {
    case SMX_BOOL: return 1;
    case SMX_FLOAT16:
    case SMX_BFLOAT16: return 2;
    case SMX_FLOAT32:
    case SMX_INT32: return 4;
    default: return 8;
  }
}

int64_t bytes_of(const array *a) { return a->count * item_size(a->dtype); }

array new_array(smx_dtype dtype, int rank, const int64_t *shape) {
  array a = {.dtype = dtype, .rank = rank, .count = 1};
  for (int i = 0; i < rank; i++) a.count *= a.shape[i] = shape[i];
  a.data = allocate((size_t)bytes_of(&a));
  memset(a.data, 0, (size_t)bytes_of(&a));
  return a;
}

double get(const array *a, int64_t i) {
  const unsigned char *p = a->data + i * item_size(a->dtype);
  uint16_t half;
  int32_t narrow;
  int64_t wide;
  float f;
  double d;
  switch (a->dtype) {
    case SMX_BOOL: return *p;
    case SMX_INT32: memcpy(&narrow, p, 4); return narrow;
    case SMX_INT64: memcpy(&wide, p, 8); return (double)wide;
    case SMX_FLOAT32: memcpy(&f, p, 4); return f;
    case SMX_FLOAT64: memcpy(&d, p, 8); return d;
    default: memcpy(&half, p, 2);
  }
  if (a->dtype == SMX_BFLOAT16) {
    uint32_t bits = (uint32_t)half << 16;
    memcpy(&f, &bits, 4);
    return f;
  }
  int exponent = half >> 10 & 31, fraction = half & 1023;
  d = exponent == 31  ? (fraction ? NAN : INFINITY)
      : exponent == 0 ? ldexp(fraction, -24)
                      : ldexp(fraction + 1024, exponent - 25);
  return half & 0x8000 ? -d : d;
}

/* Exact for every value that the generator makes. */
static uint16_t float16_of(double value) {
  int exponent;
  uint16_t sign = signbit(value) && !isnan(value) ? 0x8000 : 0;
  double magnitude = fabs(value);
  if (isnan(value)) return 0x7e00;
  if (isinf(value)) return sign | 0x7c00;
  if (magnitude < 0x1p-14) return sign | (uint16_t)ldexp(magnitude, 24);
  double fraction = frexp(magnitude, &exponent);
  return sign | (uint16_t)(((exponent + 14) << 10) + ((int)ldexp(fraction, 11) - 1024));
}

void set(array *a, int64_t i, double value) {
  unsigned char *p = a->data + i * item_size(a->dtype);
  float f = (float)value;
  int32_t narrow;
  int64_t wide;
  uint32_t bits;
  uint16_t half;
  switch (a->dtype) {
    case SMX_BOOL: *p = value != 0; return;
    case SMX_INT32: narrow = (int32_t)value; memcpy(p, &narrow, 4); return;
    case SMX_INT64: wide = (int64_t)value; memcpy(p, &wide, 8); return;
    case SMX_FLOAT32: memcpy(p, &f, 4); return;
    case SMX_FLOAT64: memcpy(p, &value, 8); return;
    case SMX_BFLOAT16:
      memcpy(&bits, &f, 4);
      half = (uint16_t)(bits >> 16);
      break;
    default: half = float16_of(value);
  }
  memcpy(p, &half, 2);
}

/* -- the generator ----------------------------------------------------------------------------- */

/* Bits of a dtype's significand, the sign in place of the hidden one. */
static int bits_of(smx_dtype dtype) {
  return dtype == SMX_FLOAT16 ? 11 : dtype == SMX_BFLOAT16 ? 8 : dtype == SMX_FLOAT32 ? 24 : 53;
}

/* The upper `bits` bits of z as a signed number. */
static double signed_bits(uint64_t z, int bits) {
  return (double)((int64_t)(z >> (64 - bits)) - ((int64_t)1 << (bits - 1)));
}

double uniform(smx_dtype dtype, int e, uint64_t z) {
  int bits = bits_of(dtype);
  return ldexp(signed_bits(z, bits), e - bits + 1);
}

/* Within 2^e of 2^center. */
static double around(smx_dtype dtype, int center, int e, uint64_t z) {
  int bits = bits_of(dtype);
  return ldexp(1, center) + ldexp(signed_bits(z, bits - center + e), center - bits + 1);
}

static void fill_x(array *x, const golden_case *c) {
  int64_t cols = x->shape[x->rank - 1];
  int e = 0, center = 0, is_ties = strncmp(c->fill, "ties", 4) == 0;
  int is_around = sscanf(c->fill, "u%d@%d", &e, &center) == 2;
  const char *peak = strstr(c->fill, "+peak");
  int has_nan = strstr(c->fill, "+nan") != NULL, has_inf = strstr(c->fill, "+inf") != NULL;
  int has_closed = strstr(c->fill, "+ninf") != NULL;
  for (int64_t i = 0; i < x->count; i++) {
    int64_t row = i / cols, col = i % cols;
    uint64_t z = stream(c->seed, OF_X, (uint64_t)i);
    int is_place = col == (int64_t)(stream(c->seed, OF_PLACE, (uint64_t)row) % (uint64_t)cols);
    double value = is_ties     ? (double)(z >> 62) - 1
                   : is_around ? around(x->dtype, center, e, z)
                               : uniform(x->dtype, e, z);
    if (peak && is_place) value = ldexp(1, atoi(peak + 5));
    if (has_closed && (row % 5 == 3 || (z & 7) == 0)) value = -INFINITY;
    if (has_nan && row % 5 == 1 && is_place) value = NAN;
    if (has_inf && row % 5 == 2 && is_place) value = INFINITY;
    set(x, i, value);
  }
}

/* The shape of x, or 1 along every axis but the last. */
static array like_x(const array *x, smx_dtype dtype, int is_one_row) {
  int64_t shape[MAX_RANK];
  for (int i = 0; i < x->rank; i++) shape[i] = is_one_row && i < x->rank - 1 ? 1 : x->shape[i];
  return new_array(dtype, x->rank, shape);
}

static void fill_others(inputs *in) {
  const golden_case *c = in->from;
  int64_t cols = in->x.shape[in->x.rank - 1];
  if (*c->mask) {
    in->mask = like_x(&in->x, SMX_BOOL, strcmp(c->mask, "cols") == 0);
    int has_closed_rows = strcmp(c->mask, "rows") == 0;
    for (int64_t i = 0; i < in->mask.count; i++) {
      int is_open = stream(c->seed, OF_MASK, (uint64_t)i) >> 62 != 0;
      set(&in->mask, i, is_open && !(has_closed_rows && i / cols % 3 == 1));
    }
  }
  if (*c->bias) {
    smx_dtype dtype = strcmp(c->bias, "f32") == 0 ? SMX_FLOAT32 : c->dtype;
    in->bias = like_x(&in->x, dtype, strcmp(c->bias, "cols") == 0);
    int is_closing = strcmp(c->bias, "closed") == 0;
    for (int64_t i = 0; i < in->bias.count; i++) {
      uint64_t z = stream(c->seed, OF_BIAS, (uint64_t)i);
      int is_closed = is_closing && ((z & 7) == 0 || i / cols % 4 == 1);
      set(&in->bias, i, is_closed ? -INFINITY : uniform(dtype, 1, z));
    }
  }
  if (*c->weights) {
    in->weights = like_x(&in->x, c->dtype, 0);
    int is_positive = strcmp(c->weights, "positive") == 0;
    for (int64_t i = 0; i < in->weights.count; i++) {
      double value = uniform(c->dtype, 1, stream(c->seed, OF_WEIGHTS, (uint64_t)i));
      set(&in->weights, i, is_positive ? fabs(value) : value);
    }
  }
  if (*c->temperature) {
    static const double of_rows[6] = {0, 0.5, 1, 2, INFINITY, 3};
    int is_of_rows = strcmp(c->temperature, "rows") == 0;
    int64_t shape[MAX_RANK];
    for (int i = 0; i < c->rank; i++) shape[i] = is_of_rows && !c->reduced[i] ? c->shape[i] : 1;
    in->temperature = new_array(SMX_FLOAT64, c->rank, shape);
    for (int64_t i = 0; i < in->temperature.count; i++) {
      set(&in->temperature, i, is_of_rows ? of_rows[i % 6] : strtod(c->temperature, NULL));
    }
  }
}

/* -- structures -------------------------------------------------------------------------------- */

smx_tensor *integers(condition *k, int slot, smx_tensor *t, int rank, int64_t length) {
  k->data[slot] = allocate((size_t)length * sizeof(int32_t));
  k->shape[slot][0] = length;
  k->strides[slot][0] = sizeof(int32_t);
  *t = (smx_tensor){k->data[slot], SMX_INT32, rank, k->shape[slot], k->strides[slot]};
  return t;
}

static void add_condition(inputs *in, const char *text) {
  const golden_case *c = in->from;
  condition *k = &in->condition[in->conditions++];
  int64_t queries = c->shape[c->rank - 2], keys = c->shape[c->rank - 1];
  /* One number for each entry of the first axis, or a single one where there is no such axis. */
  int rank = c->rank > 2;
  int64_t count = rank ? c->shape[0] : 1;
  memset(k, 0, sizeof *k);
  k->mask.size = sizeof k->mask;
  if (strncmp(text, "causal", 6) == 0) {
    k->mask.causal = 1;
    if (strcmp(text, "causal:batch") == 0) {
      k->mask.query_offset = integers(k, 0, &k->offset, rank, count);
      for (int64_t i = 0; i < count; i++) {
        k->data[0][i] = (int32_t)(stream(c->seed, OF_STRUCTURE, (uint64_t)i) % 7) - 3;
      }
    } else if (text[6] == ':') {
      k->mask.query_offset = integers(k, 0, &k->offset, 0, 1);
      k->data[0][0] = atoi(text + 7);
    }
  } else if (strncmp(text, "window:", 7) == 0) {
    long long left, right;
    k->mask.window = 1;
    sscanf(text, "window:%lld:%lld", &left, &right);
    k->mask.window_left = left;
    k->mask.window_right = right;
  } else if (strcmp(text, "lengths") == 0 || strcmp(text, "qlengths") == 0) {
    int is_query = *text == 'q', slot = is_query ? 2 : 1;
    smx_tensor *t = integers(k, slot, is_query ? &k->query_lengths : &k->lengths, rank, count);
    if (is_query) k->mask.query_lengths = t;
    else k->mask.key_lengths = t;
    for (int64_t i = 0; i < count; i++) {
      uint64_t z = stream(c->seed, OF_STRUCTURE, (uint64_t)(i + (is_query ? 100 : 0)));
      k->data[slot][i] = (int32_t)(z % (uint64_t)((is_query ? queries : keys) + 1));
    }
  } else {
    k->mask.query_segments = integers(k, 3, &k->query_ids, 1, queries);
    k->mask.key_segments = integers(k, 4, &k->key_ids, 1, keys);
    for (int64_t i = 0; i < queries; i++) k->data[3][i] = (int32_t)(3 * i / queries);
    for (int64_t i = 0; i < keys; i++) k->data[4][i] = (int32_t)(3 * i / keys);
  }
}

/* Links the conditions to one another; their addresses are final. */
const smx_mask *structure_of(inputs *in) {
  for (int i = 0; i + 1 < in->conditions; i++) {
    in->condition[i].mask.also = &in->condition[i + 1].mask;
  }
  return in->conditions ? &in->condition[0].mask : NULL;
}

void make_inputs(inputs *in, const golden_case *c) {
  memset(in, 0, sizeof *in);
  in->from = c;
  in->x = new_array(c->dtype, c->rank, c->shape);
  fill_x(&in->x, c);
  fill_others(in);
  char text[NAME], *rest = text;
  strcpy(text, c->structure);
  for (char *one; (one = strsep(&rest, "&"));)
    if (*one) add_condition(in, one);
}

void free_inputs(inputs *in) {
  free(in->x.data);
  free(in->mask.data);
  free(in->bias.data);
  free(in->weights.data);
  free(in->temperature.data);
  for (int i = 0; i < in->conditions; i++) {
    for (int k = 0; k < 5; k++) free(in->condition[i].data[k]);
  }
}

array new_out(const inputs *in) {
  int64_t shape[MAX_RANK];
  const golden_case *c = in->from;
  for (int i = 0; i < c->rank; i++) {
    shape[i] = c->op == LOGSUMEXP && c->reduced[i] ? 1 : in->x.shape[i];
  }
  return new_array(c->dtype, c->rank, shape);
}
