#include "vocabulary.h"

#include <stdlib.h>

#include "support.h"

static const size_t file_limit = 256 << 20;

vocabulary vocabulary_load(const char *directory, size_t count) {
  char *path = join_path(directory, "tokenizer.json");
  size_t byte_count = 0;
  char *text = read_file(path, file_limit, &byte_count);
  vocabulary words = {.document = json_read(text, byte_count, path), .count = count};
  words.pieces = allocate(count, sizeof *words.pieces);
  const json_document *document = &words.document;
  const json_node *root = document->nodes;
  const json_node *pieces = json_member(document, json_member(document, root, "model"), "vocab");
  if (pieces == NULL || pieces->kind != JSON_OBJECT) die("%s has no model.vocab", path);
  const json_node *piece = json_first(document, pieces);
  for (; piece != NULL; piece = json_next(document, piece)) {
    uint64_t id = 0;
    if (!json_whole(piece, UINT32_MAX, &id)) die("%s: the id of %s is no number", path, piece->key);
    if (id < count) words.pieces[id] = piece;
  }
  // Special tokens stand for no text.
  const json_node *special = json_first(document, json_member(document, root, "added_tokens"));
  for (; special != NULL; special = json_next(document, special)) {
    uint64_t id = 0;
    if (json_whole(json_member(document, special, "id"), UINT32_MAX, &id) && id < count) {
      words.pieces[id] = NULL;
    }
  }
  free(text);
  free(path);
  return words;
}

void vocabulary_free(vocabulary *words) {
  free(words->pieces);
  json_free(&words->document);
}

// ---- Bytes of a piece

// Bytes that pieces have as the character of the same number; the others are, in their order, the
// characters from 256 on.
static bool stands_for_itself(uint32_t byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

// The byte that a character of a piece stands for; -1 if none.
static int byte_of(uint32_t character) {
  if (character < 256) return stands_for_itself(character) ? (int)character : -1;
  uint32_t other = 256;
  for (uint32_t byte = 0; byte < 256; byte++) {
    if (!stands_for_itself(byte) && other++ == character) return (int)byte;
  }
  return -1;
}

void vocabulary_write(const vocabulary *words, int32_t id, FILE *output) {
  const json_node *piece = id >= 0 && (size_t)id < words->count ? words->pieces[id] : NULL;
  if (piece == NULL) return;
  for (size_t i = 0; i < piece->key_bytes; i++) {
    const unsigned char lead = (unsigned char)piece->key[i];
    // All characters of the byte alphabet have one or two bytes in UTF-8.
    const bool has_two = lead >> 5 == 6 && i + 1 < piece->key_bytes;
    const uint32_t character =
        has_two ? (uint32_t)(lead & 0x1F) << 6 | ((unsigned char)piece->key[i + 1] & 0x3F) : lead;
    const int byte = byte_of(character);
    fputc(byte >= 0 ? byte : lead, output);
    if (has_two && byte >= 0) i++;
  }
}
