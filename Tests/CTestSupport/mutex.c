// Shows Swift's Mutex to the thread sanitizer.
//
// Locking a mutex that nobody else wants is inlined, so the sanitizer sees it. The slow paths are
// in libswiftSynchronization, which is not instrumented, and there the kernel hands the lock on
// (FUTEX_LOCK_PI): all that the mutex guards would seem to race. These functions take their place
// and say what happens.
#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && defined(__linux__)
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>

#define SELF __attribute__((swift_context)) void *
#define LOCK "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define TRY_LOCK "$s15Synchronization12_MutexHandleV12_tryLockSlowSbyF"
#define UNLOCK "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"

extern void __tsan_acquire(void *address);
extern void __tsan_release(void *address);

typedef __attribute__((swiftcall)) void lock_function(uint32_t thread, SELF self);
typedef __attribute__((swiftcall)) bool try_lock_function(SELF self);
typedef __attribute__((swiftcall)) void unlock_function(SELF self);

lock_function test_lock __asm__(LOCK);
try_lock_function test_try_lock __asm__(TRY_LOCK);
unlock_function test_unlock __asm__(UNLOCK);

__attribute__((swiftcall)) void test_lock(uint32_t thread, SELF self) {
  ((lock_function *)dlsym(RTLD_NEXT, LOCK))(thread, self);
  __tsan_acquire(self);
}

__attribute__((swiftcall)) bool test_try_lock(SELF self) {
  const bool is_locked = ((try_lock_function *)dlsym(RTLD_NEXT, TRY_LOCK))(self);
  if (is_locked) __tsan_acquire(self);
  return is_locked;
}

__attribute__((swiftcall)) void test_unlock(SELF self) {
  __tsan_release(self);
  ((unlock_function *)dlsym(RTLD_NEXT, UNLOCK))(self);
}

#endif
#endif
