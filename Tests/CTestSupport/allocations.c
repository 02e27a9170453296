// Counts allocations: with glibc by taking the place of the C library's functions, which it then
// calls; under a sanitizer, which brings an allocator of its own, by the hooks of that.
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
// Bytes that the thread took and did not give back since it began, and the most of them: what one
// thread takes and another gives back counts for both.
static _Thread_local intptr_t held, most;
static atomic_long allocations;

void test_watch_thread(bool is_watched) { thread_is_watched = is_watched; }
long test_allocations(void) { return atomic_load(&allocations); }

size_t test_peak_bytes(void) {
  static _Thread_local intptr_t before;
  const intptr_t bytes = most - before;
  before = most = held;
  return bytes > 0 ? (size_t)bytes : 0;
}

#if defined(__GLIBC__) || defined(HAS_SANITIZER)

bool test_can_measure_allocations(void) { return true; }

static void add(size_t bytes) {
  held += (intptr_t)bytes;
  if (held > most) most = held;
  if (thread_is_watched) atomic_fetch_add(&allocations, 1);
}

#else

bool test_can_measure_allocations(void) { return false; }

#endif

#if defined(HAS_SANITIZER)

// Other libraries allocate within a call under a sanitizer, so that calls are not counted.
bool test_can_count_allocations(void) { return false; }

extern int __sanitizer_install_malloc_and_free_hooks(void (*took)(const volatile void *, size_t),
                                                     void (*gives)(const volatile void *));
extern size_t __sanitizer_get_allocated_size(const volatile void *memory);

static void took(const volatile void *memory, size_t bytes) {
  if (memory) add(bytes);
}

static void gives(const volatile void *memory) {
  if (memory) held -= (intptr_t)__sanitizer_get_allocated_size(memory);
}

__attribute__((constructor)) static void install(void) {
  __sanitizer_install_malloc_and_free_hooks(took, gives);
}

#elif defined(__GLIBC__)

bool test_can_count_allocations(void) { return true; }

extern void *__libc_malloc(size_t bytes);
extern void *__libc_calloc(size_t count, size_t bytes);
extern void *__libc_realloc(void *old, size_t bytes);
extern void *__libc_memalign(size_t alignment, size_t bytes);
extern void __libc_free(void *memory);
extern size_t malloc_usable_size(void *memory);

static void *took(void *memory) {
  if (memory) add(malloc_usable_size(memory));
  return memory;
}

static void gives(void *memory) {
  if (memory) held -= (intptr_t)malloc_usable_size(memory);
}

void *malloc(size_t bytes) { return took(__libc_malloc(bytes)); }

void *calloc(size_t number, size_t bytes) { return took(__libc_calloc(number, bytes)); }

void *realloc(void *old, size_t bytes) {
  const size_t before = old ? malloc_usable_size(old) : 0;
  void *memory = __libc_realloc(old, bytes);
  if (memory || bytes == 0) held -= (intptr_t)before;
  return took(memory);
}

void *memalign(size_t alignment, size_t bytes) { return took(__libc_memalign(alignment, bytes)); }

void *aligned_alloc(size_t alignment, size_t bytes) {
  return took(__libc_memalign(alignment, bytes));
}

int posix_memalign(void **result, size_t alignment, size_t bytes) {
  void *memory = took(__libc_memalign(alignment, bytes));
  if (!memory) return ENOMEM;
  *result = memory;
  return 0;
}

void free(void *memory) {
  gives(memory);
  __libc_free(memory);
}

#else

bool test_can_count_allocations(void) { return false; }

#endif
