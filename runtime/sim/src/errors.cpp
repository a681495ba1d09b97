// Options from the environment, and the errors that the checks report.
#include <cctype>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <set>
#include <sstream>

#include "internal.h"

namespace ascsim {

// ------------------------------------------------------------------------------------- options
namespace {

struct NamedCheck {
  const char* name;
  uint32_t bits;
};
constexpr NamedCheck kCheckNames[] = {
    {"bounds", kBounds}, {"align", kAlign}, {"param", kParam}, {"init", kInit},     {"race", kRace},
    {"queue", kQueue},   {"flag", kFlag},   {"chip", kChip},   {"all", kAllChecks}, {"none", 0},
};

const char* checkName(Check c) {
  for (const NamedCheck& n : kCheckNames)
    if (n.bits == c) return n.name;
  return "check";
}

[[noreturn]] void badOption(const char* name, const std::string& got, const std::string& expected) {
  std::fprintf(stderr, "[ascsim] %s=%s is not understood; expected %s\n", name, got.c_str(),
               expected.c_str());
  std::exit(2);
}

std::string env(const char* name, const char* fallback) {
  const char* v = std::getenv(name);
  return v != nullptr && *v != 0 ? v : fallback;
}

bool envFlag(const char* name, bool fallback) {
  const std::string v = env(name, fallback ? "1" : "0");
  if (v == "1" || v == "on" || v == "true") return true;
  if (v == "0" || v == "off" || v == "false") return false;
  badOption(name, v, "0 or 1");
}

uint64_t envNumber(const char* name, uint64_t fallback) {
  const std::string v = env(name, std::to_string(fallback).c_str());
  char* end = nullptr;
  const uint64_t n = std::strtoull(v.c_str(), &end, 0);
  if (end == v.c_str() || *end != 0) badOption(name, v, "a number");
  return n;
}

#ifndef ASCSIM_DEFAULT_CHIP
#define ASCSIM_DEFAULT_CHIP "ascend910b1"
#endif

Options readOptions() {
  Options o;
  const std::string chip = env("XC_SIM_CHIP", ASCSIM_DEFAULT_CHIP);
  o.chip = findChip(chip.c_str());
  if (o.chip == nullptr) badOption("XC_SIM_CHIP", chip, chipNames());
  const std::string checks = env("XC_SIM_CHECKS", "all");
  o.checks = 0;
  std::stringstream list(checks);
  for (std::string word; std::getline(list, word, ',');) {
    // "-name" takes one away from what was named before.
    const bool minus = !word.empty() && word[0] == '-';
    const std::string name = minus ? word.substr(1) : word;
    const NamedCheck* found = nullptr;
    for (const NamedCheck& n : kCheckNames)
      if (name == n.name) found = &n;
    if (found == nullptr)
      badOption("XC_SIM_CHECKS", checks,
                "a comma list of bounds, align, param, init, race, queue, flag, chip, all, none; "
                "-name takes one away");
    if (minus && o.checks == 0) o.checks = kAllChecks;
    o.checks = minus ? o.checks & ~found->bits : o.checks | found->bits;
  }
  o.seed = envNumber("XC_SIM_SEED", 0);
  o.autoSync = envFlag("XC_SIM_AUTO_SYNC", true);
  o.timing = envFlag("XC_SIM_TIMING", true);
  o.traceFile = env("XC_SIM_TRACE", "");
  o.maxErrors = envNumber("XC_SIM_MAX_ERRORS", 20);
  return o;
}

Options& mutableOptions() {
  static Options o = readOptions();
  return o;
}

}  // namespace

const Options& options() { return mutableOptions(); }

// Tests change the environment between launches of one process.
extern "C" void ascsim_reload_options() { mutableOptions() = readOptions(); }

// ------------------------------------------------------------------------------------- errors
namespace {

struct ErrorRecord {
  std::string rule, text, kernel, file, core;
  int line;
};
std::vector<ErrorRecord> g_errors;
size_t g_errorCount = 0;
std::set<std::string> g_seen;

std::string jsonString(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 32) {
      char buffer[8];
      std::snprintf(buffer, sizeof buffer, "\\u%04x", c);
      out += buffer;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void record(const char* rule, const std::string& text) {
  ErrorRecord e{rule, text, "", "", "", 0};
  std::string where;
  if (g_core != nullptr) {
    e.kernel = g_run->info.name;
    e.file = g_core->loc.file;
    e.line = g_core->loc.line;
    e.core = coreName(*g_core);
    where = e.file + ":" + std::to_string(e.line) + ": ";
  }
  // The same mistake on every core and iteration is one error: numbers are left out of the key.
  std::string key = rule + where;
  for (const char c : text)
    if (std::isdigit(static_cast<unsigned char>(c)) == 0) key += c;
  ++g_errorCount;
  if (!g_seen.insert(key).second) return;
  if (g_errors.size() >= options().maxErrors) return;
  std::fprintf(stderr, "[ascsim] %serror [%s] %s%s%s%s%s%s%s%s\n", where.c_str(), rule,
               g_core != nullptr && *g_core->api != 0 ? g_core->api : "",
               g_core != nullptr && *g_core->api != 0 ? ": " : "", text.c_str(),
               g_core != nullptr ? "\n  in kernel " : "", e.kernel.c_str(),
               g_core != nullptr ? ", core " : "", e.core.c_str(), "");
  g_errors.push_back(std::move(e));
  if (g_errors.size() == options().maxErrors)
    std::fprintf(stderr, "[ascsim] further kinds of errors are not printed (XC_SIM_MAX_ERRORS)\n");
}

std::string formatText(const char* format, va_list args) {
  char buffer[2048];
  std::vsnprintf(buffer, sizeof buffer, format, args);
  return buffer;
}

}  // namespace

size_t errorCount() { return g_errorCount; }

std::string takeErrors() {
  std::string out = "[";
  for (const ErrorRecord& e : g_errors) {
    out += (out.size() > 1 ? ", " : "");
    out += "{\"rule\": " + jsonString(e.rule) + ", \"text\": " + jsonString(e.text) +
           ", \"kernel\": " + jsonString(e.kernel) + ", \"file\": " + jsonString(e.file) +
           ", \"line\": " + std::to_string(e.line) + ", \"core\": " + jsonString(e.core) + "}";
  }
  g_errors.clear();
  g_seen.clear();
  g_errorCount = 0;
  return out + "]";
}

void reportError(const char* rule, const std::string& text) { record(rule, text); }

void report(Check rule, const char* format, ...) {
  if (!checking(rule)) return;
  va_list args;
  va_start(args, format);
  record(checkName(rule), formatText(format, args));
  va_end(args);
}

void warn(Check rule, const char* format, ...) {
  if (!checking(rule) || g_core == nullptr) return;
  va_list args;
  va_start(args, format);
  const std::string text = formatText(format, args);
  va_end(args);
  const std::string where = std::string(g_core->loc.file) + ":" + std::to_string(g_core->loc.line);
  if (!g_seen.insert("warning" + where + text).second) return;
  std::fprintf(stderr, "[ascsim] %s: warning [%s] %s: %s (kernel %s, core %s)\n", where.c_str(),
               checkName(rule), g_core->api, text.c_str(), g_run->info.name,
               coreName(*g_core).c_str());
}

void fail(Check rule, const char* format, ...) {
  va_list args;
  va_start(args, format);
  record(checkName(rule), formatText(format, args));
  va_end(args);
  throw KernelAbort{};
}

}  // namespace ascsim
