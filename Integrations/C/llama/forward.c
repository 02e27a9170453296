// The forward pass. Its operations, their order and the products' shapes are those of NibbleKV's
// own host in Swift (Sources/NibbleLlama/Model), so the logits are the same bit for bit; compile it
// with -ffp-contract=off, for a product and a sum of floats are two roundings.
#include <cblas.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "../example.h"
#include "model.h"
#include "support.h"

// ---- The parts of a layer

// output[t, o] = beta * output[t, o] + sum over i of input[t, i] * weights[o, i]
static void multiply(const float *input, size_t tokens, size_t inputs, const float *weights,
                     size_t outputs, float *output, float beta) {
  const int rows = (int)outputs, columns = (int)inputs;
  if (tokens == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, rows, columns, 1, weights, columns, input, 1, beta,
                output, 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)tokens, rows, columns, 1, input,
                columns, weights, columns, beta, output, rows);
  }
}

// Root-mean-square norm of each row, times the weights. Squares are summed up in eight lanes.
static void normalize(const float *input, size_t rows, size_t width, const float *weights,
                      float epsilon, float *output) {
  for (size_t row = 0; row < rows; row++, input += width, output += width) {
    const size_t whole = width & ~(size_t)7;
    float lanes[8] = {0}, sum = -0.0f;
    for (size_t i = 0; i < whole; i++) lanes[i % 8] += input[i] * input[i];
    for (int lane = 0; lane < 8; lane++) sum += lanes[lane];
    for (size_t i = whole; i < width; i++) sum += input[i] * input[i];
    const float scale = 1 / sqrtf(sum / (float)width + epsilon);
    for (size_t i = 0; i < width; i++) output[i] = input[i] * scale * weights[i];
  }
}

static void compute_angles(const llama_model *model, size_t position, size_t tokens,
                           llama_workspace *work) {
  const size_t pairs = model->config.head_dim / 2;
  for (size_t token = 0; token < tokens; token++) {
    for (size_t pair = 0; pair < pairs; pair++) {
      const float angle = (float)(position + token) * model->frequencies[pair];
      work->cosines[token * pairs + pair] = cosf(angle);
      work->sines[token * pairs + pair] = sinf(angle);
    }
  }
}

// Rotates rows, [tokens, heads, head_dim], in the half-split order of Hugging Face models.
static void rotate(float *rows, size_t tokens, size_t heads, size_t pairs,
                   const llama_workspace *work) {
  for (size_t token = 0; token < tokens; token++) {
    const float *cosines = work->cosines + token * pairs, *sines = work->sines + token * pairs;
    for (size_t head = 0; head < heads; head++, rows += 2 * pairs) {
      for (size_t pair = 0; pair < pairs; pair++) {
        const float first = rows[pair], second = rows[pairs + pair];
        rows[pair] = first * cosines[pair] - second * sines[pair];
        rows[pairs + pair] = second * cosines[pair] + first * sines[pair];
      }
    }
  }
}

// gate = silu(gate) * up
static void gate_values(float *gate, const float *up, size_t count) {
  for (size_t i = 0; i < count; i++) gate[i] = gate[i] / (1 + expf(-gate[i])) * up[i];
}

// ---- A step

static void attend(const llama_model *model, uint32_t layer, nibble_sequence *sequence,
                   size_t tokens, llama_workspace *work) {
  const llama_config *c = &model->config;
  const llama_layer *weights = model->layers + layer;
  const size_t query_width = c->query_heads * c->head_dim, kv_width = c->kv_heads * c->head_dim;
  multiply(work->normed, tokens, c->hidden, weights->queries, query_width, work->queries, 0);
  multiply(work->normed, tokens, c->hidden, weights->keys, kv_width, work->keys, 0);
  multiply(work->normed, tokens, c->hidden, weights->values, kv_width, work->values, 0);
  rotate(work->queries, tokens, c->query_heads, c->head_dim / 2, work);
  rotate(work->keys, tokens, c->kv_heads, c->head_dim / 2, work);
  check(nibble_sequence_append(sequence, layer, tokens, work->keys, work->values), "append");
  check(nibble_sequence_attend(sequence, layer, tokens, work->queries, 0, 0, 0, work->attended),
        "attend");
  multiply(work->attended, tokens, query_width, weights->output, c->hidden, work->hidden, 1);
}

static void feed_forward(const llama_model *model, const llama_layer *weights, size_t tokens,
                         llama_workspace *work) {
  const llama_config *c = &model->config;
  multiply(work->normed, tokens, c->hidden, weights->gate, c->inner, work->gate, 0);
  multiply(work->normed, tokens, c->hidden, weights->up, c->inner, work->up, 0);
  gate_values(work->gate, work->up, tokens * c->inner);
  multiply(work->gate, tokens, c->inner, weights->down, c->hidden, work->hidden, 1);
}

void llama_forward(const llama_model *model, nibble_sequence *sequence, size_t position,
                   const int32_t *tokens, size_t count, llama_workspace *work) {
  const llama_config *c = &model->config;
  for (size_t token = 0; token < count; token++) {
    memcpy(work->hidden + token * c->hidden, model->embedding + (size_t)tokens[token] * c->hidden,
           c->hidden * sizeof(float));
  }
  compute_angles(model, position, count, work);
  for (uint32_t layer = 0; layer < c->layers; layer++) {
    const llama_layer *weights = model->layers + layer;
    normalize(work->hidden, count, c->hidden, weights->input_norm, c->norm_epsilon, work->normed);
    attend(model, layer, sequence, count, work);
    normalize(work->hidden, count, c->hidden, weights->feed_forward_norm, c->norm_epsilon,
              work->normed);
    feed_forward(model, weights, count, work);
  }
  normalize(work->hidden, count, c->hidden, model->final_norm, c->norm_epsilon, work->normed);
  const float *head = model->head != NULL ? model->head : model->embedding;
  multiply(work->normed, count, c->hidden, head, c->vocabulary, work->logits, 0);
}

void llama_choose_threads(const llama_model *model) {
#ifdef OPENBLAS_VERSION
  const llama_config *c = &model->config;
  const size_t heads = 2 * (c->query_heads + c->kv_heads) * c->head_dim;
  const size_t layers = c->layers * c->hidden * (heads + 3 * c->inner);
  const size_t tables = c->vocabulary * c->hidden * (c->ties_embeddings ? 1 : 2);
  if (layers + tables < (size_t)64 << 20) openblas_set_num_threads(1);
#else
  (void)model;
#endif
}

// ---- Buffers

llama_workspace llama_make_workspace(const llama_model *model, size_t tokens) {
  const llama_config *c = &model->config;
  const size_t row = tokens * sizeof(float);
  return (llama_workspace){
      .tokens = tokens,
      .hidden = allocate(c->hidden, row),
      .normed = allocate(c->hidden, row),
      .queries = allocate(c->query_heads * c->head_dim, row),
      .keys = allocate(c->kv_heads * c->head_dim, row),
      .values = allocate(c->kv_heads * c->head_dim, row),
      .attended = allocate(c->query_heads * c->head_dim, row),
      .gate = allocate(c->inner, row),
      .up = allocate(c->inner, row),
      .cosines = allocate(c->head_dim / 2, row),
      .sines = allocate(c->head_dim / 2, row),
      .logits = allocate(c->vocabulary, row),
  };
}

void llama_free_workspace(llama_workspace *work) {
  float *buffers[] = {work->hidden,  work->normed,   work->queries, work->keys,
                      work->values,  work->attended, work->gate,    work->up,
                      work->cosines, work->sines,    work->logits};
  for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) free(buffers[i]);
}
