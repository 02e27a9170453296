// A conversation that is saved, restored, forked, remembered and moved to disk from C. Whatever is
// done with its pages, attention gives the same output bit for bit.
// Integrations/C/run-example.sh builds and runs it. Exit status 0: everything was as it should be.
#define _POSIX_C_SOURCE 200809L
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "example.h"

enum {
  LAYERS = 2,
  QUERY_HEADS = 4,
  KV_HEADS = 2,
  HEAD_DIM = 64,
  KV_ROW = KV_HEADS * HEAD_DIM,
  QUERY_ROW = QUERY_HEADS * HEAD_DIM,
  PROMPT = 400,
  ANSWER = 40,
};

static const nibble_model_shape shape = {LAYERS, QUERY_HEADS, KV_HEADS, HEAD_DIM};
static const char *const policy = "linear:4@page_tokens=16@recent=32";
static char folder[256];
static char session_path[300];

static nibble_cache *make_cache(const char *fingerprint, const char *disk_folder) {
  const nibble_cache_options options = {
      .struct_bytes = sizeof options,
      .policy = policy,
      .threads = 2,
      .fingerprint = fingerprint,
      .disk_folder = disk_folder,
  };
  nibble_cache *cache = NULL;
  check(nibble_cache_create_with_options(&shape, &options, &cache), "a cache");
  return cache;
}

static nibble_cache_statistics statistics_of(const nibble_cache *cache) {
  nibble_cache_statistics figures = {0};
  check(nibble_cache_get_statistics(cache, &figures, sizeof figures), "statistics of a cache");
  return figures;
}

static nibble_sequence_statistics figures_of(const nibble_sequence *sequence) {
  nibble_sequence_statistics figures = {0};
  check(nibble_sequence_get_statistics(sequence, &figures, sizeof figures), "statistics");
  return figures;
}

static int32_t id_of(uint64_t position) { return (int32_t)(position * 7919 % 1000); }

// Computes tokens first ..< end of a text: what a model would make of them depends on their ids, as
// far as this example goes.
static void compute(nibble_sequence *sequence, uint64_t first, uint64_t end) {
  float keys[KV_ROW], values[KV_ROW];
  for (uint64_t position = first; position < end; position++) {
    for (uint32_t layer = 0; layer < LAYERS; layer++) {
      const uint64_t seed = (uint64_t)id_of(position) * 1000003 + position * 10 + layer;
      fill(keys, KV_ROW, seed);
      fill(values, KV_ROW, ~seed);
      check(nibble_sequence_append(sequence, layer, 1, keys, values), "nibble_sequence_append");
    }
    const int32_t id = id_of(position);
    check(nibble_sequence_record_tokens(sequence, 1, &id), "nibble_sequence_record_tokens");
  }
}

// Whether two sequences give the same attention in all layers, bit for bit.
static int same_attention(nibble_sequence *a, nibble_sequence *b) {
  float queries[QUERY_ROW], outputs[2][QUERY_ROW];
  for (uint32_t layer = 0; layer < LAYERS; layer++) {
    fill(queries, QUERY_ROW, 99 + layer);
    check(nibble_sequence_attend(a, layer, 1, queries, 0, 0, 0, outputs[0]), "attention");
    check(nibble_sequence_attend(b, layer, 1, queries, 0, 0, 0, outputs[1]), "attention");
    if (memcmp(outputs[0], outputs[1], sizeof outputs[0]) != 0) return 0;
  }
  return 1;
}

static uint64_t file_bytes(void) {
  struct stat status;
  expect(stat(session_path, &status) == 0, "the session's file");
  return (uint64_t)status.st_size;
}

static void expect_ids(const nibble_sequence *sequence, uint64_t count) {
  int32_t ids[PROMPT + 2 * ANSWER];
  uint64_t known = 0;
  check(nibble_sequence_get_tokens(sequence, sizeof ids / sizeof *ids, ids, &known), "token ids");
  expect(known == count, "the number of known ids");
  for (uint64_t i = 0; i < count; i++) expect(ids[i] == id_of(i), "a token id");
}

// A sequence is saved, goes on, is saved again, and comes back in another cache.
static void save_and_restore(void) {
  nibble_cache *cache = make_cache("example", NULL), *other = make_cache("example", NULL);
  nibble_sequence *sequence = NULL, *restored = NULL, *branch = NULL;
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");
  compute(sequence, 0, PROMPT);
  check(nibble_sequence_save(sequence, session_path, 0), "nibble_sequence_save");
  const uint64_t whole = file_bytes();
  compute(sequence, PROMPT, PROMPT + ANSWER);
  check(nibble_sequence_save(sequence, session_path, 0), "saving again");
  const uint64_t more = file_bytes() - whole;
  expect(more > 0 && more < whole / 2, "the second save appends what is new");

  check(nibble_sequence_restore(other, session_path, &restored), "nibble_sequence_restore");
  expect(figures_of(restored).stored_pages > 0, "pages stay in the file until they are used");
  expect_ids(restored, PROMPT + ANSWER);
  expect(same_attention(sequence, restored), "attention after restoring");
  compute(sequence, PROMPT + ANSWER, PROMPT + 2 * ANSWER);
  compute(restored, PROMPT + ANSWER, PROMPT + 2 * ANSWER);
  expect(same_attention(sequence, restored), "attention of what goes on");

  // A restored sequence is one like any other.
  check(nibble_sequence_fork(restored, &branch), "nibble_sequence_fork");
  check(nibble_sequence_truncate(branch, PROMPT), "nibble_sequence_truncate");
  check(nibble_sequence_save(restored, session_path, 1), "saving what was restored");
  expect_ids(branch, PROMPT);
  printf("sessions: %d tokens in %llu bytes, %d more in %llu more\n", PROMPT,
         (unsigned long long)whole, ANSWER, (unsigned long long)more);
  nibble_sequence_free(branch);
  nibble_sequence_free(restored);
  nibble_sequence_free(sequence);
  nibble_cache_free(other);
  nibble_cache_free(cache);
}

