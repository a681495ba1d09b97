// Trace in the JSON format that Perfetto and chrome://tracing read: a process per core, a thread
// per pipe, a slice per instruction. XC_SIM_TRACE=file; written at exit under a temporary name.
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unordered_set>
#include <vector>

#include "report.h"

namespace ascsim {
namespace {

// A slice is about 150 bytes of JSON; browsers take some hundred MB.
constexpr size_t kMaxSlices = 400000;

struct Launch {
  std::string name;
  double startUs, us, mhz;
  std::vector<std::string> cores;
};

struct State {
  std::vector<Slice> slices;
  std::vector<Launch> launches;
  size_t dropped = 0;
  std::unordered_set<std::string> names;
  std::string file;
  double us = 0;
};

State& state() {
  static State* s = new State;
  return *s;
}

void writeAll(FILE* f) {
  const State& s = state();
  std::fprintf(f, "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n");
  std::fprintf(f,
               "{\"ph\": \"M\", \"pid\": 0, \"name\": \"process_name\", \"args\": {\"name\": "
               "\"launches\"}}");
  // Names of the processes: those of the launch with the most cores.
  size_t widest = 0;
  for (size_t i = 0; i < s.launches.size(); ++i)
    if (s.launches[i].cores.size() > s.launches[widest].cores.size()) widest = i;
  if (!s.launches.empty())
    for (size_t c = 0; c < s.launches[widest].cores.size(); ++c) {
      std::fprintf(
          f,
          ",\n{\"ph\": \"M\", \"pid\": %zu, \"name\": \"process_name\", \"args\": {\"name\": %s}}",
          c + 1, jsonText(s.launches[widest].cores[c]).c_str());
      for (int p = 0; p < kPipes; ++p)
        std::fprintf(f,
                     ",\n{\"ph\": \"M\", \"pid\": %zu, \"tid\": %d, \"name\": \"thread_name\", "
                     "\"args\": {\"name\": \"%s\"}}",
                     c + 1, p, pipeName(static_cast<Pipe>(p)));
    }
  for (const Launch& l : s.launches)
    std::fprintf(
        f, ",\n{\"ph\": \"X\", \"pid\": 0, \"tid\": 0, \"name\": %s, \"ts\": %.4f, \"dur\": %.4f}",
        jsonText(l.name).c_str(), l.startUs, l.us);
  for (const Slice& x : s.slices) {
    if (x.launch >= s.launches.size()) continue;  // the replay did not finish
    const Launch& l = s.launches[x.launch];
    std::fprintf(f,
                 ",\n{\"ph\": \"X\", \"pid\": %d, \"tid\": %d, \"name\": \"%s\", \"cat\": \"%s\", "
                 "\"ts\": %.4f, \"dur\": %.4f",
                 x.core + 1, x.pipe, x.name, x.waiting ? "wait" : "run",
                 l.startUs + x.start / l.mhz, x.length / l.mhz);
    std::fprintf(f, ", \"args\": {\"at\": %s", jsonText(siteText(x.site)).c_str());
    if (x.bytes != 0)
      std::fprintf(f, ", \"bytes\": %llu", static_cast<unsigned long long>(x.bytes));
    std::fprintf(f, "}}");
  }
  std::fprintf(f, "\n]");
  if (s.dropped != 0)
    std::fprintf(f,
                 ",\n\"metadata\": {\"note\": \"%zu more instructions are left out: the trace "
                 "keeps the first %zu\"}",
                 s.dropped, kMaxSlices);
  std::fprintf(f, "}\n");
}

}  // namespace

extern "C" void ascsim_write_trace() {
  const State& s = state();
  if (s.file.empty()) return;
  const std::string temporary = s.file + ".tmp";
  FILE* f = std::fopen(temporary.c_str(), "w");
  if (f != nullptr) writeAll(f);
  if (f == nullptr || std::fclose(f) != 0 || std::rename(temporary.c_str(), s.file.c_str()) != 0)
    std::fprintf(stderr, "[ascsim] XC_SIM_TRACE: cannot write %s\n", s.file.c_str());
}

bool tracing() { return !options().traceFile.empty(); }

uint32_t traceIndex() { return static_cast<uint32_t>(state().launches.size()); }

void traceSlice(const Slice& slice) {
  State& s = state();
  if (s.slices.size() >= kMaxSlices) {
    ++s.dropped;
    return;
  }
  s.slices.push_back(slice);
  // Mnemonics may lie in a library of kernels that is unloaded before the trace is written.
  s.slices.back().name = s.names.emplace(slice.name).first->c_str();
}

void traceLaunch(const LaunchReport& r, const std::vector<std::string>& coreNames, double mhz) {
  static const bool registered = std::atexit(ascsim_write_trace) == 0;
  (void)registered;
  State& s = state();
  s.file = options().traceFile;
  s.launches.push_back({r.name, s.us, r.us, mhz, coreNames});
  s.us += r.us;
}

}  // namespace ascsim
