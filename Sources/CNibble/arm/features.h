// What the processor has beyond the base instruction set, from the system.
#ifndef NIBBLE_ARM_FEATURES_H
#define NIBBLE_ARM_FEATURES_H

#include <stdbool.h>

#if defined(__linux__)
#include <sys/auxv.h>

// Bits of the Linux interface, which older headers lack.
static inline bool nibble_arm_has_dotprod(void) { return getauxval(AT_HWCAP) >> 20 & 1; }
static inline bool nibble_arm_has_i8mm(void) { return getauxval(AT_HWCAP2) >> 13 & 1; }

#elif defined(__APPLE__)
#include <stddef.h>
#include <sys/sysctl.h>

static inline bool nibble_arm_has(const char *name) {
  int value = 0;
  size_t bytes = sizeof value;
  return sysctlbyname(name, &value, &bytes, NULL, 0) == 0 && value != 0;
}
static inline bool nibble_arm_has_dotprod(void) {
  return nibble_arm_has("hw.optional.arm.FEAT_DotProd");
}
static inline bool nibble_arm_has_i8mm(void) { return nibble_arm_has("hw.optional.arm.FEAT_I8MM"); }

#else
static inline bool nibble_arm_has_dotprod(void) { return false; }
static inline bool nibble_arm_has_i8mm(void) { return false; }
#endif

#endif
