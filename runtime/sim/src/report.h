// What a replay found out, kept for the process.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "internal.h"

namespace ascsim {

// Why a pipe that had work did not run: one entry per pipe that it waited for, and these.
constexpr int kStallCross = kPipes;         // a flag of another core
constexpr int kStallDispatch = kPipes + 1;  // nothing dispatched yet
constexpr int kStalls = kPipes + 2;

struct KindReport {  // of the AIC or the AIV
  int cores = 0;     // streams
  double total = 0;  // core x cycles from start to finish
  std::array<double, kPipes> busy{};
  std::array<std::array<double, kStalls>, kPipes> stall{};
  std::array<uint64_t, kPipes> instructions{};
};

struct LaunchReport {
  std::string name;
  uint32_t blocks = 0;
  int waves = 1;
  double cycles = 0, us = 0, launchUs = 0, startUs = 0;
  double hbmBusy = 0, l2Busy = 0;  // cycles in which the demand exceeded what there is
  KindReport kind[2];              // AIV, AIC
  std::map<std::pair<Mem, Mem>, uint64_t> bytes;
  uint64_t l2Hit = 0, hbmRead = 0, hbmWrite = 0;
  std::vector<std::pair<uint32_t, double>> hot;  // site, cycles
  std::string note;
};

void addReport(LaunchReport&& r, double mhz);
void unknownMnemonic(const char* name);
double reportedMicroseconds();

// Perfetto: slices of the launch being replayed.
struct Slice {
  uint32_t launch;
  uint16_t core;  // place in the launch
  uint8_t pipe;
  bool waiting;
  uint32_t site;
  uint64_t bytes;
  double start, length;  // cycles
  const char* name;
};
bool tracing();
void traceLaunch(const LaunchReport& r, const std::vector<std::string>& coreNames, double mhz);
void traceSlice(const Slice& s);
uint32_t traceIndex();  // of the launch being replayed
std::string jsonText(const std::string& s);

}  // namespace ascsim
