// A Llama model of a Hugging Face directory, computed in float32. Attention is NibbleKV's.
#ifndef LLAMA_MODEL_H
#define LLAMA_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nibblekv.h"

typedef struct llama_config {
  size_t layers, query_heads, kv_heads, head_dim;
  size_t hidden, inner;  // widths of the residual stream and of the feed-forward layers
  size_t vocabulary, context;
  float norm_epsilon;
  double rotary_base;
  bool ties_embeddings;  // the embedding is the output matrix
} llama_config;

// Matrices are [outputs, inputs].
typedef struct llama_layer {
  float *input_norm, *queries, *keys, *values, *output;
  float *feed_forward_norm, *gate, *up, *down;
} llama_layer;

typedef struct llama_model {
  llama_config config;
  float *embedding, *final_norm, *head;  // the head is NULL where the embedding takes its place
  llama_layer *layers;
  float *frequencies;  // of the rotary embedding, [head_dim / 2], radians a position
} llama_model;

// Reads config.json and model.safetensors of a directory. Ends the program if they cannot be read,
// have absurd values or are of a model that this example does not compute.
llama_model llama_load(const char *directory);

void llama_free(llama_model *model);

// Chooses the threads of the BLAS, as NibbleKV's host in Swift does: one for small models, whose
// products are faster so.
void llama_choose_threads(const llama_model *model);

// Buffers of one step of up to `tokens` tokens; rows are tokens.
typedef struct llama_workspace {
  size_t tokens;
  float *hidden, *normed, *queries, *keys, *values, *attended, *gate, *up, *cosines, *sines;
  float *logits;  // [tokens, vocabulary]
} llama_workspace;

llama_workspace llama_make_workspace(const llama_model *model, size_t tokens);

void llama_free_workspace(llama_workspace *work);

// Feeds `count` tokens, 1 to work->tokens, that follow those which the sequence holds: their keys
// and values are appended, and work->logits receives the logits of each.
void llama_forward(const llama_model *model, nibble_sequence *sequence, size_t position,
                   const int32_t *tokens, size_t count, llama_workspace *work);

#endif
