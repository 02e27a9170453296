// Counts allocations by taking the place of the C library's functions, which it then calls.
#include <errno.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "CTestSupport.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SANITIZER 1
#endif
#endif

static _Thread_local bool thread_is_watched;
static _Thread_local size_t largest;
static atomic_long allocations;

void test_watch_thread(bool is_watched) { thread_is_watched = is_watched; }
long test_allocations(void) { return atomic_load(&allocations); }

size_t test_largest_allocation(void) {
  const size_t bytes = largest;
  largest = 0;
  return bytes;
}

#if defined(__GLIBC__) && !defined(HAS_SANITIZER)

bool test_can_count_allocations(void) { return true; }

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);

static void count(size_t bytes) {
  if (bytes > largest) largest = bytes;
  if (thread_is_watched) atomic_fetch_add(&allocations, 1);
}

void *malloc(size_t bytes) {
  count(bytes);
  return __libc_malloc(bytes);
}

void *calloc(size_t number, size_t bytes) {
  count(number * bytes);
  return __libc_calloc(number, bytes);
}

void *realloc(void *old, size_t bytes) {
  count(bytes);
  return __libc_realloc(old, bytes);
}

void *memalign(size_t alignment, size_t bytes) {
  count(bytes);
  return __libc_memalign(alignment, bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  count(bytes);
  return __libc_memalign(alignment, bytes);
}

int posix_memalign(void **result, size_t alignment, size_t bytes) {
  count(bytes);
  void *memory = __libc_memalign(alignment, bytes);
  if (!memory) return ENOMEM;
  *result = memory;
  return 0;
}

#else

bool test_can_count_allocations(void) { return false; }

#endif
