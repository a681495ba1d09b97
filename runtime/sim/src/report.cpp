// Results of the replay: kept per launch, as JSON for programs and as a table for people.
#include "report.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace ascsim {
namespace {

// Programs that launch in a loop: beyond this many, launches only count towards the total.
constexpr size_t kKept = 2000;

struct State {
  std::vector<LaunchReport> launches;
  size_t dropped = 0;
  double us = 0;
  double mhz = 1;
  std::set<std::string> unknown;
};

State& state() {
  static State* s = new State;  // outlives the exit handlers
  return *s;
}

std::string number(double v) {
  char text[40];
  std::snprintf(text, sizeof text, v == static_cast<int64_t>(v) ? "%.0f" : "%.4f", v);
  return text;
}

std::string field(const char* name, double v) { return jsonText(name) + ": " + number(v); }

std::string stallName(int s) {
  if (s == kStallCross) return "other core";
  if (s == kStallDispatch) return "dispatch";
  return pipeName(static_cast<Pipe>(s));
}

std::string kindJson(const KindReport& k) {
  std::string out = "{" + field("cores", k.cores) + ", " +
                    field("cycles", k.cores > 0 ? k.total / k.cores : 0) + ", \"busy\": {";
  std::string stalls, counts;
  bool first = true;
  for (size_t p = 0; p < kPipes; ++p) {
    if (k.instructions[p] == 0) continue;
    const std::string name = pipeName(static_cast<Pipe>(p));
    const std::string comma = first ? "" : ", ";
    first = false;
    out += comma + field(name.c_str(), k.total > 0 ? k.busy[p] / k.total : 0);
    counts += comma + field(name.c_str(), static_cast<double>(k.instructions[p]));
    stalls += comma + jsonText(name) + ": {";
    bool inner = true;
    for (size_t s = 0; s < kStalls; ++s) {
      if (k.stall[p][s] < 1) continue;
      stalls += (inner ? "" : ", ") + field(stallName(static_cast<int>(s)).c_str(),
                                            k.total > 0 ? k.stall[p][s] / k.total : 0);
      inner = false;
    }
    stalls += "}";
  }
  return out + "}, \"instructions\": {" + counts + "}, \"waits\": {" + stalls + "}}";
}

// "api at file:line" of internal.h in its parts.
void splitSite(uint32_t site, std::string& api, std::string& file, int& line) {
  const std::string text = siteText(site);
  const size_t at = text.find(" at ");
  const size_t colon = text.rfind(':');
  if (at == std::string::npos || colon == std::string::npos || colon < at) {
    api = text;
    return;
  }
  api = text.substr(0, at);
  file = text.substr(at + 4, colon - at - 4);
  line = std::atoi(text.c_str() + colon + 1);
}

std::string launchJson(const LaunchReport& r) {
  std::string out = "{\"name\": " + jsonText(r.name) + ", " + field("blocks", r.blocks) + ", " +
                    field("waves", r.waves) + ", " + field("cycles", r.cycles) + ", " +
                    field("us", r.us) + ", " + field("launch_us", r.launchUs) + ", " +
                    field("start_us", r.startUs);
  out += ", " + field("hbm_saturated", r.cycles > 0 ? r.hbmBusy / r.cycles : 0);
  out += ", " + field("l2_saturated", r.cycles > 0 ? r.l2Busy / r.cycles : 0);
  out += ", \"kinds\": {";
  bool first = true;
  for (int k = 0; k < 2; ++k) {
    if (r.kind[k].cores == 0) continue;
    out += (first ? "" : ", ") + jsonText(k == 1 ? "AIC" : "AIV") + ": " + kindJson(r.kind[k]);
    first = false;
  }
  out += "}, \"bytes\": {";
  first = true;
  for (const auto& [path, bytes] : r.bytes) {
    out += (first ? "" : ", ") +
           field((std::string(memName(path.first)) + "->" + memName(path.second)).c_str(),
                 static_cast<double>(bytes));
    first = false;
  }
  out += std::string(first ? "" : ", ") + field("L2 hit", static_cast<double>(r.l2Hit)) + ", " +
         field("HBM read", static_cast<double>(r.hbmRead)) + ", " +
         field("HBM write", static_cast<double>(r.hbmWrite)) + "}, \"hot\": [";
  first = true;
  for (const auto& [site, cycles] : r.hot) {
    std::string api, file;
    int line = 0;
    splitSite(site, api, file, line);
    out += (first ? "" : ", ");
    out += "{\"api\": " + jsonText(api) + ", \"file\": " + jsonText(file) + ", " +
           field("line", line) + ", " + field("cycles", cycles) + "}";
    first = false;
  }
  out += "]";
  if (!r.note.empty()) out += ", \"note\": " + jsonText(r.note);
  return out + "}";
}

void printTable(FILE* to) {
  const State& s = state();
  std::fprintf(
      to, "[ascsim] modelled time of %zu launch(es): %.2f us (a model: compare, do not quote)\n",
      s.launches.size() + s.dropped, s.us);
  for (const LaunchReport& r : s.launches) {
    std::fprintf(to, "  %s: %.2f us, %.0f cycles, %u blocks in %d wave(s)\n", r.name.c_str(), r.us,
                 r.cycles, r.blocks, r.waves);
    for (int k = 0; k < 2; ++k) {
      const KindReport& kind = r.kind[k];
      if (kind.cores == 0) continue;
      std::fprintf(to, "    %s busy:", k == 1 ? "AIC" : "AIV");
      for (size_t p = 0; p < kPipes; ++p)
        if (kind.instructions[p] != 0)
          std::fprintf(to, " %s %.0f%%", pipeName(static_cast<Pipe>(p)),
                       kind.total > 0 ? 100 * kind.busy[p] / kind.total : 0.0);
      std::fprintf(to, "\n");
    }
    std::fprintf(to, "    bytes:");
    for (const auto& [path, bytes] : r.bytes)
      std::fprintf(to, " %s->%s %.3f MB", memName(path.first), memName(path.second),
                   static_cast<double>(bytes) / 1e6);
    std::fprintf(to, "; L2 hits %.3f MB, HBM read %.3f MB, written %.3f MB\n",
                 static_cast<double>(r.l2Hit) / 1e6, static_cast<double>(r.hbmRead) / 1e6,
                 static_cast<double>(r.hbmWrite) / 1e6);
    double all = 0;
    for (const auto& [site, cycles] : r.hot) all += cycles;
    for (size_t i = 0; i < r.hot.size() && i < 8; ++i)
      std::fprintf(to, "    %5.1f%%  %s\n", 100 * r.hot[i].second / all,
                   siteText(r.hot[i].first).c_str());
    if (!r.note.empty()) std::fprintf(to, "    note: %s\n", r.note.c_str());
  }
  for (const std::string& u : s.unknown)
    std::fprintf(to, "  no cost known for \"%s\": its pipe's default was taken\n", u.c_str());
}

void atExit() {
  const char* wanted = std::getenv("XC_SIM_REPORT");
  if (wanted == nullptr || *wanted == 0 || std::strcmp(wanted, "0") == 0) return;
  if (std::strcmp(wanted, "1") == 0) {
    printTable(stderr);
    return;
  }
  const std::string temporary = std::string(wanted) + ".tmp";
  FILE* f = std::fopen(temporary.c_str(), "w");
  const std::string json = simReportJson() + "\n";
  const bool ok = f != nullptr && std::fwrite(json.data(), 1, json.size(), f) == json.size();
  if (f == nullptr || std::fclose(f) != 0 || !ok || std::rename(temporary.c_str(), wanted) != 0)
    std::fprintf(stderr, "[ascsim] XC_SIM_REPORT: cannot write %s\n", wanted);
}

}  // namespace

