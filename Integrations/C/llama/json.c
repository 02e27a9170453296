#include "json.h"

#include <stdlib.h>
#include <string.h>

#include "support.h"

enum { DEPTH_LIMIT = 64 };

typedef struct reader {
  const char *start, *place, *end, *file;
  json_document *document;
  size_t string_bytes;  // of document->strings that are in use
} reader;

static size_t read_value(reader *r, int depth);

// ---- The tree

static _Noreturn void wrong(const reader *r, const char *expected) {
  die("%s: byte %zu: expected %s", r->file, (size_t)(r->place - r->start), expected);
}

static size_t add_node(reader *r, json_kind kind) {
  json_document *document = r->document;
  if (document->count == document->capacity) {
    document->capacity = 2 * document->capacity + 64;
    document->nodes = realloc(document->nodes, document->capacity * sizeof(json_node));
    if (document->nodes == NULL) die("no memory for the values of %s", r->file);
  }
  document->nodes[document->count] = (json_node){.kind = kind};
  return document->count++;
}

// ---- Characters: the end of the text reads as a null character, which no rule below accepts

static void skip_space(reader *r) {
  while (r->place < r->end && strchr(" \t\r\n", *r->place) != NULL && *r->place != '\0') r->place++;
}

static bool take(reader *r, char character) {
  if (r->place >= r->end || *r->place != character) return false;
  r->place++;
  return true;
}

static bool take_word(reader *r, const char *word) {
  const size_t length = strlen(word);
  if ((size_t)(r->end - r->place) < length || memcmp(r->place, word, length) != 0) return false;
  r->place += length;
  return true;
}

static bool take_digits(reader *r) {
  const char *first = r->place;
  while (r->place < r->end && *r->place >= '0' && *r->place <= '9') r->place++;
  return r->place > first;
}

// ---- Strings

static uint32_t read_hex(reader *r) {
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    const char c = r->place < r->end ? *r->place : '\0';
    uint32_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = (uint32_t)(c - '0');
    } else if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f') {
      digit = (uint32_t)((c | 0x20) - 'a') + 10;
    } else {
      wrong(r, "four hexadecimal digits");
    }
    value = value << 4 | digit;
    r->place++;
  }
  return value;
}

// A character after \u, which may take a second \u as the rest of a pair.
static uint32_t read_escaped(reader *r) {
  const uint32_t first = read_hex(r);
  if (first < 0xD800 || first > 0xDFFF) return first;
  if (first > 0xDBFF || !take_word(r, "\\u")) wrong(r, "a pair of surrogates");
  const uint32_t second = read_hex(r);
  if (second < 0xDC00 || second > 0xDFFF) wrong(r, "a pair of surrogates");
  return 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
}

static size_t write_utf8(uint32_t point, char *out) {
  if (point < 0x80) {
    out[0] = (char)point;
    return 1;
  }
  const size_t length = point < 0x800 ? 2 : point < 0x10000 ? 3 : 4;
  static const uint8_t leads[] = {0, 0, 0xC0, 0xE0, 0xF0};
  for (size_t i = length; i-- > 1; point >>= 6) out[i] = (char)(0x80 | (point & 0x3F));
  out[0] = (char)(leads[length] | point);
  return length;
}

// Decodes a string behind its opening quote. What is decoded and its null character are never
// longer than what was written with both quotes, so the buffer of the text's length has room.
static const char *read_string(reader *r, size_t *byte_count) {
  char *out = r->document->strings + r->string_bytes;
  size_t count = 0;
  while (!take(r, '"')) {
    if (r->place >= r->end) wrong(r, "a closing quote");
    if ((unsigned char)*r->place < 0x20) wrong(r, "no control character in a string");
    if (!take(r, '\\')) {
      out[count++] = *r->place++;
    } else if (take(r, 'u')) {
      count += write_utf8(read_escaped(r), out + count);
    } else {
      static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
      const char *name = r->place < r->end && *r->place ? strchr(names, *r->place) : NULL;
      if (name == NULL) wrong(r, "an escape sequence");
      out[count++] = values[name - names];
      r->place++;
    }
  }
  out[count] = '\0';
  r->string_bytes += count + 1;
  *byte_count = count;
  return out;
}

// ---- Values

