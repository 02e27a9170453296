// JSON as checkpoints have it: a text becomes a tree of nodes, or an error that says where.
#ifndef LLAMA_JSON_H
#define LLAMA_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
  JSON_NULL,
  JSON_BOOLEAN,
  JSON_NUMBER,
  JSON_STRING,
  JSON_ARRAY,
  JSON_OBJECT
} json_kind;

typedef struct json_node {
  json_kind kind;
  double number;      // of a number; 1 for true
  const char *text;   // of a string, decoded, with a null character behind it
  size_t text_bytes;  // without that one; a string may hold null characters itself
  const char *key;    // of an object's member; NULL elsewhere
  size_t key_bytes;
  size_t first, next;  // children are a list of places in `nodes`; 0 is none
} json_node;

typedef struct json_document {
  json_node *nodes;  // the root is the first
  size_t count, capacity;
  char *strings;  // decoded, one after another
} json_document;

// Reads a text that has a null character behind its `byte_count` bytes. Ends the program with the
// file's name and the offset if it is no JSON or more than 64 levels deep.
json_document json_read(const char *text, size_t byte_count, const char *file);

void json_free(json_document *document);

// The member of an object that is called so, the first of several; NULL if there is none, or if
// the node is NULL or no object.
const json_node *json_member(const json_document *document, const json_node *node, const char *key);

// The first child of an array or object, and the one after a child; NULL at the end.
const json_node *json_first(const json_document *document, const json_node *node);
const json_node *json_next(const json_document *document, const json_node *node);

// Whether a node is this string.
bool json_is(const json_node *node, const char *text);

// The value of a node that is a whole number from 0 to `limit`; false for everything else.
bool json_whole(const json_node *node, uint64_t limit, uint64_t *value);

#endif
