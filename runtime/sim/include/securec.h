// Bounds-checked copies, as host programs use them: 0, or an error code when it does not fit.
#pragma once
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#ifndef EOK
#define EOK 0
#endif

inline int memcpy_s(void* to, size_t room, const void* from, size_t count) {
  if (to == nullptr || from == nullptr) return EINVAL;
  if (count > room) return ERANGE;
  std::memcpy(to, from, count);
  return EOK;
}

inline int memmove_s(void* to, size_t room, const void* from, size_t count) {
  if (to == nullptr || from == nullptr) return EINVAL;
  if (count > room) return ERANGE;
  std::memmove(to, from, count);
  return EOK;
}

inline int memset_s(void* to, size_t room, int value, size_t count) {
  if (to == nullptr) return EINVAL;
  if (count > room) return ERANGE;
  std::memset(to, value, count);
  return EOK;
}

inline int strcpy_s(char* to, size_t room, const char* from) {
  return from == nullptr ? EINVAL : memcpy_s(to, room, from, std::strlen(from) + 1);
}

inline int strncpy_s(char* to, size_t room, const char* from, size_t count) {
  if (to == nullptr || from == nullptr) return EINVAL;
  const size_t n = strnlen(from, count);
  if (n >= room) return ERANGE;
  std::memcpy(to, from, n);
  to[n] = '\0';
  return EOK;
}

[[gnu::format(printf, 3, 4)]] inline int sprintf_s(char* to, size_t room, const char* format, ...) {
  if (to == nullptr || format == nullptr) return -1;
  va_list args;
  va_start(args, format);
  const int n = std::vsnprintf(to, room, format, args);
  va_end(args);
  return n >= 0 && static_cast<size_t>(n) < room ? n : -1;
}
