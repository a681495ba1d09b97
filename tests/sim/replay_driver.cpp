// Reads event streams from standard input, replays them, and prints the report. One word per field:
//   launch NAME KIND BLOCKS            KIND: aiv, aic, mix11, mix12
//   core N                             the events that follow are of core N of the launch
//   x PIPE MNEMONIC [key=value ...]    an instruction
//   set|wait PIPE TOKEN, barrier PIPE|all
//   times N ... end                    repeats the lines in between
//   run, cold                          replays the launch; empties L2
#include <cstdio>
#include <iostream>
#include <map>
#include <sstream>

#include "internal.h"

using namespace ascsim;
extern "C" void ascsim_cold_l2();

namespace {

Pipe pipeOf(const std::string& s) {
  for (int p = 0; p <= kPipes; ++p)
    if (s == pipeName(static_cast<Pipe>(p)) || (s == "all" && p == kPipes))
      return static_cast<Pipe>(p);
  std::fprintf(stderr, "no pipe %s\n", s.c_str());
  std::exit(2);
}

Mem memOfName(const std::string& s) {
  for (int m = 0; m < kMems; ++m)
    if (s == memName(static_cast<Mem>(m))) return static_cast<Mem>(m);
  std::fprintf(stderr, "no memory %s\n", s.c_str());
  std::exit(2);
}

VecOperand operandOf(const std::string& s) {  // address/blockStride/repeatStride
  VecOperand o;
  unsigned address = 0, block = 1, repeat = 8;
  std::sscanf(s.c_str(), "%i/%u/%u", reinterpret_cast<int*>(&address), &block, &repeat);
  o.address = address;
  o.blockStride = static_cast<uint16_t>(block);
  o.repeatStride = static_cast<uint16_t>(repeat);
  return o;
}

struct Driver {
  std::unique_ptr<KernelRun> run;
  Core* at = nullptr;
  std::map<std::string, std::string> names;  // mnemonics must outlive the events

  void launch(std::istream& in) {
    std::string name, kind;
    uint32_t blocks = 0;
    in >> name >> kind >> blocks;
    const KernelKind k = kind == "aic"     ? KernelKind::AicOnly
                         : kind == "mix11" ? KernelKind::Mix11
                         : kind == "mix12" ? KernelKind::Mix12
                                           : KernelKind::AivOnly;
    const char* kept = names.emplace(name, name).first->second.c_str();
    run = std::make_unique<KernelRun>();
    run->info = {kept, k, "", 0};
    run->launch = {blocks, k, 0, kept};
    const int vectors = k == KernelKind::AicOnly ? 0 : k == KernelKind::Mix12 ? 2 : 1;
    for (uint32_t b = 0; b < blocks; ++b)
      for (int v = k == KernelKind::AivOnly ? 0 : -1; v < vectors; ++v) {
        auto c = std::make_unique<Core>();
        c->run = run.get();
        c->index = static_cast<int>(run->cores.size());
        c->aic = v < 0;
        c->block = static_cast<int>(b);
        c->subBlock = v < 0 ? 0 : v;
        run->cores.push_back(std::move(c));
      }
    at = run->cores[0].get();
  }

  void exec(std::istream& in, TraceEvent e) {
    std::string word;
    in >> word;
    e.mnemonic = names.emplace(word, word).first->second.c_str();
    while (in >> word) {
      const size_t eq = word.find('=');
      const std::string key = word.substr(0, eq), value = word.substr(eq + 1);
      const uint64_t n = std::strtoull(value.c_str(), nullptr, 0);
      if (key == "src")
        e.src = memOfName(value);
      else if (key == "dst")
        e.dst = memOfName(value);
      else if (key == "bytes")
        e.bytes = n;
      else if (key == "bursts")
        e.bursts = static_cast<uint32_t>(n);
      else if (key == "gm")
        e.gmAddress = n;
      else if (key == "span")
        e.gmSpan = n;
      else if (key == "repeats")
        e.repeats = static_cast<uint32_t>(n);
      else if (key == "cycles")
        e.cycles = std::strtof(value.c_str(), nullptr);
      else if (key == "dependent")
        e.dependent = n != 0;
      else if (key == "atomic")
        e.atomic = n != 0;
      else if (key == "hint")
        e.l2Hint = static_cast<uint8_t>(n);
      else if (key == "dtype")
        e.dtype = value == "half" ? DType::F16 : DType::F32;
      else if (key == "vdst")
        e.vdst = operandOf(value);
      else if (key == "vsrc0")
        e.vsrc0 = operandOf(value);
      else if (key == "vsrc1")
        e.vsrc1 = operandOf(value);
      else
        std::fprintf(stderr, "no field %s\n", key.c_str());
    }
    at->trace.push_back(e);
  }

  void line(const std::string& text) {
    std::istringstream in(text);
    std::string word, pipe;
    if (!(in >> word)) return;
    TraceEvent e;
    if (word == "launch") {
      launch(in);
    } else if (word == "core") {
      size_t n = 0;
      in >> n;
      at = run->cores.at(n).get();
    } else if (word == "run") {
      g_run = run.get();
      replayLaunch(*run);
      g_run = nullptr;
    } else if (word == "cold") {
      ascsim_cold_l2();
    } else {
      in >> pipe;
      e.pipe = pipeOf(pipe);
      if (word == "x") return exec(in, e);
      e.kind = word == "set" ? Ev::Set : word == "wait" ? Ev::Wait : Ev::Barrier;
      in >> e.token;
      at->trace.push_back(e);
    }
  }
};

}  // namespace

int main() {
  Driver d;
  std::vector<std::string> block;
  int times = 0;
  for (std::string text; std::getline(std::cin, text);) {
    if (text.rfind("times ", 0) == 0) {
      times = std::atoi(text.c_str() + 6);
      block.clear();
    } else if (text == "end") {
      for (int i = 0; i < times; ++i)
        for (const std::string& t : block) d.line(t);
      times = 0;
    } else if (times != 0) {
      block.push_back(text);
    } else {
      d.line(text);
    }
  }
  std::puts(simReportJson().c_str());
}
