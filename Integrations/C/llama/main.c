// Llama in plain C over NibbleKV: prefill and greedy decoding with a cache that stays compressed.
// Integrations/C/README.md says how to build and run it.
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../example.h"
#include "model.h"
#include "support.h"
#include "vocabulary.h"

static const char usage[] =
    "usage: llama --model DIR --ids ID,ID,... [--policy P] [--tokens N] [--chunk N]\n"
    "             [--threads N] [--calibration FILE] [--logits FILE]\n"
    "\n"
    "Continues token ids of a Llama model of Hugging Face, always with the most probable token.\n"
    "\n"
    "  --policy P          what the cache does to the history; balanced\n"
    "  --tokens N          tokens to generate; 32\n"
    "  --chunk N           the most tokens of a step of the prefill; 512\n"
    "  --threads N         threads of the cache; 0, which is one for each core\n"
    "  --calibration FILE  what `nibble calibrate` wrote for the model\n"
    "  --logits FILE       float32 logits of every token that is fed, a row each\n";

typedef struct arguments {
  const char *model, *policy, *calibration, *logits;
  int32_t *ids;
  size_t id_count, tokens, chunk, threads;
} arguments;

// ---- The command line

static _Noreturn void die_of_usage(const char *what, const char *value) {
  fprintf(stderr, "error: %s %s\n%s", what, value, usage);
  exit(64);
}

// A whole number, which is all of the text.
static size_t parse_count(const char *option, const char *text, size_t least, size_t most) {
  char *rest = NULL;
  errno = 0;
  const unsigned long long value = strtoull(text, &rest, 10);
  if (*text < '0' || *text > '9' || *rest != '\0' || errno != 0 || value < least || value > most) {
    die("%s is %s; expected %zu to %zu", option, text, least, most);
  }
  return (size_t)value;
}

static void parse_ids(const char *text, arguments *given) {
  given->ids = allocate(strlen(text) / 2 + 1, sizeof(int32_t));
  given->id_count = 0;
  for (const char *word = text;; word++) {
    char number[16];
    const size_t length = strcspn(word, ",");
    if (length >= sizeof number) die("--ids has a number of %zu characters", length);
    memcpy(number, word, length);
    number[length] = '\0';
    given->ids[given->id_count++] = (int32_t)parse_count("--ids", number, 0, INT32_MAX);
    word += length;
    if (*word == '\0') return;
  }
}

static arguments parse(int count, char **words) {
  arguments given = {.policy = "balanced", .tokens = 32, .chunk = 512};
  for (int i = 1; i < count; i += 2) {
    const char *option = words[i], *value = i + 1 < count ? words[i + 1] : NULL;
    if (strcmp(option, "--help") == 0) {
      fputs(usage, stdout);
      exit(0);
    }
    if (value == NULL) die_of_usage("no value for", option);
    if (strcmp(option, "--model") == 0) {
      given.model = value;
    } else if (strcmp(option, "--policy") == 0) {
      given.policy = value;
    } else if (strcmp(option, "--calibration") == 0) {
      given.calibration = value;
    } else if (strcmp(option, "--logits") == 0) {
      given.logits = value;
    } else if (strcmp(option, "--ids") == 0) {
      free(given.ids);
      parse_ids(value, &given);
    } else if (strcmp(option, "--tokens") == 0) {
      given.tokens = parse_count(option, value, 1, 1 << 24);
    } else if (strcmp(option, "--chunk") == 0) {
      given.chunk = parse_count(option, value, 1, 1024);
    } else if (strcmp(option, "--threads") == 0) {
      given.threads = parse_count(option, value, 0, 1024);
    } else {
      die_of_usage("unknown option", option);
    }
  }
  if (given.model == NULL) die_of_usage("missing", "--model");
  if (given.ids == NULL) die_of_usage("missing", "--ids");
  return given;
}

// ---- Generation

typedef struct generation {
  const llama_model *model;
  nibble_sequence *sequence;
  llama_workspace work;
  size_t position;
  FILE *logits;
} generation;

// Feeds tokens, and writes their logits where somebody wants them.
static void feed(generation *g, const int32_t *tokens, size_t count) {
  const size_t vocabulary = g->model->config.vocabulary;
  llama_forward(g->model, g->sequence, g->position, tokens, count, &g->work);
  g->position += count;
  if (g->logits == NULL) return;
  if (fwrite(g->work.logits, sizeof(float) * vocabulary, count, g->logits) != count) {
    die("cannot write the logits: %s", strerror(errno));
  }
}

