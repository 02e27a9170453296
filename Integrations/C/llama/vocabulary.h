// The text of tokens, from a tokenizer.json with byte-level pieces.
#ifndef LLAMA_VOCABULARY_H
#define LLAMA_VOCABULARY_H

#include <stdio.h>

#include "json.h"

typedef struct vocabulary {
  json_document document;
  const json_node **pieces;  // [count], NULL where an id has no piece; owned by the document
  size_t count;
} vocabulary;

// Reads the pieces of `count` ids from tokenizer.json of a directory. Ends the program if the file
// cannot be read or has no vocabulary.
vocabulary vocabulary_load(const char *directory, size_t count);

void vocabulary_free(vocabulary *words);

// Writes a token's bytes. An id without a piece, and one of the tokens that tokenizer.json has
// beside the vocabulary, has none.
void vocabulary_write(const vocabulary *words, int32_t id, FILE *output);

#endif
