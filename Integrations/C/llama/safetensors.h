// Tensors of a safetensors file, widened to float32.
#ifndef LLAMA_SAFETENSORS_H
#define LLAMA_SAFETENSORS_H

#include <stdio.h>

#include "json.h"

typedef struct safetensors {
  FILE *file;
  const char *path;
  json_document header;
  uint64_t data_start, data_bytes;  // where tensors lie in the file
} safetensors;

// Opens a file and reads its header; ends the program if it is no safetensors file. `path` must
// live as long.
safetensors safetensors_open(const char *path);

void safetensors_close(safetensors *tensors);

// Reads a tensor of this shape, [rows, columns], or [columns] where rows is 0, in F32, F16 or BF16.
// The caller frees the floats. Ends the program if it is missing or another.
float *safetensors_read(const safetensors *tensors, const char *name, size_t rows, size_t columns);

#endif