// A prompt that comes again is not computed again.
static void continue_prompts(void) {
  nibble_cache *cache = make_cache("example", NULL);
  nibble_sequence *first = NULL, *again = NULL;
  int32_t prompt[PROMPT + 1];
  for (uint64_t i = 0; i < PROMPT; i++) prompt[i] = id_of(i);
  uint64_t found = 1;
  check(nibble_sequence_create_continuing(cache, PROMPT, prompt, 1, &first, &found),
        "a new prompt");
  expect(found == 0, "nothing is remembered yet");
  compute(first, 0, PROMPT - 1);
  check(nibble_sequence_remember(first), "nibble_sequence_remember");
  compute(first, PROMPT - 1, PROMPT);

  check(nibble_sequence_create_continuing(cache, PROMPT, prompt, 1, &again, &found), "once more");
  expect(found == PROMPT - 1, "all but the last token is found");
  compute(again, found, PROMPT);
  expect(same_attention(first, again), "attention of the prompt that came again");
  nibble_sequence_free(again);

  // Another prompt that begins alike.
  prompt[200] = 1000;
  check(nibble_sequence_create_continuing(cache, PROMPT, prompt, 1, &again, &found), "another one");
  expect(found > 100 && found <= 200, "the common beginning is found");
  expect_ids(again, found);
  const nibble_cache_statistics figures = statistics_of(cache);
  expect(figures.prefix_lookups == 3 && figures.prefix_hits == 2, "lookups and hits");
  expect(figures.prefix_reused_tokens == PROMPT - 1 + found, "reused tokens");
  expect(figures.prefix_sequences == 1 && figures.prefix_bytes > 0, "what is remembered");
  printf("prefixes: %d of %d tokens found, then %llu\n", PROMPT - 1, PROMPT,
         (unsigned long long)found);
  nibble_sequence_free(again);
  nibble_sequence_free(first);
  nibble_cache_free(cache);
}

// Pages that leave memory give the same attention.
static void move_to_disk(void) {
  nibble_cache *cache = make_cache(NULL, folder);
  nibble_sequence *sequence = NULL, *moved = NULL;
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");
  check(nibble_sequence_create(cache, &moved), "nibble_sequence_create");
  compute(sequence, 0, PROMPT);
  compute(moved, 0, PROMPT);
  const nibble_cache_statistics before = statistics_of(cache);
  expect(before.disk_bytes == 0 && before.pages > 0, "nothing is on disk at first");
  check(nibble_sequence_move_to_disk(moved), "nibble_sequence_move_to_disk");
  const nibble_cache_statistics after = statistics_of(cache);
  expect(after.pages == before.pages / 2, "the pages of one of two sequences left memory");
  expect(after.disk_bytes > 0 && after.disk_page_bytes > 0, "they are on disk");
  expect(figures_of(moved).stored_pages > 0, "the sequence knows it");
  expect(figures_of(sequence).stored_pages == 0, "the other one stayed");
  printf("disk:     %llu pages in %llu bytes\n", (unsigned long long)after.pages,
         (unsigned long long)after.disk_bytes);
  expect(same_attention(sequence, moved), "attention of what was moved");
  nibble_sequence_free(moved);
  nibble_sequence_free(sequence);
  nibble_cache_free(cache);
}

// A refusal has its status and a message that names what is wrong.
static void refuse(nibble_status found, nibble_status expected, const char *word) {
  if (found != expected || strstr(nibble_last_error(), word) == NULL) {
    fprintf(stderr, "status %d where %d and '%s' were expected: %s\n", (int)found, (int)expected,
            word, nibble_last_error());
    exit(1);
  }
  printf("refused:  %s\n", nibble_last_error());
}

static void damage_byte(long offset) {
  FILE *file = fopen(session_path, "r+b");
  expect(file && fseek(file, offset, SEEK_SET) == 0, "the session's file");
  const int byte = fgetc(file);
  expect(byte != EOF && fseek(file, offset, SEEK_SET) == 0, "a byte of the file");
  expect(fputc(byte ^ 1, file) != EOF && fclose(file) == 0, "damaging the file");
}

