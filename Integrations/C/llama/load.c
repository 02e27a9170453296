// The model's files: config.json, checked, and the weights.
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "model.h"
#include "safetensors.h"
#include "support.h"

static const size_t config_limit = 16 << 20;

// ---- config.json

typedef struct config_reader {
  const char *path;
  json_document document;
} config_reader;

static const json_node *value_of(const config_reader *r, const char *key) {
  const json_node *node = json_member(&r->document, r->document.nodes, key);
  return node != NULL && node->kind != JSON_NULL ? node : NULL;
}

// A whole number from 1 to `most`; `otherwise` where the key is missing, and an error if that is 0.
static size_t read_count(const config_reader *r, const char *key, size_t most, size_t otherwise) {
  const json_node *node = value_of(r, key);
  uint64_t value = 0;
  if (node == NULL && otherwise > 0) return otherwise;
  if (!json_whole(node, most, &value) || value == 0) {
    die("%s: %s must be a whole number from 1 to %zu", r->path, key, most);
  }
  return (size_t)value;
}

// A number above 0; `otherwise` where the key is missing in both the file and `rope_parameters`.
static double read_number(const config_reader *r, const char *key, double most, double otherwise) {
  const json_node *node = value_of(r, key);
  if (node == NULL) node = json_member(&r->document, value_of(r, "rope_parameters"), key);
  if (node == NULL) return otherwise;
  if (node->kind != JSON_NUMBER || !(node->number > 0 && node->number <= most)) {
    die("%s: %s must be a number above 0, at most %g", r->path, key, most);
  }
  return node->number;
}

static bool read_flag(const config_reader *r, const char *key) {
  const json_node *node = value_of(r, key);
  if (node == NULL) return false;
  if (node->kind != JSON_BOOLEAN) die("%s: %s must be true or false", r->path, key);
  return node->number != 0;
}

// What this example leaves out must not be there, for it would compute something else.
static void refuse_others(const config_reader *r) {
  const json_node *activation = value_of(r, "hidden_act");
  if (!json_is(value_of(r, "model_type"), "llama")) die("%s: not of the type llama", r->path);
  if (activation != NULL && !json_is(activation, "silu")) {
    die("%s: hidden_act is not silu", r->path);
  }
  if (read_flag(r, "attention_bias") || read_flag(r, "mlp_bias")) {
    die("%s: biases are not computed here", r->path);
  }
  const json_node *type = json_member(&r->document, value_of(r, "rope_parameters"), "rope_type");
  if (value_of(r, "rope_scaling") != NULL || (type != NULL && !json_is(type, "default"))) {
    die("%s: scaled rotary embeddings are not computed here", r->path);
  }
  if (read_number(r, "partial_rotary_factor", 1, 1) != 1) {
    die("%s: partial_rotary_factor is not 1", r->path);
  }
}

static llama_config read_config(const char *path) {
  size_t byte_count = 0;
  char *text = read_file(path, config_limit, &byte_count);
  config_reader r = {path, json_read(text, byte_count, path)};
  refuse_others(&r);
  llama_config config = {
      .layers = read_count(&r, "num_hidden_layers", 512, 0),
      .query_heads = read_count(&r, "num_attention_heads", 512, 0),
      .hidden = read_count(&r, "hidden_size", 1 << 17, 0),
      .inner = read_count(&r, "intermediate_size", 1 << 20, 0),
      .vocabulary = read_count(&r, "vocab_size", 1 << 24, 0),
      .context = read_count(&r, "max_position_embeddings", 1 << 24, 2048),
      .norm_epsilon = (float)read_number(&r, "rms_norm_eps", 1, 1e-6),
      .rotary_base = read_number(&r, "rope_theta", 1e30, 10000),
      .ties_embeddings = read_flag(&r, "tie_word_embeddings"),
  };
  config.kv_heads = read_count(&r, "num_key_value_heads", 512, config.query_heads);
  const size_t share = config.hidden / config.query_heads;
  config.head_dim = read_count(&r, "head_dim", 512, share > 0 ? share : 1);
  json_free(&r.document);
  free(text);
  return config;
}

// ---- Weights

static float *read_weight(const safetensors *tensors, size_t layer, const char *part, size_t rows,
                          size_t columns) {
  char name[128];
  snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, part);
  return safetensors_read(tensors, name, rows, columns);
}

static llama_layer read_layer(const safetensors *tensors, const llama_config *c, size_t layer) {
  const size_t query_width = c->query_heads * c->head_dim, kv_width = c->kv_heads * c->head_dim;
  return (llama_layer){
      .input_norm = read_weight(tensors, layer, "input_layernorm", 0, c->hidden),
      .queries = read_weight(tensors, layer, "self_attn.q_proj", query_width, c->hidden),
      .keys = read_weight(tensors, layer, "self_attn.k_proj", kv_width, c->hidden),
      .values = read_weight(tensors, layer, "self_attn.v_proj", kv_width, c->hidden),
      .output = read_weight(tensors, layer, "self_attn.o_proj", c->hidden, query_width),
      .feed_forward_norm = read_weight(tensors, layer, "post_attention_layernorm", 0, c->hidden),
      .gate = read_weight(tensors, layer, "mlp.gate_proj", c->inner, c->hidden),
      .up = read_weight(tensors, layer, "mlp.up_proj", c->inner, c->hidden),
      .down = read_weight(tensors, layer, "mlp.down_proj", c->hidden, c->inner),
  };
}

llama_model llama_load(const char *directory) {
  char *config_path = join_path(directory, "config.json");
  char *weights_path = join_path(directory, "model.safetensors");
  llama_model model = {.config = read_config(config_path)};
  const llama_config *c = &model.config;

  safetensors tensors = safetensors_open(weights_path);
  model.embedding =
      safetensors_read(&tensors, "model.embed_tokens.weight", c->vocabulary, c->hidden);
  model.layers = allocate(c->layers, sizeof(llama_layer));
  for (size_t layer = 0; layer < c->layers; layer++) {
    model.layers[layer] = read_layer(&tensors, c, layer);
  }
  model.final_norm = safetensors_read(&tensors, "model.norm.weight", 0, c->hidden);
  if (!c->ties_embeddings) {
    model.head = safetensors_read(&tensors, "lm_head.weight", c->vocabulary, c->hidden);
  }
  safetensors_close(&tensors);

  model.frequencies = allocate(c->head_dim / 2, sizeof(float));
  for (size_t pair = 0; pair < c->head_dim / 2; pair++) {
    const double exponent = (double)(2 * pair) / (double)c->head_dim;
    model.frequencies[pair] = (float)(1 / pow(c->rotary_base, exponent));
  }
  free(weights_path);
  free(config_path);
  return model;
}

void llama_free(llama_model *model) {
  for (size_t i = 0; i < model->config.layers; i++) {
    llama_layer *layer = model->layers + i;
    float *weights[] = {layer->input_norm, layer->queries, layer->keys,
                        layer->values,     layer->output,  layer->feed_forward_norm,
                        layer->gate,       layer->up,      layer->down};
    for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) free(weights[w]);
  }
  float *weights[] = {model->embedding, model->final_norm, model->head, model->frequencies};
  for (size_t w = 0; w < sizeof weights / sizeof *weights; w++) free(weights[w]);
  free(model->layers);
}
