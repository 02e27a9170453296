#include "support.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void die(const char *format, ...) {
  va_list arguments;
  fflush(stdout);
  fputs("error: ", stderr);
  va_start(arguments, format);
  vfprintf(stderr, format, arguments);
  va_end(arguments);
  fputc('\n', stderr);
  exit(1);
}

void *allocate(size_t count, size_t size) {
  // calloc refuses products that overflow.
  void *memory = calloc(count > 0 ? count : 1, size);
  if (memory == NULL) die("no memory for %zu elements of %zu bytes", count, size);
  return memory;
}

char *read_file(const char *path, size_t limit, size_t *byte_count) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) die("cannot read %s: %s", path, strerror(errno));
  size_t held = 0, capacity = 1 << 16;
  char *bytes = allocate(capacity, 1);
  for (;;) {
    // One byte stays free for the null character.
    const size_t read = fread(bytes + held, 1, capacity - held - 1, file);
    held += read;
    if (held > limit) die("%s has more than %zu bytes", path, limit);
    if (read == 0) break;
    if (held + 1 == capacity) {
      capacity *= 2;
      bytes = realloc(bytes, capacity);
      if (bytes == NULL) die("no memory for %zu bytes of %s", capacity, path);
    }
  }
  if (ferror(file)) die("cannot read %s: %s", path, strerror(errno));
  fclose(file);
  bytes[held] = '\0';
  *byte_count = held;
  return bytes;
}

char *join_path(const char *folder, const char *name) {
  const size_t length = strlen(folder) + strlen(name) + 2;
  char *path = allocate(length, 1);
  snprintf(path, length, "%s/%s", folder, name);
  return path;
}