static void refuse_files(void) {
  nibble_cache *cache = make_cache("another model", NULL), *right = make_cache("example", NULL);
  nibble_sequence *sequence = NULL;
  refuse(nibble_sequence_restore(cache, session_path, &sequence), NIBBLE_OTHER_SESSION,
         "fingerprint");
  refuse(nibble_sequence_restore(cache, folder, &sequence), NIBBLE_FILE_FAILED, "not a file");
  refuse(nibble_sequence_restore(cache, NULL, &sequence), NIBBLE_INVALID_ARGUMENT, "path");
  refuse(nibble_sequence_restore(cache, "\xff", &sequence), NIBBLE_INVALID_ARGUMENT, "UTF-8");

  // The first page of the file is damaged, which is seen when it is needed.
  damage_byte(8192);
  const float queries[QUERY_ROW] = {0};
  float output[QUERY_ROW];
  check(nibble_sequence_restore(right, session_path, &sequence), "a session with a damaged page");
  refuse(nibble_sequence_attend(sequence, 0, 1, queries, 0, 0, 0, output), NIBBLE_FILE_FAILED,
         "damaged");
  nibble_sequence_free(sequence);

  check(nibble_sequence_create(right, &sequence), "nibble_sequence_create");
  refuse(nibble_sequence_save(sequence, "/nowhere/a.session", 0), NIBBLE_FILE_FAILED, "/nowhere");
  refuse(nibble_sequence_move_to_disk(sequence), NIBBLE_INVALID_ARGUMENT, "disk");
  const int32_t id = -1;
  refuse(nibble_sequence_record_tokens(sequence, 1, &id), NIBBLE_INVALID_ARGUMENT, "position 1");
  nibble_sequence *none = NULL;
  refuse(nibble_sequence_create_continuing(right, 1, &id, 1, &none, NULL), NIBBLE_INVALID_ARGUMENT,
         "token 0");
  expect(none == NULL, "a call that fails makes no sequence");
  refuse(nibble_sequence_record_tokens(sequence, UINT64_MAX, &id), NIBBLE_INVALID_ARGUMENT,
         "tokens");
  nibble_sequence_free(sequence);
  nibble_cache_free(right);
  nibble_cache_free(cache);
}

static void refuse_options(void) {
  nibble_cache *cache = NULL;
  nibble_cache_options options = {.struct_bytes = sizeof options, .disk_limit = 1};
  refuse(nibble_cache_create_with_options(&shape, &options, &cache), NIBBLE_INVALID_ARGUMENT,
         "disk_folder");
  options.disk_folder = "/nowhere";
  refuse(nibble_cache_create_with_options(&shape, &options, &cache), NIBBLE_FILE_FAILED,
         "/nowhere");
  options.struct_bytes = 0;
  refuse(nibble_cache_create_with_options(&shape, &options, &cache), NIBBLE_INVALID_ARGUMENT,
         "struct_bytes");

  // A newer caller: fields that this library does not know must be 0.
  struct {
    nibble_cache_options known;
    uint64_t unknown;
  } newer = {.known = {.struct_bytes = sizeof newer}, .unknown = 1};
  refuse(nibble_cache_create_with_options(&shape, &newer.known, &cache), NIBBLE_INVALID_ARGUMENT,
         "fields");
  newer.unknown = 0;
  check(nibble_cache_create_with_options(&shape, &newer.known, &cache),
        "options of a newer header");
  nibble_cache_free(cache);

  // An older caller: what its structures do not have is neither read nor written.
  options.struct_bytes = 16;
  check(nibble_cache_create_with_options(&shape, &options, &cache), "options of an older header");
  nibble_cache_statistics figures = {.disk_bytes = 7};
  check(nibble_cache_get_statistics(cache, &figures, 32), "statistics of an older header");
  expect(figures.held_bytes > 0 && figures.disk_bytes == 7, "the first 32 bytes alone are written");
  nibble_cache_free(cache);

  // A disk tier that is too small leaves the pages in memory.
  const nibble_cache_options small = {
      .struct_bytes = sizeof small, .policy = policy, .disk_folder = folder, .disk_limit = 4096};
  nibble_sequence *sequence = NULL;
  check(nibble_cache_create_with_options(&shape, &small, &cache), "a small disk tier");
  check(nibble_sequence_create(cache, &sequence), "nibble_sequence_create");
  compute(sequence, 0, PROMPT);
  refuse(nibble_sequence_move_to_disk(sequence), NIBBLE_OVER_BUDGET, "4096");
  expect(statistics_of(cache).disk_bytes <= 4096, "the disk limit holds");
  nibble_sequence_free(sequence);
  nibble_cache_free(cache);
}

int main(void) {
  const char *temporary = getenv("TMPDIR");
  snprintf(folder, sizeof folder, "%s/nibble-XXXXXX", temporary ? temporary : "/tmp");
  expect(mkdtemp(folder) != NULL, "a temporary folder");
  snprintf(session_path, sizeof session_path, "%s/a.session", folder);
  save_and_restore();
  continue_prompts();
  move_to_disk();
  refuse_files();
  refuse_options();
  expect(unlink(session_path) == 0 && rmdir(folder) == 0, "nothing else is left in the folder");
  puts("done");
  return 0;
}