static int32_t most_probable(const float *logits, size_t vocabulary) {
  size_t best = 0;
  for (size_t id = 1; id < vocabulary; id++) {
    if (logits[id] > logits[best]) best = id;
  }
  return (int32_t)best;
}

static double seconds_since(const struct timespec *start) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)(now.tv_sec - start->tv_sec) + (double)(now.tv_nsec - start->tv_nsec) * 1e-9;
}

// Feeds the prompt in chunks, its last token by itself, then each new token.
static void generate(generation *g, const arguments *given, const vocabulary *words) {
  struct timespec start;
  clock_gettime(CLOCK_MONOTONIC, &start);
  const size_t last = given->id_count - 1;
  while (g->position < last) {
    const size_t rest = last - g->position;
    feed(g, given->ids + g->position, rest < given->chunk ? rest : given->chunk);
  }
  int32_t token = given->ids[last];
  double first_seconds = 0;
  for (size_t made = 0; made < given->tokens; made++) {
    feed(g, &token, 1);
    token = most_probable(g->work.logits, g->model->config.vocabulary);
    if (made == 0) first_seconds = seconds_since(&start);
    vocabulary_write(words, token, stdout);
    fflush(stdout);
  }
  const double rest_seconds = seconds_since(&start) - first_seconds;
  fprintf(stderr, "\n%zu prompt tokens, the first new one after %.1f ms", given->id_count,
          first_seconds * 1e3);
  if (given->tokens > 1) {
    fprintf(stderr, ", then %.1f tokens/s", (double)(given->tokens - 1) / rest_seconds);
  }
  fputc('\n', stderr);
}

// ---- The cache

static nibble_cache *make_cache(const llama_config *config, const arguments *given) {
  const nibble_model_shape shape = {
      (uint32_t)config->layers,
      (uint32_t)config->query_heads,
      (uint32_t)config->kv_heads,
      (uint32_t)config->head_dim,
  };
  const nibble_cache_options options = {
      .struct_bytes = sizeof options,
      .policy = given->policy,
      .threads = given->threads,
      .calibration = given->calibration,
  };
  nibble_cache *cache = NULL;
  check(nibble_cache_create_with_options(&shape, &options, &cache), "the cache");
  return cache;
}

static void report(nibble_sequence *sequence, const char *policy) {
  nibble_sequence_statistics held = {0};
  check(nibble_sequence_get_statistics(sequence, &held, sizeof held), "statistics");
  fprintf(stderr,
          "policy %s: %llu tokens, %llu of them compressed to %.2f bits per value; %llu bytes "
          "instead of %llu in float16\n",
          policy, (unsigned long long)held.tokens, (unsigned long long)held.compressed_tokens,
          held.bits_per_value, (unsigned long long)held.total_bytes,
          (unsigned long long)held.exact_bytes);
}

int main(int count, char **words) {
  arguments given = parse(count, words);
  llama_model model = llama_load(given.model);
  for (size_t i = 0; i < given.id_count; i++) {
    if ((size_t)given.ids[i] >= model.config.vocabulary) {
      die("--ids: %d is not in the vocabulary of %zu", (int)given.ids[i], model.config.vocabulary);
    }
  }
  if (given.tokens > model.config.context || given.id_count > model.config.context - given.tokens) {
    die("%zu ids and %zu tokens are more than the model's context of %zu", given.id_count,
        given.tokens, model.config.context);
  }
  vocabulary vocabulary = vocabulary_load(given.model, model.config.vocabulary);
  llama_choose_threads(&model);

  nibble_cache *cache = make_cache(&model.config, &given);
  generation g = {.model = &model};
  check(nibble_sequence_create(cache, &g.sequence), "the sequence");
  const size_t longest = given.id_count < given.chunk ? given.id_count : given.chunk;
  g.work = llama_make_workspace(&model, longest);
  if (given.logits != NULL) {
    g.logits = fopen(given.logits, "wb");
    if (g.logits == NULL) die("cannot write %s: %s", given.logits, strerror(errno));
  }
  for (size_t i = 0; i < given.id_count; i++) vocabulary_write(&vocabulary, given.ids[i], stdout);
  generate(&g, &given, &vocabulary);
  report(g.sequence, given.policy);

  if (g.logits != NULL && fclose(g.logits) != 0) die("cannot write %s", given.logits);
  llama_free_workspace(&g.work);
  nibble_sequence_free(g.sequence);
  nibble_cache_free(cache);
  vocabulary_free(&vocabulary);
  llama_free(&model);
  free(given.ids);
  return 0;
}
