// GM transfers in flight: they share HBM and L2 as fluids. Every transfer would take `alone` cycles
// by itself; the ones that read HBM slow down together when more is asked for than HBM gives, all
// of them when L2 is short, and those of one 512-byte line past L2 among themselves. Within such a
// class all progress at one rate, so a class keeps one virtual clock and a heap of finishing times
// on it: cheap, and independent of the order in which equal times are handled.
#pragma once
#include <cstdint>
#include <limits>
#include <map>
#include <queue>
#include <vector>

namespace ascsim {

class Fluid {
 public:
  static constexpr double kNever = std::numeric_limits<double>::infinity();

  Fluid(double hbm, double l2, double sameLine) : hbm_(hbm), l2_(l2), sameLine_(sameLine) {}

  // hbm, l2: bytes asked of them; key: 0, or the line that all in the class share.
  void start(double now, int who, double alone, double hbm, double l2, bool needsHbm, uint64_t key,
             double keyBytes) {
    advance(now);
    Class& c = key != 0 ? keyed_[key] : plain_[needsHbm ? 1 : 0];
    if (c.running.empty()) c.clock = c.keyDemand = 0;
    const double rate = 1.0 / alone;
    c.running.push({c.clock + alone, next_++, who, hbm * rate, l2 * rate, keyBytes * rate});
    c.needsHbm = needsHbm;
    hbmDemand_ += hbm * rate;
    l2Demand_ += l2 * rate;
    c.keyDemand += keyBytes * rate;
    ++active_;
    rescale();
  }

  // When the next transfer completes if nothing else starts.
  double nextFinish() const {
    double t = kNever;
    each([&](const Class& c) {
      if (!c.running.empty())
        t = std::min(t, now_ + std::max(0.0, c.running.top().finish - c.clock) / c.scale);
    });
    return t;
  }

  // Completes it; returns who it was.
  int finish(double now) {
    advance(now);
    Class* best = nullptr;
    uint64_t bestKey = 0;
    double least = kNever;
    auto look = [&](Class& c, uint64_t key) {
      if (c.running.empty()) return;
      const double left = (c.running.top().finish - c.clock) / c.scale;
      if (left < least) {
        least = left;
        best = &c;
        bestKey = key;
      }
    };
    for (Class& c : plain_) look(c, 0);
    for (auto& [key, c] : keyed_) look(c, key);
    const Transfer t = best->running.top();
    best->running.pop();
    hbmDemand_ -= t.hbm;
    l2Demand_ -= t.l2;
    best->keyDemand -= t.key;
    if (--active_ == 0) hbmDemand_ = l2Demand_ = 0;  // no drift
    if (bestKey != 0 && best->running.empty()) keyed_.erase(bestKey);
    rescale();
    return t.who;
  }

  double hbmShort = 0, l2Short = 0;  // cycles in which more was asked for than there is

 private:
  struct Transfer {
    double finish;
    uint64_t order;
    int who;
    double hbm, l2, key;
    bool operator<(const Transfer& o) const {
      return finish != o.finish ? finish > o.finish : order > o.order;
    }
  };
  struct Class {
    double clock = 0, scale = 1, keyDemand = 0;
    bool needsHbm = false;
    std::priority_queue<Transfer> running;
  };

  template <class F>
  void each(F f) const {
    for (const Class& c : plain_) f(c);
    for (const auto& [key, c] : keyed_) f(c);
  }

  void advance(double now) {
    const double dt = now - now_;
    if (dt <= 0) return;
    for (Class& c : plain_) c.clock += dt * c.scale;
    for (auto& [key, c] : keyed_) c.clock += dt * c.scale;
    if (hbmDemand_ > hbm_) hbmShort += dt;
    if (l2Demand_ > l2_) l2Short += dt;
    now_ = now;
  }

  void rescale() {
    const double l2 = l2Demand_ > l2_ ? l2_ / l2Demand_ : 1;
    const double hbm = std::min(l2, hbmDemand_ > hbm_ ? hbm_ / hbmDemand_ : 1);
    plain_[0].scale = l2;
    plain_[1].scale = hbm;
    for (auto& [key, c] : keyed_) {
      const double line = c.keyDemand > sameLine_ ? sameLine_ / c.keyDemand : 1;
      c.scale = std::min(c.needsHbm ? hbm : l2, line);
    }
  }

  double hbm_, l2_, sameLine_;
  double now_ = 0, hbmDemand_ = 0, l2Demand_ = 0;
  int active_ = 0;
  uint64_t next_ = 0;
  Class plain_[2];
  std::map<uint64_t, Class> keyed_;
};

}  // namespace ascsim