static double read_number(reader *r) {
  const char *first = r->place;
  take(r, '-');
  if (!take(r, '0') && !take_digits(r)) wrong(r, "a value");
  if (take(r, '.') && !take_digits(r)) wrong(r, "digits after the point");
  if (take(r, 'e') || take(r, 'E')) {
    if (!take(r, '+')) take(r, '-');
    if (!take_digits(r)) wrong(r, "digits of an exponent");
  }
  // Where strtod would read on, as in 0x1, what stands there is no JSON and is refused next.
  return strtod(first, NULL);
}

// The children of an array or object, behind its opening bracket.
static void read_children(reader *r, size_t parent, int depth) {
  const bool is_object = r->document->nodes[parent].kind == JSON_OBJECT;
  const char close = is_object ? '}' : ']';
  size_t last = 0;
  skip_space(r);
  if (take(r, close)) return;
  do {
    const char *key = NULL;
    size_t key_bytes = 0;
    skip_space(r);
    if (is_object) {
      if (!take(r, '"')) wrong(r, "the name of a member");
      key = read_string(r, &key_bytes);
      skip_space(r);
      if (!take(r, ':')) wrong(r, "a colon");
    }
    const size_t child = read_value(r, depth + 1);
    json_node *nodes = r->document->nodes;
    nodes[child].key = key;
    nodes[child].key_bytes = key_bytes;
    if (last == 0) {
      nodes[parent].first = child;
    } else {
      nodes[last].next = child;
    }
    last = child;
    skip_space(r);
  } while (take(r, ','));
  if (!take(r, close)) wrong(r, is_object ? "a comma or }" : "a comma or ]");
}

static size_t read_value(reader *r, int depth) {
  if (depth > DEPTH_LIMIT) wrong(r, "at most 64 levels");
  skip_space(r);
  const size_t node = add_node(r, JSON_NULL);
  if (take(r, '{') || take(r, '[')) {
    r->document->nodes[node].kind = r->place[-1] == '{' ? JSON_OBJECT : JSON_ARRAY;
    read_children(r, node, depth);
  } else if (take(r, '"')) {
    size_t byte_count = 0;
    const char *text = read_string(r, &byte_count);
    json_node *place = r->document->nodes + node;
    *place = (json_node){.kind = JSON_STRING, .text = text, .text_bytes = byte_count};
  } else if (take_word(r, "true")) {
    r->document->nodes[node] = (json_node){.kind = JSON_BOOLEAN, .number = 1};
  } else if (take_word(r, "false")) {
    r->document->nodes[node].kind = JSON_BOOLEAN;
  } else if (!take_word(r, "null")) {
    const double number = read_number(r);
    r->document->nodes[node] = (json_node){.kind = JSON_NUMBER, .number = number};
  }
  return node;
}

json_document json_read(const char *text, size_t byte_count, const char *file) {
  json_document document = {0};
  document.strings = allocate(byte_count + 1, 1);
  reader r = {text, text, text + byte_count, file, &document, 0};
  read_value(&r, 0);
  skip_space(&r);
  if (r.place != r.end) wrong(&r, "nothing behind the value");
  return document;
}

// ---- Looking things up

void json_free(json_document *document) {
  free(document->nodes);
  free(document->strings);
  *document = (json_document){0};
}

const json_node *json_first(const json_document *document, const json_node *node) {
  return node != NULL && node->first != 0 ? document->nodes + node->first : NULL;
}

const json_node *json_next(const json_document *document, const json_node *node) {
  return node != NULL && node->next != 0 ? document->nodes + node->next : NULL;
}

const json_node *json_member(const json_document *document, const json_node *node,
                             const char *key) {
  if (node == NULL || node->kind != JSON_OBJECT) return NULL;
  const size_t length = strlen(key);
  const json_node *member = json_first(document, node);
  while (member != NULL && (member->key_bytes != length || memcmp(member->key, key, length) != 0)) {
    member = json_next(document, member);
  }
  return member;
}

bool json_is(const json_node *node, const char *text) {
  return node != NULL && node->kind == JSON_STRING && node->text_bytes == strlen(text) &&
         memcmp(node->text, text, node->text_bytes) == 0;
}

bool json_whole(const json_node *node, uint64_t limit, uint64_t *value) {
  // Beyond 2^53 a double is no longer the number that was written.
  const double most = limit < (UINT64_C(1) << 53) ? (double)limit : 9007199254740992.0;
  if (node == NULL || node->kind != JSON_NUMBER) return false;
  if (!(node->number >= 0 && node->number <= most)) return false;
  *value = (uint64_t)node->number;
  return (double)*value == node->number;
}
