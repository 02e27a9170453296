// What every file of the example needs: errors that end the program, memory and whole files.
#ifndef LLAMA_SUPPORT_H
#define LLAMA_SUPPORT_H

#include <stddef.h>
#include <stdint.h>

// Writes "error: " and the message, and ends the program with status 1.
_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

// Memory for `count` elements of `size` bytes, zeroed; ends the program where there is none.
void *allocate(size_t count, size_t size);

// The bytes of a file, with a null character behind them; the caller frees them. Ends the program
// if the file cannot be read or has more than `limit` bytes.
char *read_file(const char *path, size_t limit, size_t *byte_count);

// "folder/name"; the caller frees it.
char *join_path(const char *folder, const char *name);

#endif
