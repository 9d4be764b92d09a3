/* The gradient of an attention call as the kernels see it. */
#ifndef SMXK_ATTENTION_VJP_H
#define SMXK_ATTENTION_VJP_H

#include "attention.h"

/* Queries of a block, the unit in which gradients of keys and values are summed: whole tiles of
 * every instruction set. Part of the bits contract (docs/training.md). */
enum { SMXK_QUERY_BLOCK = 48 };

/* The most blocks that take turns with a block of keys while it, and the sums for it, are in the
 * second-level cache; the length of the array in visitQueries, which Swift wants as a literal. */
enum { SMXK_QUERY_GROUP = 8 };

/* What a task computes: all three gradients of the queries that share a key head; those of one
 * block of queries; of some keys; of a block of the bias; of one sink. */
typedef intptr_t smxk_vjp_phase; /* intptr_t: Swift sees enumerators as Int */
enum { SMXK_VJP_ALL, SMXK_VJP_QUERIES, SMXK_VJP_KEYS, SMXK_VJP_BIAS, SMXK_VJP_SINKS };

/* Where a thread's workspace holds what, in bytes, beside the forward's rooms; panels are those of
 * AttentionVjpBlock.swift. */
typedef struct smxk_vjp_rooms {
  int64_t weights, gradients; /* of a block of scores: keys × SMXK_QUERY_BLOCK */
  int64_t slopes;             /* softcap's derivative, keys × lanes */
  int64_t queries, d_out;     /* rows of a group's queries, in panels, so many bytes a block */
  int64_t query_bytes, d_out_bytes;
  int64_t keys, values;       /* sums for the task's keys, where they cannot be made in place */
  int64_t bytes;              /* of all, the forward rooms included */
} smxk_vjp_rooms;

typedef struct smxk_attention_vjp {
  smxk_attention forward;     /* first; out and lse are inputs here */
  smxk_view d_out, d_query, d_key, d_value, d_bias, d_sinks; /* data NULL where it is not wanted */
  int32_t shares_keys, shares_values; /* one batch of keys, of values, serves all batch entries */
  int32_t is_key_direct, is_value_direct; /* sums are made where the gradients stand */
  int64_t key_pitch, value_pitch;     /* of the sums, numbers */
  smxk_vjp_phase phase;
  int64_t keys_per_task, key_tasks;   /* of SMXK_VJP_KEYS */
  int64_t query_tasks;                /* blocks of queries */
  int64_t blocks_per_group, tiles_per_block;
  int64_t bias_tasks;                 /* blocks of keys, 1 if the bias has one for all */
  smxk_vjp_rooms rooms;
} smxk_attention_vjp;

#endif