std::string jsonText(const std::string& s) {
  std::string out = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 32) {
      char text[8];
      std::snprintf(text, sizeof text, "\\u%04x", c);
      out += text;
    } else {
      out += c;
    }
  }
  return out + "\"";
}

double reportedMicroseconds() { return state().us; }

void unknownMnemonic(const char* name) { state().unknown.insert(name); }

void addReport(LaunchReport&& r, double mhz) {
  static const bool registered = std::atexit(atExit) == 0;
  (void)registered;
  State& s = state();
  s.mhz = mhz;
  r.startUs = s.us;
  s.us += r.us;
  if (s.launches.size() < kKept)
    s.launches.push_back(std::move(r));
  else
    ++s.dropped;
}

std::string simReportJson() {
  const State& s = state();
  std::string out = "{\"chip\": " + jsonText(options().chip->name) + ", " + field("mhz", s.mhz) +
                    ", " + field("us", s.us) + ", " +
                    field("dropped", static_cast<double>(s.dropped)) + ", \"unknown\": [";
  for (const std::string& u : s.unknown)
    out += (&u == &*s.unknown.begin() ? "" : ", ") + jsonText(u);
  out += "], \"launches\": [";
  for (size_t i = 0; i < s.launches.size(); ++i)
    out += (i == 0 ? "\n  " : ",\n  ") + launchJson(s.launches[i]);
  return out + "]}";
}

extern "C" const char* ascsim_report() {
  static std::string text;
  text = simReportJson();
  return text.c_str();
}

// Begins a new account; the simulated time starts at zero again.
extern "C" void ascsim_reset_report() {
  State& s = state();
  s.launches.clear();
  s.dropped = 0;
  s.us = 0;
  s.unknown.clear();
}

}  // namespace ascsim
